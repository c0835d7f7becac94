//! What keeps a container from running, in words that stay the same while it stays so.
//!
//! A container that crashes again and again waits, runs for a moment and ends, in turn, and its
//! messages count seconds. Whoever writes that down for people (a commit's status, the status
//! branch) wants one sentence for all of it.

use k8s_openapi::api::core::v1::ContainerStatus;

/// From so many restarts on a container that does not become ready is in a loop; one restart may
/// have been bad luck.
const LOOP_RESTARTS_MIN: i32 = 2;

/// Why a container does not do its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// One word of Kubernetes (`CrashLoopBackOff`, `ImagePullBackOff`), or `Restarting`.
    pub reason: String,
    /// The sentence behind the word; may be empty.
    pub message: String,
}

/// What ails a container; `None` when it runs, has done its work, or simply has not had the time
/// yet.
pub fn ailment(container: &ContainerStatus) -> Option<Ailment> {
    let state = container.state.clone().unwrap_or_default();
    let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref());
    if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        let message = waiting.message.unwrap_or_default();
        return match reason.as_str() {
            "" | "ContainerCreating" | "PodInitializing" => {
                last.map(|t| crashed(container, t.exit_code))
            }
            "CrashLoopBackOff" => Some(match last {
                Some(ended) => crashed(container, ended.exit_code),
                None => Ailment { reason, message: steady(&message) },
            }),
            "ErrImagePull" | "ImagePullBackOff" => Some(Ailment {
                reason: "ImagePullBackOff".to_owned(),
                message: steady(cause_of_pull(&message)),
            }),
            _ => Some(Ailment { reason, message: steady(&message) }),
        };
    }
    if let Some(ended) = state.terminated {
        if ended.exit_code == 0 {
            return None;
        }
        let said = ended.message.filter(|m| !m.is_empty()).map(|m| format!(": {}", steady(&m)));
        let mut found = crashed(container, ended.exit_code);
        found.message += &said.unwrap_or_default();
        return Some(found);
    }
    let unready = state.running.is_some() && !container.ready;
    last.filter(|ended| unready && ended.exit_code != 0).map(|t| crashed(container, t.exit_code))
}

fn crashed(container: &ContainerStatus, exit_code: i32) -> Ailment {
    let reason = match container.restart_count {
        count if count >= LOOP_RESTARTS_MIN => "CrashLoopBackOff",
        _ => "Restarting",
    };
    Ailment { reason: reason.to_owned(), message: format!("exit code {exit_code}") }
}

/// What the registry said: the same with and without the words about the back-off.
fn cause_of_pull(message: &str) -> &str {
    message.split_once(": ErrImagePull: ").map_or(message, |(_, cause)| cause)
}

/// A text without the port that a try happened to be sent from
/// (`read udp 127.0.0.1:53071->127.0.0.1:53` becomes `read udp 127.0.0.1:53`).
pub fn steady(text: &str) -> String {
    let word = |word: &str| match word.split_once("->") {
        Some((from, to)) if from.rsplit_once(':').is_some_and(|(_, port)| is_port(port)) => {
            to.to_owned()
        }
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: serde_json::Value) -> Option<(String, String)> {
        let mut whole = serde_json::json!({
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        });
        let (whole_map, more) = (whole.as_object_mut().unwrap(), status.as_object().unwrap());
        whole_map.extend(more.clone());
        let found = ailment(&serde_json::from_value(whole).unwrap());
        found.map(|a| (a.reason, a.message))
    }

    fn said(reason: &str, message: &str) -> Option<(String, String)> {
        Some((reason.to_owned(), message.to_owned()))
    }

    #[test]
    fn a_crash_loop_reads_the_same_at_every_moment() {
        let ended = serde_json::json!({"terminated": {"exitCode": 101, "reason": "Error"}});
        let running = serde_json::json!({"running": {}});
        let wait = |seconds: u64| {
            let message = format!("back-off {seconds}s restarting failed container=web");
            serde_json::json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}})
        };
        let looping = said("CrashLoopBackOff", "exit code 101");
        for state in [wait(20), wait(40), running.clone(), ended.clone()] {
            let status = serde_json::json!({"state": state, "lastState": ended, "restartCount": 3});
            assert_eq!(of(status), looping);
        }
        let first = serde_json::json!({"state": ended});
        assert_eq!(of(first), said("Restarting", "exit code 101"));
        let well = serde_json::json!({"state": running, "lastState": ended, "ready": true});
        assert_eq!(of(well), None);
        assert_eq!(of(serde_json::json!({"state": running})), None);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_reads_the_same_at_every_try() {
        let pull = |reason: &str, message: &str| {
            let waiting = serde_json::json!({"reason": reason, "message": message});
            of(serde_json::json!({"state": {"waiting": waiting}}))
        };
        let first = pull("ErrImagePull", "Get x: dial: read udp 127.0.0.1:55407->127.0.0.1:53: no");
        let later = pull(
            "ImagePullBackOff",
            "Back-off pulling image \"a\": ErrImagePull: Get x: dial: read udp 127.0.0.1:7->127.0.0.1:53: no",
        );
        assert_eq!(first, said("ImagePullBackOff", "Get x: dial: read udp 127.0.0.1:53: no"));
        assert_eq!(first, later);
        assert_eq!(steady("a->b x:y->z [::1]:80->c"), "a->b x:y->z c");
    }
}
