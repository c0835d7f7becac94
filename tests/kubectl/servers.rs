//! Any server takes a write, and all of them tell the same; one that stops leaves nobody waiting.

use crate::world::{World, kubectls};

fn map(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: free}}\ndata: {{a: b}}\n"
    )
}

#[test]
fn a_write_through_any_server_is_read_on_every_other_at_once() {
    let test = "a_write_through_any_server_is_read_on_every_other_at_once";
    if kubectls(test).is_empty() {
        return;
    }
    let world = World::up(3);
    let columns = "custom-columns=:metadata.name,:metadata.resourceVersion";
    let watches: Vec<_> = (0..3)
        .map(|at| {
            let args = ["get", "cm", "-n", "free", "-w", "--no-headers", "-o", columns];
            world.follow(at, "kubectl", &args)
        })
        .collect();
    for watch in &watches {
        world.until("the watch begins", || watch.text().contains("owned"));
    }
    for at in 0..3 {
        let name = format!("m{at}");
        let create = ["create", "--validate=false", "-f", "-"];
        let made = world.feed(at, "kubectl", &create, &map(&name));
        assert_eq!(made.unwrap(), format!("configmap/{name} created\n"));
        let read = ["get", "cm", &name, "-n", "free", "-o", "jsonpath={.metadata.resourceVersion}"];
        let seen: Vec<String> =
            (0..3).map(|other| world.kubectl(other, "kubectl", &read).unwrap()).collect();
        assert!(seen.iter().all(|version| *version == seen[0]), "{seen:?}");
        let again = world.feed(at, "kubectl", &create, &map(&name)).unwrap_err();
        assert!(again.contains("already exists"), "{again}");
    }
    for at in 0..3 {
        let name = format!("m{at}");
        let other = (at + 1) % 3;
        world.kubectl(other, "kubectl", &["delete", "cm", &name, "-n", "free"]).unwrap();
        let gone = world.kubectl(at, "kubectl", &["get", "cm", &name, "-n", "free"]).unwrap_err();
        assert!(gone.contains("not found"), "{gone}");
    }
    // The root certificate, the owned map, and three that came and went.
    world.until("every watch tells all", || watches.iter().all(|w| w.text().lines().count() == 8));
    let texts: Vec<String> = watches.iter().map(|watch| watch.text()).collect();
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
}

/// Nobody has to miss a leader first that says goodbye: it is another one's turn before it is gone.
#[test]
fn a_leader_that_stops_hands_the_lead_over() {
    if kubectls("a_leader_that_stops_hands_the_lead_over").is_empty() {
        return;
    }
    let world = World::up(3);
    let leader = world.leader();
    let said = world.stop(leader);
    assert!(said.contains("lead handed over"), "{said}");
    let other = (leader + 1) % 3;
    let create = ["create", "--validate=false", "-f", "-"];
    let made = world.feed(other, "kubectl", &create, &map("after")).unwrap();
    assert_eq!(made, "configmap/after created\n");
    world.start_again(leader);
    let read = ["get", "cm", "after", "-n", "free", "-o", "name"];
    assert_eq!(world.kubectl(leader, "kubectl", &read).unwrap(), "configmap/after\n");
}
