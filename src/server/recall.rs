//! What the status branch remembers of the cluster before this one: `git clone` is the backup. A
//! cluster made anew from it gives Services the addresses that they had, and awaits the nodes that
//! there were.

use std::time::Duration;

use crate::{
    git::{self, Limits, Mirror, STATUS_BRANCH},
    plan::recall::Recalled,
    report,
};

/// How long fetching the branch may take.
const FETCH_SECONDS_MAX: u64 = 60;

/// Reads what the status branch of the remote remembers; nothing where it has none.
pub(super) fn recalled(mirror: &Mirror) -> git::Result<Recalled> {
    let mut recalled = Recalled::default();
    let within = Duration::from_secs(FETCH_SECONDS_MAX);
    let Some(tip) = mirror.branch(STATUS_BRANCH, within)? else { return Ok(recalled) };
    let reader = mirror.reader()?;
    for file in reader.files(&tip, "", &report::is_remembered, &Limits::default())?.files {
        recall(&mut recalled, &file.path, &reader.read(file.blob)?);
    }
    Ok(recalled)
}

/// Remembers what one of those files says.
pub(crate) fn recall(recalled: &mut Recalled, path: &str, bytes: &[u8]) {
    if path.starts_with("nodes/") {
        // Of a node that was lost before its cluster was, nothing comes back.
        if let Some(node) = report::NodeFile::read(bytes).filter(|node| node.summary.ready) {
            recalled.put_node(&node.summary.name, &node.pod_range);
        }
    } else if let Some(object) = report::ObjectFile::read(bytes)
        && let (Some(service), "Service") = (&object.service, object.kind.as_str())
    {
        let (namespace, name) = (&object.namespace, &object.name);
        recalled.put_service(namespace, name, &service.cluster_ip, &service.ports);
    }
}
