//! What stands in a folder, and when it is the same.

use std::fs;

use super::World;

/// What must not happen: a folder that changed and has its old id, one that did not and has
/// another; a link that is followed.
#[test]
fn folders_are_listed_with_ids_of_what_they_hold() {
    let world = World::new();
    fs::create_dir_all(world.work().join("apps")).unwrap();
    std::os::unix::fs::symlink("/etc", world.work().join("apps/link")).unwrap();
    let files = [("apps/a/x.yaml", "1"), ("apps/b/deep/y.yaml", "1"), ("apps/beside.yaml", "1")];
    let first = world.commit(&files, "first");
    let second = world.commit(&[("apps/b/deep/y.yaml", "2")], "second");
    let reader = world.reader();
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
