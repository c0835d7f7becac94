//! Every server is lost, disks and all. What is left is a clone of the repository.

use std::fs;

use crate::world::{World, git, kubectls, repository};

/// So few addresses that names collide, and who comes first matters.
const NARROW: &str = "network: {serviceCidr: 10.99.0.0/26}\nwrites: refuse\n";

fn services(names: impl Iterator<Item = usize>) -> String {
    let one = |n: usize| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: closed}}\nspec: \
             {{type: NodePort, selector: {{app: s{n}}}, ports: [{{port: 80}}]}}\n"
        )
    };
    names.map(one).collect()
}

fn addresses(world: &World) -> String {
    let columns = "custom-columns=:metadata.name,:spec.clusterIP,:spec.ports[*].nodePort";
    let args = ["get", "services", "-n", "closed", "--no-headers", "-o", columns];
    world.kubectl(0, "kubectl", &args).unwrap()
}

fn push(world: &World, file: &str, text: &str) {
    fs::write(world.work().join(file), text).unwrap();
    git(&world.work(), &["add", "."]);
    git(&world.work(), &["commit", "--quiet", "--message", file]);
    git(&world.work(), &["push", "--quiet", "../repo.git", "HEAD:main"]);
}

#[test]
fn a_clone_is_the_backup_and_services_keep_their_addresses() {
    let test = "a_clone_is_the_backup_and_services_keep_their_addresses";
    if kubectls(test).is_empty() {
        return;
    }
    let clone = tempfile::tempdir().unwrap();
    let before = {
        let world = World::up_from(1, NARROW, |dir| {
            repository(dir, &[]);
            ", intervalSeconds: 1".to_owned()
        });
        // The later names come first, and take what the earlier ones would.
        push(&world, "late.yaml", &services(15..30));
        world.until("the first are there", || addresses(&world).lines().count() == 15);
        push(&world, "early.yaml", &services(0..15));
        world.until("all are there", || addresses(&world).lines().count() == 30);
        let repo = world.work().join("../repo.git");
        let told = || git(&repo, &["ls-tree", "-r", "--name-only", "mainstay/status"]);
        let count = || told().lines().filter(|path| path.contains("/Service-s")).count();
        world.until("the status branch tells", || {
            let branch = git(&repo, &["branch", "--list", "mainstay/status"]);
            !branch.is_empty() && count() == 30
        });
        git(clone.path(), &["clone", "--quiet", "--mirror", repo.to_str().unwrap(), "repo.git"]);
        addresses(&world)
    };
    let copy = clone.path().join("repo.git");
    let world = World::up_from(1, NARROW, |dir| {
        fs::rename(copy, dir.join("repo.git")).unwrap();
        fs::create_dir(dir.join("work")).unwrap();
        ", intervalSeconds: 1".to_owned()
    });
    world.until("all are there again", || addresses(&world).lines().count() == 30);
    assert_eq!(addresses(&world), before);
    // The new cluster tells on the same branch, also at indexes that the old one has told before.
    let repo = world.work().join("../repo.git");
    let clusters = || {
        let format = "--format=%(trailers:key=Cluster,valueonly,separator=%x20)";
        let log = git(&repo, &["log", format, "mainstay/status"]);
        let mut ids: Vec<String> = log.lines().map(str::to_owned).collect();
        ids.dedup();
        ids.len()
    };
    world.until("the new cluster tells", || clusters() == 2);
}
