//! Images from a registry that asks who one is: Debian's docker-registry, in the node of the test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::{Agent, NETWORK, RANGE, is_running, node, pod, waits_for};

const PORT: u16 = 5055;
const USER: (&str, &str) = ("ada", "hunter2");
/// The password as bcrypt keeps it.
const HASH: &str = "$2b$04$gmKp/qqnKOKZo6WAmAM1oOnyhyghIIcRaW9fJBOmnO6q7vN.If66u";

/// The program, where `tests/run` unpacks it or the machine has it.
fn program() -> Option<PathBuf> {
    let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/usr/bin/docker-registry");
    let works = |path: &&&str| {
        let run = Command::new(path).arg("--version").stdout(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    [unpacked, "docker-registry"].iter().find(works).map(PathBuf::from)
}

/// Ends with the test.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn start(program: &Path, dir: &Path) -> Registry {
    std::fs::write(dir.join("users"), format!("{}:{HASH}\n", USER.0)).unwrap();
    let config = json!({
        "version": 0.1,
        "storage": { "filesystem": { "rootdirectory": dir.join("images") } },
        "http": { "addr": format!("127.0.0.1:{PORT}"), "secret": "s" },
        "auth": { "htpasswd": { "realm": "test", "path": dir.join("users") } },
    });
    std::fs::write(dir.join("config.yml"), config.to_string()).unwrap();
    let mut command = Command::new(program);
    command.arg("serve").arg(dir.join("config.yml"));
    Registry(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

fn secret(password: &str) -> Value {
    let auth = BASE64_STANDARD.encode(format!("{}:{password}", USER.0));
    let config = json!({ "auths": { (format!("127.0.0.1:{PORT}")): { "auth": auth } } });
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": { "name": "registry", "namespace": "shop" },
        "data": { ".dockerconfigjson": BASE64_STANDARD.encode(config.to_string()) },
    })
}

#[test]
fn a_private_image_is_pulled_as_who_the_pod_names() {
    let test = "registry::a_private_image_is_pulled_as_who_the_pod_names";
    let Some(program) = program() else {
        return eprintln!("skipped {test}: needs docker-registry");
    };
    node::inside(test, async move {
        let dir = tempfile::tempdir().unwrap();
        node::prepare(NETWORK, RANGE).await;
        let _registry = start(&program, dir.path());
        node::until_answers("127.0.0.1", PORT).await;
        let image = format!("127.0.0.1:{PORT}/team/testpod");
        node::push(&image, USER.0, USER.1).await;
        let of = |name: &str, secrets: Value| {
            pod(
                name,
                json!({"terminationGracePeriodSeconds": 1, "imagePullSecrets": secrets,
                "containers": [{
                    "name": "web", "image": format!("{image}:1"), "imagePullPolicy": "Always",
                    "args": ["serve", "8080"],
                }]}),
            )
        };
        let mut agent = Agent::start(dir.path()).await;
        let named = json!([{ "name": "absent" }, { "name": "registry" }]);
        agent.desired(&[of("nobody", json!([])), secret("wrong")]).await;
        let refused = |p: &mainstay::model::session::ObservedPod| {
            waits_for(p, "web").is_some_and(|why| why.starts_with("ErrImage"))
        };
        agent.until("nobody gets nothing", "nobody", refused).await;
        agent.desired(&[of("wrong", named.clone()), secret("wrong")]).await;
        agent.until("a wrong password neither", "wrong", refused).await;
        agent.desired(&[of("right", named), secret(USER.1)]).await;
        agent.until("it runs", "right", |p| is_running(p, "web")).await;
        let told = agent.events.iter().filter(|event| event.contains(USER.1)).count();
        assert_eq!(told, 0, "no password is in an event");
        agent.desired(&[]).await;
        node::until_empty(dir.path()).await;
        agent.die().await;
    });
}
