//! What annotations of other tools say of applying and pruning, as their users know it.

use crate::world::{World, kubectls};

/// A ConfigMap with one annotation.
fn map(name: &str, annotation: &str, text: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: free\n  \
         annotations: {{{annotation}}}\ndata:\n  text: {text}\n---\n"
    )
}

const ONCE: &str = "kustomize.toolkit.fluxcd.io/ssa: IfNotPresent";
const KEPT: &str = "argocd.argoproj.io/sync-options: Prune=false";
const ALSO_KEPT: &str = "kustomize.toolkit.fluxcd.io/prune: disabled";

/// What must not happen: an object that is deleted though it says it stays, or one that Git made
/// once and then writes over what people made of it.
#[test]
fn objects_that_stay_and_objects_that_are_made_once() {
    let name = "objects_that_stay_and_objects_that_are_made_once";
    if kubectls(name).is_empty() {
        return;
    }
    let world = World::up(1);
    let kubectl = |args: &str| {
        let args: Vec<&str> = ["-n", "free"].into_iter().chain(args.split(' ')).collect();
        world.kubectl(0, "kubectl", &args)
    };
    let text = |name: &str| kubectl(&format!("get cm {name} -o jsonpath={{.data.text}}"));
    let has = |name: &str, wanted: &str| text(name).is_ok_and(|text| text == wanted);
    let all = |once: &str| {
        map("once", ONCE, once) + &map("kept", KEPT, "a") + &map("also", ALSO_KEPT, "a")
    };
    world.pushes("options.yaml", &(all("one") + &map("gone", "a: b", "a")));
    world.until("all is there", || {
        ["kept", "also", "gone"].iter().all(|name| has(name, "a")) && has("once", "one")
    });

    // Changed in Git: not applied. Changed by hand: no commit, and it stays so.
    world.pushes("options.yaml", &(all("two") + &map("gone", "a: b", "b")));
    world.until("the second commit runs", || has("gone", "b"));
    assert!(has("once", "one"), "it was there already: {:?}", text("once"));
    let head = world.git(&["rev-parse", "HEAD"]);
    kubectl("patch cm once -p {\"data\":{\"text\":\"mine\"}}").unwrap();
    assert!(has("once", "mine"), "{:?}", text("once"));
    assert_eq!(world.git(&["rev-parse", "HEAD"]), head, "Git would not bring it back");
    // Taken away, it is made again as Git says it now.
    kubectl("delete cm once").unwrap();
    world.until("it is made again", || has("once", "two"));

    // What no file says any more stays where it says so, and goes elsewhere.
    world.pushes("options.yaml", &map("once", ONCE, "two"));
    world.until("what says nothing is gone", || text("gone").is_err());
    assert!(has("kept", "a") && has("also", "a") && has("once", "two"));
    let told = String::from_utf8(world.asks(&["status"]).stdout).unwrap();
    assert!(told.contains("ConfigMap free/kept stays"), "{told}");
    let adopted = world.asks(&["adopt", "cm/kept", "--namespace", "free"]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    let file = world.git(&["show", "HEAD:free/configmap-kept.yaml"]);
    assert!(file.contains("Prune=false") && !file.contains("mainstay.io/"), "{file}");
}
