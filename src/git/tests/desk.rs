//! Somebody's working tree, seen as a commit that is nowhere else.

use std::fs;

use super::{WITHIN, World, git, person};
use crate::git::{Desk, Error};

/// What must not happen: an index or a folder of objects that differs because somebody looked.
#[test]
fn a_working_tree_is_a_commit_that_is_written_nowhere() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a: 1\n"), ("gone.yaml", "g: 1\n")], "first");
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let work = world.work();
    let write = |path: &str, text: &str| fs::write(work.join(path), text).unwrap();
    let desk = || Desk::around(&work).unwrap().unwrap();
    assert_eq!(desk().draft(&person()).unwrap(), first, "nothing differs");
    write("a.yaml", "a: 2\n");
    write(".gitignore", "ignored.yaml\n");
    write("ignored.yaml", "i: 1\n");
    fs::create_dir(work.join("sub")).unwrap();
    write("sub/new.yaml", "n: 1\n");
    fs::remove_file(work.join("gone.yaml")).unwrap();
    let state = || {
        let objects = git(&work, &["count-objects", "-v"]);
        (git(&work, &["status", "--porcelain"]), objects)
    };
    let before = state();

    let desk = desk();
    let draft = desk.draft(&person()).unwrap();
    assert!(draft != first && desk.has(&first) && !desk.has(&super::id(&"7".repeat(40))));
    mirror.take_pack(&desk.pack(Some(&first), &draft).unwrap()).unwrap();
    let reader = mirror.reader().unwrap();
    let file = |path: &str| reader.read_path(&draft, path).unwrap().map(String::from_utf8);
    let has = |path: &str, text: &str| file(path) == Some(Ok(text.to_owned()));
    assert!(has("a.yaml", "a: 2\n") && has("sub/new.yaml", "n: 1\n"));
    assert_eq!((file("gone.yaml"), file("ignored.yaml")), (None, None));
    assert_eq!(state(), before, "looking changes nothing");

    // A folder without a repository, and one of a repository by itself.
    let alone = Desk::alone(&work.join("sub")).unwrap();
    let whole = alone.draft(&person()).unwrap();
    let other = world.mirror("other");
    other.take_pack(&alone.pack(None, &whole).unwrap()).unwrap();
    let read = other.reader().unwrap().read_path(&whole, "new.yaml").unwrap();
    assert_eq!(read, Some(b"n: 1\n".to_vec()));
    assert!(!work.join("sub/.git").exists(), "nothing is left beside the files");

    let bare = Desk::around(&world.origin()).unwrap().unwrap();
    let refused = bare.draft(&person()).unwrap_err();
    assert!(matches!(refused, Error::Argument { .. }), "{refused:?}");
    assert_eq!(bare.revision("main~0"), Some(first));
    assert_eq!(bare.revision("nowhere"), None);
    let nowhere = tempfile::tempdir().unwrap();
    assert!(Desk::around(nowhere.path()).unwrap().is_none());
}
