//! What stands directly in a folder, and ids by which a folder is known to be as it was.

use std::collections::BTreeMap;

use git2::Oid;

use super::{
    error::Result,
    mirror::Reader,
    tree::{File, Kind, Limits, Walk, root_prefix},
};
use crate::model::{CommitId, Problem};

/// The id of a folder with all that is in it: equal ids, equal files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderId(Oid);

/// What stands directly in a folder.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The folders in it, by name.
    pub folders: BTreeMap<String, FolderId>,
    /// The paths of the files in it, in order.
    pub files: Vec<String>,
    /// What in it cannot be used.
    pub problems: Vec<Problem>,
}

impl Reader {
    /// What stands directly in a folder of a commit; none when there is no such folder.
    pub fn listing(&self, commit: &CommitId, root: &str) -> Result<Option<Listing>> {
        let Some(id) = self.tree_at(commit, root)? else { return Ok(None) };
        let tree = self.repo.find_tree(id).map_err(|cause| self.meaning(cause))?;
        let (prefix, limits, none) = (root_prefix(root), Limits::default(), |_: &str| false);
        let mut walk = Walk::new(self, &none, &limits);
        let mut listing = Listing::default();
        for entry in &tree {
            match walk.usable(&entry, &prefix) {
                Some((path, Kind::Folder)) => {
                    let name = path[prefix.len()..].to_owned();
                    listing.folders.insert(name, FolderId(entry.id()));
                }
                Some((path, _)) => listing.files.push(path),
                None => {}
            }
        }
        listing.problems = walk.finish().problems;
        Ok(Some(listing))
    }

    /// The id of a folder of a commit; none when there is no such folder.
    pub fn folder(&self, commit: &CommitId, path: &str) -> Result<Option<FolderId>> {
        Ok(self.tree_at(commit, path)?.map(FolderId))
    }

    /// The files in a folder at `path` and below it that `wanted` accepts. What cannot be used is
    /// left out: whoever reads the folder is told.
    pub fn files_in(
        &self,
        folder: FolderId,
        path: &str,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<File>> {
        let limits = Limits::default();
        let mut walk = Walk::new(self, wanted, &limits);
        walk.folder(folder.0, &root_prefix(path), 0)?;
        Ok(walk.finish().files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::{Auth, Mirror, Reference, Remote};

    fn git(dir: &std::path::Path, args: &[&str]) -> String {
        let who = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"];
        let output = std::process::Command::new("git")
            .args(who)
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What must not happen: a folder that changed and has its old id, one that did not and has
    /// another; a link that is followed.
    #[test]
    fn folders_are_listed_with_ids_of_what_they_hold() {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "-q", "-b", "main", "repo"]);
        let repo = dir.path().join("repo");
        let write = |path: &str, text: &str| {
            std::fs::create_dir_all(repo.join(path).parent().unwrap()).unwrap();
            std::fs::write(repo.join(path), text).unwrap();
        };
        let commit = || {
            git(&repo, &["add", "-A"]);
            git(&repo, &["commit", "-q", "-m", "c"]);
            CommitId::parse(&git(&repo, &["rev-parse", "HEAD"])).unwrap()
        };
        write("apps/a/x.yaml", "1");
        write("apps/b/deep/y.yaml", "1");
        write("apps/beside.yaml", "1");
        std::os::unix::fs::symlink("/etc", repo.join("apps/link")).unwrap();
        let first = commit();
        write("apps/b/deep/y.yaml", "2");
        let second = commit();
        let url = format!("file://{}", repo.display());
        let remote = Remote::new(url, Reference::Branch("main".into()), Auth::None).unwrap();
        let mirror = Mirror::open(dir.path().join("mirror"), remote).unwrap();
        mirror.fetch(std::time::Duration::from_secs(60)).unwrap();
        let reader = mirror.reader().unwrap();
        assert!(reader.listing(&first, "nowhere").unwrap().is_none());
        let before = reader.listing(&first, "apps").unwrap().unwrap();
        let after = reader.listing(&second, "apps/").unwrap().unwrap();
        assert_eq!(before.folders.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(before.files, ["apps/beside.yaml"]);
        assert_eq!(before.problems[0].file, "apps/link");
        assert_eq!(before.folders["a"], after.folders["a"]);
        assert_ne!(before.folders["b"], after.folders["b"]);
        assert_eq!(reader.folder(&second, "apps/b").unwrap(), Some(after.folders["b"]));
        let files = reader.files_in(after.folders["b"], "apps/b", &|_| true).unwrap();
        assert_eq!(files[0].path, "apps/b/deep/y.yaml");
    }
}
