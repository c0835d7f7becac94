//! Servers compare their States: one that differs from the others must not answer anybody.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::machine::StateMachine;
use crate::raft::{Divergence, Member, Node};

/// Between two comparisons: a few small messages each.
const EVERY: Duration = Duration::from_secs(30);

/// Compares this server's State with the others' until `stop`; tells why when it must not be served
/// any more.
pub(super) async fn run(
    node: Node<StateMachine>,
    tell: watch::Sender<Option<String>>,
    stop: CancellationToken,
) {
    let ask = || {
        let node = node.clone();
        async move { node.compare_each().await }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        why = until_wrong(ask, EVERY) => {
            tracing::error!(event = "state differs", why);
            tell.send_replace(Some(why));
            // The sender must live until the process has heard it.
            stop.cancelled().await;
        }
    }
}

type Compared = Vec<(Member, Option<Divergence>)>;

async fn until_wrong<F: Future<Output = Compared>>(ask: impl Fn() -> F, every: Duration) -> String {
    loop {
        tokio::time::sleep(every).await;
        let compared = ask().await;
        for (peer, found) in &compared {
            if let Some(found) = found {
                tracing::error!(event = "state differs", peer = peer.address, %found);
            }
        }
        if let Some(why) = judge(&compared) {
            return why;
        }
    }
}

/// Why this server's State must not be served: it is not that of more than half of the servers
/// compared, itself among them. With two that differ nobody knows who is right, so neither goes on.
fn judge(compared: &Compared) -> Option<String> {
    let differ: Vec<&Divergence> =
        compared.iter().filter_map(|(_, found)| found.as_ref()).collect();
    let same = compared.len() - differ.len() + 1;
    let first = differ.first()?;
    if same > differ.len() {
        return None;
    }
    Some(format!(
        "{first}; {} of {} servers compared differ from this one. It stops serving so that nobody acts on a wrong \
         state. Start it again: it reads its log anew. If it stops again, remove its folder and let it join as a new \
         server",
        differ.len(),
        compared.len() + 1
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::raft::Digest;

    fn peer(id: u64, digest: u64) -> (Member, Option<Divergence>) {
        let peer = Member { id, address: format!("10.0.0.{id}:6443"), voter: true };
        let [ours, theirs] = [7, digest].map(|digest| Digest { index: 16, digest });
        let found = (digest != 7).then(|| Divergence { peer: peer.clone(), ours, theirs });
        (peer, found)
    }

    #[test]
    fn only_a_server_without_a_majority_behind_it_stops() {
        assert_eq!(judge(&vec![]), None);
        assert_eq!(judge(&vec![peer(2, 7), peer(3, 7)]), None);
        assert_eq!(judge(&vec![peer(2, 7), peer(3, 9)]), None, "the other one is wrong");
        let why = judge(&vec![peer(2, 9), peer(3, 9)]).unwrap();
        assert!(why.contains("10.0.0.2:6443 after entry 16"), "{why}");
        assert!(why.contains("2 of 3 servers"), "{why}");
        assert!(judge(&vec![peer(2, 9)]).is_some(), "of two that differ none goes on");
    }

    #[tokio::test]
    async fn it_goes_on_until_its_state_differs() {
        let asked = AtomicU32::new(0);
        let ask = || {
            std::future::ready(match asked.fetch_add(1, Ordering::SeqCst) {
                0 => vec![],
                1 => vec![peer(2, 7), peer(3, 9)],
                _ => vec![peer(2, 9), peer(3, 9)],
            })
        };
        let why = until_wrong(ask, Duration::ZERO).await;
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        assert!(why.contains("stops serving"), "{why}");
    }
}
