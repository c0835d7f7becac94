//! A real kubectl inside a node, and what it is made to speak.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use mainstay::agent::image;
use serde_json::{Value, json};

use crate::world::{DEADLINE, World, run};

/// An image with a shell, curl, tar and a few tools of this machine.
pub(crate) const IMAGE: &str = "mainstay.test/shell:1";

/// The programs of the image.
const PROGRAMS: [&str; 7] = ["cat", "curl", "sleep", "stat", "stty", "tar", "dash"];

/// What kubectl speaks for exec and port-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// What it has spoken since 1.29.
    WebSocket,
    /// What it spoke before.
    Spdy,
}

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::WebSocket, Protocol::Spdy];

/// How a kubectl ended and what it said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A kubectl on a node that asks the server of that node.
pub(crate) struct Kubectl {
    program: String,
    node: u8,
    config: PathBuf,
    keys: PathBuf,
}

/// Why no kubectl can be asked.
pub(crate) fn missing() -> Option<&'static str> {
    let works = |program: &str, args: &[&str]| {
        Command::new(program).args(args).output().is_ok_and(|o| o.status.success())
    };
    match () {
        () if !works("kubectl", &["version", "--client"]) => Some("needs kubectl"),
        () if !works("script", &["--version"]) => Some("needs script"),
        () => None,
    }
}

/// The oldest kubectl that is looked after.
pub(crate) const OLDEST: &str = "1.20";

/// The newest one.
pub(crate) const NEWEST: &str = "1.37";

/// A kubectl that is not the machine's own, where `tests/run prepare` has made it.
pub(crate) fn prepared(version: &str) -> Option<PathBuf> {
    let above = std::path::Path::new(env!("CARGO_BIN_EXE_mainstay")).ancestors();
    let mut places = above.map(|dir| dir.join(format!("tools/kubectl-{version}/usr/bin/kubectl")));
    places.find(|path| path.exists())
}

/// Puts the image with a shell on a node.
pub(crate) fn load_image(w: &World, node: u8) {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for program in PROGRAMS {
        let path = run(Command::new("sh").args(["-c", &format!("command -v {program}")]));
        let path = path.trim().to_owned();
        let needs = run(Command::new("ldd").arg(&path));
        let name = if program == "dash" { "sh" } else { program };
        files.push((format!("bin/{name}"), std::fs::read(&path).unwrap()));
        for library in needs.split_whitespace().filter(|word| word.starts_with('/')) {
            let inside = library.trim_start_matches('/').to_owned();
            if !files.iter().any(|(known, _)| *known == inside) {
                files.push((inside, std::fs::read(library).unwrap()));
            }
        }
    }
    let dirs = ["proc", "sys", "dev", "etc", "tmp"].map(|dir| (format!("{dir}/.keep"), Vec::new()));
    files.extend(dirs);
    let files: Vec<image::File<'_>> =
        files.iter().map(|(path, bytes)| image::File { path, mode: 0o755, bytes }).collect();
    let tar = w.path("shell.tar");
    std::fs::write(&tar, image::archive(IMAGE, &files, &[]).unwrap()).unwrap();
    run(w.harness(&["docker", &node.to_string(), "load", "-q", "-i", tar.to_str().unwrap()]));
}

impl Kubectl {
    /// Writes the configuration of an administrator who asks the server of `node`.
    pub(crate) fn new(w: &World, node: u8) -> Self {
        let keys = w.server_dir(1).join("pki");
        let file = |name: &str| keys.join(name).display().to_string();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{ "name": "test", "cluster": {
                "server": format!("https://{}:6443", World::address(node)),
                "certificate-authority": file("ca.crt"),
            }}],
            "users": [{ "name": "admin", "user": {
                "client-certificate": file("admin.crt"), "client-key": file("admin.key"),
            }}],
            "contexts": [{ "name": "test", "context": {
                "cluster": "test", "user": "admin", "namespace": "shop",
            }}],
        });
        let path = w.path("kubeconfig.json");
        std::fs::write(&path, config.to_string()).unwrap();
        Self { program: "kubectl".to_owned(), node, config: path, keys }
    }

    /// The file with who asks whom.
    pub(crate) fn config(&self) -> &str {
        self.config.to_str().unwrap()
    }

    /// Another program of the same name.
    pub(crate) fn with(self, program: &str) -> Self {
        Self { program: program.to_owned(), ..self }
    }

    fn command(&self, w: &World, protocol: Protocol, args: &[&str]) -> Command {
        let config = format!("--kubeconfig={}", self.config.display());
        let flags = flags(protocol);
        let words = ["env", &flags[0], &flags[1], "HOME=/tmp", &self.program, &config];
        let mut command = w.inside(self.node, &[&words[..], args].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The same as a line for a shell.
    pub(crate) fn line(&self, protocol: Protocol, args: &str) -> String {
        let flags = flags(protocol).join(" ");
        let config = self.config.display();
        format!("env {flags} HOME=/tmp {} --kubeconfig={config} {args}", self.program)
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, w: &World, protocol: Protocol, args: &[&str]) -> Said {
        said(self.command(w, protocol, args).output().unwrap())
    }

    /// The same with input, which is then over.
    pub(crate) fn feed(&self, w: &World, protocol: Protocol, args: &[&str], input: &[u8]) -> Said {
        let mut child = self.command(w, protocol, args).stdin(Stdio::piped()).spawn().unwrap();
        let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_vec());
        let feeding = std::thread::spawn(move || pipe.write_all(&input));
        let output = child.wait_with_output().unwrap();
        // One that ended before it had read everything says so itself.
        let _broken = feeding.join().unwrap();
        said(output)
    }

    /// Starts it with its input open.
    pub(crate) fn start(&self, w: &World, protocol: Protocol, args: &[&str]) -> Child {
        self.command(w, protocol, args).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Asks the server itself; status and body.
    pub(crate) fn text(&self, w: &World, path: &str) -> (u16, String) {
        self.ask(w, path, &[])
    }

    /// Asks the server itself; status and the JSON of the body.
    pub(crate) fn curl(&self, w: &World, path: &str, more: &[&str]) -> (u16, Value) {
        let (code, body) = self.ask(w, path, more);
        (code, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    fn ask(&self, w: &World, path: &str, more: &[&str]) -> (u16, String) {
        let url = format!("https://{}:6443{path}", World::address(self.node));
        let file = |name: &str| self.keys.join(name).display().to_string();
        let (cert, key) = (file("admin.crt"), file("admin.key"));
        let with = ["--http1.1", "--cert", &cert, "--key", &key, &url];
        w.curl(self.node, &[&with[..], more].concat())
    }
}

fn flags(protocol: Protocol) -> [String; 2] {
    let on = protocol == Protocol::WebSocket;
    [
        format!("KUBECTL_REMOTE_COMMAND_WEBSOCKETS={on}"),
        format!("KUBECTL_PORT_FORWARD_WEBSOCKETS={on}"),
    ]
}

fn said(output: std::process::Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        bytes: output.stdout,
    }
}

/// The lines of an output, as they come.
pub(crate) fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Waits for a line that contains `text`, and gives it.
pub(crate) fn wait_for_line(lines: &Receiver<String>, text: &str) -> String {
    let mut before = Vec::new();
    loop {
        match lines.recv_timeout(DEADLINE) {
            Ok(line) if line.contains(text) => return line,
            Ok(line) => before.push(line),
            Err(error) => panic!("no line with {text:?} ({error}) in {before:#?}"),
        }
    }
}
