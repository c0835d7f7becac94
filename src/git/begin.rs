//! The first commit of a branch that is not there yet.

use std::{collections::BTreeMap, time::Duration};

use super::{
    commit::{Message, Person},
    error::Result,
    mirror::Mirror,
    publish::Step,
    status::{changed, check_path, commit},
};
use crate::model::CommitId;

impl Mirror {
    /// Makes the desired branch with these files where it is not there; gives its tip, and whether
    /// it was made.
    pub fn begin(
        &self,
        files: &BTreeMap<String, Option<Vec<u8>>>,
        message: &Message,
        by: &Person,
        within: Duration,
    ) -> Result<(CommitId, bool)> {
        files.keys().try_for_each(|path| check_path(path))?;
        let (branch, by) = (self.desired_branch()?, by.signature()?);
        let pushed = self.publish(&format!("refs/heads/{branch}"), within, |repo, tip| {
            if let Some(tip) = tip {
                return Ok(Step::Already(tip));
            }
            let tree = changed(repo, None, files)?;
            commit(repo, None, tree, message, (&by, &by), self.key.as_ref()).map(Step::Commit)
        })?;
        Ok((pushed.commit, pushed.attempts > 0))
    }
}
