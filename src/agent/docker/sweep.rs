//! Removing everything, although something may still be on its way.
//!
//! An agent that was killed may have left a call with the engine, whose container appears after
//! everything was listed. So the list is made again until nothing is on it.

use std::time::Duration;

use super::Error;

/// Between two lists: longer than the engine takes to make a container it was asked for.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// Most lists. What is still found then is made by somebody who goes on.
const ROUNDS_MAX: usize = 10;
/// So many empty lists in a row are the end.
const QUIET_ROUNDS: usize = 2;

/// Lists and removes until nothing is found any more. Gives what is left, and why.
pub(super) async fn sweep(
    list: impl AsyncFn() -> Result<Vec<String>, Error>,
    remove: impl AsyncFn(String) -> Result<(), Error>,
    pause: Duration,
) -> Vec<String> {
    let mut problems = Vec::new();
    let mut quiet = 0;
    for round in 0..ROUNDS_MAX {
        if round > 0 {
            tokio::time::sleep(pause).await;
        }
        problems.clear();
        let ids = match list().await {
            Ok(ids) => ids,
            Err(error) => return vec![format!("containers: {error}")],
        };
        quiet = if ids.is_empty() { quiet + 1 } else { 0 };
        if quiet == QUIET_ROUNDS {
            return problems;
        }
        for id in ids {
            match remove(id.clone()).await {
                Ok(()) | Err(Error::NotFound(_)) => {}
                // The next round tries again: what is being started or removed is refused.
                Err(error) => problems.push(format!("container {id}: {error}")),
            }
        }
    }
    if problems.is_empty() {
        problems.push("containers: new ones appear as fast as they are removed".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// What each list gives, the removals that are refused, and what was removed and left.
    async fn check(lists: &[&[&str]], refused: &[&str]) -> (Vec<String>, Vec<String>) {
        let (round, removed) = (Cell::new(0), RefCell::new(Vec::new()));
        let list = async || {
            let ids = lists.get(round.get()).or(lists.last()).copied().unwrap_or_default();
            round.set(round.get() + 1);
            Ok(ids.iter().map(|id| (*id).to_owned()).collect())
        };
        let remove = async |id: String| {
            if refused.contains(&id.as_str()) {
                return Err(Error::Refused("busy".to_owned()));
            }
            removed.borrow_mut().push(id);
            Ok(())
        };
        let problems = sweep(list, remove, Duration::ZERO).await;
        (removed.into_inner(), problems)
    }

    #[tokio::test]
    async fn what_appears_after_the_first_list_is_removed_too() {
        let (removed, problems) = check(&[&["a", "b"], &["c"], &[], &["d"], &[]], &[]).await;
        assert_eq!((removed.join(" "), problems), ("a b c d".to_owned(), vec![]));
    }

    #[tokio::test]
    async fn it_ends_and_says_what_is_left() {
        let (_, problems) = check(&[&["a"]], &["a"]).await;
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("container a: "), "{problems:?}");
        let (removed, problems) = check(&[&["a"]], &[]).await;
        assert_eq!((removed.len(), problems.len()), (ROUNDS_MAX, 1));
    }
}
