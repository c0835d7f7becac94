//! What may be deleted because it is not in Git any more.

use crate::model::{Key, Problem};

/// The trailer in a commit's message that allows a large deletion: `Prune-Approved: yes`.
pub const TRAILER: &str = "Prune-Approved";

/// Kinds whose deletion takes data or everything inside with it: never without the trailer.
const PRECIOUS: [&str; 2] = ["Namespace", "PersistentVolumeClaim"];

/// How much may be deleted without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneOptions {
    /// Most per cent of the owned objects.
    pub share_percent_max: usize,
    /// So many objects may always be deleted, whatever their share: a demo of four is no accident.
    pub count_free: usize,
    /// Nothing is deleted at all.
    pub disabled: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { share_percent_max: 50, count_free: 5, disabled: false }
    }
}

/// Says what to delete of `gone` (what is owned and not wanted), in an order that is safe
/// (workloads first, namespaces last).
///
/// `owned` and `wanted` are how many objects are live and how many the commit holds; the commit
/// must be completely parsed. An empty commit never prunes. More than the allowed share, or
/// anything precious, waits for [`TRAILER`] among `trailers` (name and value; `yes` or `true`, any
/// case).
pub fn prune_guard(
    mut gone: Vec<Key>,
    (owned, wanted): (usize, usize),
    trailers: &[(String, String)],
    options: PruneOptions,
) -> Result<Vec<Key>, Problem> {
    if gone.is_empty() || options.disabled {
        return Ok(Vec::new());
    }
    let refuse = |message: String| Err(Problem { message, ..Problem::default() });
    if wanted == 0 {
        return refuse(format!(
            "the commit holds no object, and {owned} are live: an empty tree never deletes; check \
             branch and path, or delete the objects one by one"
        ));
    }
    if !approved(trailers) {
        let ask =
            format!("add the trailer \"{TRAILER}: yes\" to the commit message if it is meant");
        if let Some(key) = gone.iter().find(|k| PRECIOUS.contains(&k.kind.kind.as_str())) {
            return refuse(format!("the commit deletes {key} and all it holds: {ask}"));
        }
        let many =
            gone.len() > options.count_free && gone.len() * 100 > owned * options.share_percent_max;
        if many {
            return refuse(format!(
                "the commit deletes {} of {owned} objects, more than {} %: {ask}",
                gone.len(),
                options.share_percent_max
            ));
        }
    }
    super::apply_order(&mut gone);
    gone.reverse();
    Ok(gone)
}

fn approved(trailers: &[(String, String)]) -> bool {
    let yes = |v: &str| v.eq_ignore_ascii_case("yes") || v.eq_ignore_ascii_case("true");
    trailers.iter().any(|(name, value)| name.eq_ignore_ascii_case(TRAILER) && yes(value.trim()))
}
