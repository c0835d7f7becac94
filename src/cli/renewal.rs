//! An agent's certificate is renewed in time: at its start, and looked at daily.

use std::{path::Path, time::Duration};

use super::{Error, joining::Door, machine};
use crate::{
    agent::Agent,
    config::AgentConfig,
    server::{JoinAnswer, PKI, RenewRequest},
    trust::{self, Issued, KeyFiles, Request, Validity},
};

/// The longest time between two looks at the certificate.
const LOOK_SECONDS_MAX: u64 = 86_400;

/// When a renewal that failed is tried again: there are weeks left, and all nodes may come at once.
const RETRY_SECONDS: u64 = 600;

/// Renews the certificate of the agent in `dir` whenever it is due; never ends.
pub(super) async fn keep(dir: &Path, config: &AgentConfig, agent: &Agent) {
    let keys = KeyFiles::new(dir.join(PKI));
    loop {
        let pause = match due_in(&keys) {
            Ok(due) if !due.is_zero() => due.min(Duration::from_secs(LOOK_SECONDS_MAX)),
            Ok(_) => match renew(&keys, config, agent).await {
                Ok(()) => continue,
                Err(error) => late(&keys, &error),
            },
            Err(error) => late(&keys, &error),
        };
        tokio::time::sleep(pause).await;
    }
}

fn late(keys: &KeyFiles, error: &Error) -> Duration {
    let until = keys.issued("node").and_then(|issued| Validity::of(&issued.certificate));
    let left = until.map(|v| v.until.since(machine::now()).as_secs() / 86_400).unwrap_or_default();
    tracing::warn!(
        event = "certificate not renewed", %error, days_left = left,
        hint = "with none left: remove the folder's pki and `mainstay agent join` again"
    );
    Duration::from_secs(RETRY_SECONDS)
}

fn due_in(keys: &KeyFiles) -> Result<Duration, Error> {
    let ours = |e: trust::Error| Error::ours(e.to_string());
    let validity = Validity::of(&keys.issued("node").map_err(ours)?.certificate).map_err(ours)?;
    Ok(validity.renew_at().since(machine::now()))
}

async fn renew(keys: &KeyFiles, config: &AgentConfig, agent: &Agent) -> Result<(), Error> {
    let ours = |e: trust::Error| Error::ours(e.to_string());
    let (ca, old) = (keys.ca_certificate().map_err(ours)?, keys.issued("node").map_err(ours)?);
    let tls = trust::client(&ca, &old, b"http/1.1").map_err(ours)?;
    let request = Request::new().map_err(ours)?;
    let body = RenewRequest { csr: request.csr.clone(), names: Vec::new() };
    let mut last = Error::yours("agent.yaml names no server");
    for address in &config.servers {
        let door = Door { address: address.clone(), tls: tls.clone() };
        match door.post::<JoinAnswer>("/mainstay/v1/renew", &body).await {
            Ok(answer) => {
                let issued = Issued { certificate: answer.certificate, key: request.key };
                keys.replace_issued("node", &issued).map_err(ours)?;
                agent.reload_keys().map_err(ours)?;
                tracing::info!(event = "certificate renewed", server = address);
                return Ok(());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
