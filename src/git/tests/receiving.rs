//! A push that is shown to the mirror before any ref names it.

use super::{WITHIN, World};
use crate::git::{Error, pack_push};

#[test]
fn a_push_is_known_before_it_is_taken() {
    let world = World::new();
    let first = world.commit(&[("a.yaml", "a: 1\n"), ("b.yaml", "b: 1\n")], "first");
    let mirror = world.mirror("mirror");
    mirror.fetch(WITHIN).unwrap();
    let second = world.commit(&[("a.yaml", "a: 2\n")], "second");
    let third = world.commit(&[("c.yaml", "c: 1\n")], "third");
    assert!(!mirror.has(&third).unwrap());
    let pack = pack_push(&world.origin(), None, Some(&first), &third).unwrap();
    mirror.take_pack(&pack).unwrap();
    let reader = mirror.reader().unwrap();
    let file = |path: &str| reader.read_path(&third, path).unwrap().unwrap();
    assert_eq!((file("a.yaml"), file("b.yaml")), (b"a: 2\n".to_vec(), b"b: 1\n".to_vec()));
    assert!(mirror.has(&second).unwrap());
    assert_eq!(mirror.tip().unwrap(), Some(first.clone()), "it is not what was fetched");

    // A branch that begins: everything, into a mirror that has nothing.
    let other = world.mirror("other");
    other.take_pack(&pack_push(&world.origin(), None, None, &third).unwrap()).unwrap();
    assert!(other.has(&first).unwrap());
    // What is no pack, or is cut off, changes nothing.
    let fresh = world.mirror("fresh");
    for bytes in [b"no pack".as_slice(), &pack[..pack.len() / 2], b""] {
        let refused = fresh.take_pack(bytes).unwrap_err();
        assert!(matches!(refused, Error::Argument { .. }), "{refused:?}");
    }
    assert!(!fresh.has(&third).unwrap());
    let unknown = pack_push(&world.origin(), None, None, &super::id(&"7".repeat(40)));
    assert!(matches!(unknown, Err(Error::Unknown { .. })), "{unknown:?}");
}
