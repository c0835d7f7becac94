//! Branches beside the desired one, and what they are once they are merged.

use std::collections::BTreeMap;

use super::{WITHIN, World, git, id, server::HttpServer};
use crate::git::{Merged, Mirror};

/// A branch `name` with one commit on top of `from`.
fn branch(world: &World, name: &str, from: &str, files: &[(&str, &str)]) -> crate::model::CommitId {
    let work = world.work();
    git(&work, &["checkout", "-q", "-B", name, from]);
    for (path, text) in files {
        std::fs::write(work.join(path), text).unwrap();
    }
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", &format!("{name}\n\nPrune-Approved: yes")]);
    git(&work, &["push", "-q", "--force", "origin", name]);
    let tip = id(&git(&work, &["rev-parse", "HEAD"]));
    git(&work, &["checkout", "-q", "main"]);
    tip
}

fn others(mirror: &Mirror) -> BTreeMap<String, crate::model::CommitId> {
    mirror.branches(&|name| name != "main", WITHIN).unwrap()
}

#[test]
fn tips_follow_the_remote_and_are_merged_without_a_push() {
    let world = World::new();
    let base = world.commit(&[("a.yaml", "a: 1\nb: 1\n"), ("b.yaml", "b: 1\n")], "first");
    let server = HttpServer::start(&world.root(), None);
    for (kind, url) in [("file", world.url()), ("http", server.url("origin.git"))] {
        let mirror = world.mirror_of(kind, &url);
        mirror.fetch(WITHIN).unwrap();
        let ahead = branch(&world, "ahead", base.as_str(), &[("c.yaml", "c: 1\n")]);
        let apart = branch(&world, "apart", base.as_str(), &[("b.yaml", "b: 2\n")]);
        let clash = branch(&world, "clash", base.as_str(), &[("a.yaml", "a: 3\n")]);
        let now = world.commit(&[("a.yaml", "a: 2\nb: 2\n")], "second");
        mirror.fetch(WITHIN).unwrap();
        let tips = others(&mirror);
        let expected = [("ahead", &ahead), ("apart", &apart), ("clash", &clash)];
        assert_eq!(tips.len(), 3, "{kind}");
        expected.iter().for_each(|(name, tip)| assert_eq!(&&tips[*name], tip, "{kind}: {name}"));

        assert_eq!(mirror.merged(&base, &ahead).unwrap(), Merged::As(ahead.clone()));
        assert_eq!(mirror.merged(&now, &base).unwrap(), Merged::Contained);
        let Merged::As(merge) = mirror.merged(&now, &apart).unwrap() else { panic!("no merge") };
        assert_eq!(mirror.merged(&now, &apart).unwrap(), Merged::As(merge.clone()), "the same");
        let reader = mirror.reader().unwrap();
        let file = |path: &str| String::from_utf8(reader.read_path(&merge, path).unwrap().unwrap());
        assert_eq!(file("a.yaml").unwrap(), "a: 2\nb: 2\n");
        assert_eq!(file("b.yaml").unwrap(), "b: 2\n");
        assert_eq!(reader.commit(&merge).unwrap().trailer("Prune-Approved"), Some("yes"));
        let conflict = mirror.merged(&now, &clash).unwrap();
        assert_eq!(conflict, Merged::Conflict(vec!["a.yaml".to_owned()]));

        // A branch that moved by force and one that is gone; a name means what it means by now.
        let moved = branch(&world, "ahead", base.as_str(), &[("d.yaml", "d: 1\n")]);
        git(&world.work(), &["push", "-q", "origin", ":clash"]);
        let tips = others(&mirror);
        assert_eq!((tips.len(), &tips["ahead"]), (2, &moved), "{kind}");
        assert_eq!(mirror.resolve("ahead", WITHIN).unwrap(), moved);
        assert_eq!(mirror.resolve("ahead~1", WITHIN).unwrap(), base);
        assert!(mirror.resolve("clash", WITHIN).is_err(), "{kind}: it is gone");
        assert_eq!(mirror.resolve(&now.as_str()[..9], WITHIN).unwrap(), now);
        let listed = git(&world.origin(), &["for-each-ref", "--format=%(refname)"]);
        assert_eq!(listed.lines().count(), 3, "nothing was pushed: {listed}");
        git(&world.work(), &["checkout", "-q", "main"]);
        git(&world.work(), &["reset", "-q", "--hard", base.as_str()]);
        world.push();
    }
}

/// What must not happen: a merge where moving forward is all; a push over what others pushed.
#[test]
fn a_branch_is_promoted_by_moving_forward_or_by_a_merge() {
    let world = World::new();
    let base = world.commit(&[("a.yaml", "a: 1\n"), ("b.yaml", "b: 1\n")], "first");
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let promote = |from: &crate::model::CommitId| {
        let words = super::message("Promote next");
        others(&mirror);
        mirror.promote(from, &words, &super::person(), &super::person(), WITHIN)
    };
    let next = branch(&world, "next", base.as_str(), &[("b.yaml", "b: 2\n")]);
    assert_eq!(promote(&next).unwrap().commit, next);
    assert_eq!(promote(&next).unwrap().attempts, 0, "it is there");
    assert_eq!(promote(&base).unwrap().commit, next, "so is what it follows");
    let apart = branch(&world, "apart", base.as_str(), &[("c.yaml", "c: 1\n")]);
    let merge = promote(&apart).unwrap().commit;
    let origin = world.origin();
    let parents = git(&origin, &["log", "-1", "--format=%P", "main"]);
    assert_eq!(parents, format!("{next} {apart}"));
    let files = git(&origin, &["ls-tree", "--name-only", "main"]);
    assert_eq!(files.replace('\n', " "), "a.yaml b.yaml c.yaml");
    let clash = branch(&world, "clash", base.as_str(), &[("b.yaml", "b: 3\n")]);
    let conflict = promote(&clash).unwrap_err();
    assert!(matches!(conflict, crate::git::Error::Conflict { .. }), "{conflict:?}");
    assert_eq!(git(&origin, &["rev-parse", "main"]), merge.as_str());
}
