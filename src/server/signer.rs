//! Signs the certificates that were asked for through the API and approved.
//!
//! Every server has the CA's key; the one that leads signs. What is signed is decided in
//! `plan::signing`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Store, clock};
use crate::{
    plan::signing::{self, Grant, Order},
    state::{Command, View},
    trust::{self, Ca, Terms, Usage},
};

/// When a certificate is tried again that could not be written down.
const RETRY_SECONDS: u64 = 2;

/// Signs what is due whenever this server leads, until `stop`.
pub(super) async fn run(store: Store, ca: Ca, stop: CancellationToken) {
    let (mut views, mut roles) = (store.views(), store.roles());
    loop {
        let view = views.borrow_and_update().clone();
        let leads = roles.borrow_and_update().is_leader;
        let written = !leads || answer_all(&store, &ca, &view).await;
        drop(view);
        let retry = tokio::time::sleep(Duration::from_secs(RETRY_SECONDS));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            changed = roles.changed() => if changed.is_err() { return },
            () = retry, if !written => {}
        }
    }
}

/// Answers every request that is due; false when one has to be tried again.
async fn answer_all(store: &Store, ca: &Ca, view: &View) -> bool {
    let mut written = true;
    for order in &signing::due(view) {
        written &= write(store, ca, order).await;
    }
    written
}

/// Answers one request; false when it has to be tried again.
async fn write(store: &Store, ca: &Ca, order: &Order<'_>) -> bool {
    let name = &order.object.key().name;
    let done = store.propose(answer(ca, order)).await;
    match &done {
        Ok(_) => tracing::info!(event = "certificate request answered", %name),
        Err(error) => tracing::warn!(event = "certificate request not answered", %name, %error),
    }
    done.is_ok()
}

/// What is written down about one request.
fn answer(ca: &Ca, order: &Order<'_>) -> Vec<Command> {
    let now = clock::now();
    let signed = match &order.verdict {
        Ok(grant) => sign(ca, grant).map_err(|error| error.to_string()),
        Err(why) => Err(why.clone()),
    };
    match signed {
        Ok(certificate) => signing::signed(order, &certificate),
        Err(why) => signing::failed(order, &why, now),
    }
}

fn sign(ca: &Ca, grant: &Grant) -> Result<String, trust::Error> {
    let terms = Terms {
        common_name: grant.common_name.clone(),
        organizations: grant.organizations.clone(),
        names: grant.names.clone(),
        usages: grant.usages.iter().filter_map(|usage| Usage::named(usage)).collect(),
        seconds: grant.seconds,
    };
    ca.certify(&grant.request, &terms, clock::now())
}
