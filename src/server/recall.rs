//! What the status branch remembers of the cluster before this one: `git clone` is the backup, and
//! a cluster made anew from it gives Services the addresses that they had.

use std::time::Duration;

use crate::{
    git::{self, Limits, Mirror, STATUS_BRANCH},
    plan::recall::Recalled,
    report,
};

/// How long fetching the branch may take.
const FETCH_SECONDS_MAX: u64 = 60;

/// Reads the addresses of Services from the status branch of the remote; nothing where it has none.
pub(super) fn recalled(mirror: &Mirror) -> git::Result<Recalled> {
    let mut recalled = Recalled::default();
    let within = Duration::from_secs(FETCH_SECONDS_MAX);
    let Some(tip) = mirror.branch(STATUS_BRANCH, within)? else { return Ok(recalled) };
    let reader = mirror.reader()?;
    let is_service = |path: &str| {
        let mut parts = path.split('/');
        parts.next() == Some("objects") && parts.nth(1).is_some_and(|n| n.starts_with("Service-"))
    };
    for file in reader.files(&tip, "", &is_service, &Limits::default())?.files {
        let bytes = reader.read(file.blob)?;
        let Some(object) = report::ObjectFile::read(&bytes) else { continue };
        if let (Some(service), "Service") = (&object.service, object.kind.as_str()) {
            let (namespace, name) = (&object.namespace, &object.name);
            recalled.put(namespace, name, &service.cluster_ip, &service.ports);
        }
    }
    Ok(recalled)
}
