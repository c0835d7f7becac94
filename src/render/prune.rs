//! What may be deleted because it is not in Git any more.

use crate::model::{Key, Problem};

/// The trailer in a commit's message that allows a large deletion: `Prune-Approved: yes`.
pub const TRAILER: &str = "Prune-Approved";

/// What a person writes to say yes, in any case.
const YES: [&str; 7] = ["yes", "y", "true", "ok", "okay", "approve", "approved"];

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
/// anything precious, waits for [`TRAILER`] among `trailers` (name and value; a word of `YES`).
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
        let ask = ask(trailers);
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

/// What to write, and what of that which was written says nothing.
fn ask(trailers: &[(String, String)]) -> String {
    match answers(trailers).next() {
        None => format!("add the trailer \"{TRAILER}: yes\" to the commit message if it is meant"),
        Some(said) => format!(
            "the trailer says \"{TRAILER}: {said}\", which approves nothing; write \
             \"{TRAILER}: yes\" in the commit message if it is meant"
        ),
    }
}

fn approved(trailers: &[(String, String)]) -> bool {
    answers(trailers).any(|said| {
        let word = said.trim_matches(|c: char| !c.is_alphanumeric());
        YES.iter().any(|yes| yes.eq_ignore_ascii_case(word))
    })
}

fn answers(trailers: &[(String, String)]) -> impl Iterator<Item = &str> {
    let ours = trailers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(TRAILER));
    ours.map(|(_, value)| value.trim())
}
