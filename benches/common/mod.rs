//! What the measurements share: the machine's load, medians, a repository of many small objects,
//! a server of its own process, and clients of one.

pub(crate) mod http;
pub(crate) mod part;

use std::{
    error::Error,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mainstay::{
    config::{NetworkConfig, ServerConfig, SourceConfig},
    model::{CommitId, Timestamp},
    server::{PKI, Server, Setup, server_leaf},
    state::{Command as StateCommand, View},
    trust::{Ca, KeyFiles},
};

/// Any failure ends a measurement; there is nobody to handle it.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long anything may take before the measurement gives up. Generous: other programs may run.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Names in the environment the part a copy of a measurement plays.
const PART: &str = "MAINSTAY_BENCH_PART";

/// Prints what is measured and under which load.
pub(crate) fn title(what: &str) {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    eprintln!("{what}\nload average at start {load}, {cores} cores");
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints both sides in milliseconds and the median ratio of the pairs.
pub(crate) fn compare(ours: (&str, &[f64]), theirs: (&str, &[f64]), most: f64) {
    for (name, figures) in [ours, theirs] {
        let all = figures.iter().fold(String::new(), |mut all, figure| {
            let _always_fits = write!(all, " {figure:.1}");
            all
        });
        eprintln!("{name:48} median {:9.2} ms of{all}", median(figures));
    }
    let ratios: Vec<f64> = ours.1.iter().zip(theirs.1).map(|(a, b)| a / b).collect();
    let ratio = median(&ratios);
    let verdict = if ratio <= most { "reached" } else { "NOT reached" };
    eprintln!("{:48} {ratio:.2} (at most {most}: {verdict})\n", "ratio, median of the pairs");
}

/// Milliseconds of a time.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Which part this copy of the measurement plays; `None` for the first one.
pub(crate) fn part() -> Option<(String, PathBuf)> {
    let part = std::env::var(PART).ok()?;
    let (name, dir) = part.split_once(':')?;
    Some((name.to_owned(), dir.into()))
}

/// Runs a part in a process of its own and gives what it printed, as numbers by name.
pub(crate) fn run_part(name: &str, dir: &Path) -> Result<std::collections::BTreeMap<String, f64>> {
    let output = Command::new(std::env::current_exe()?)
        .env(PART, format!("{name}:{}", dir.display()))
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("part {name} failed").into());
    }
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.lines().filter_map(|l| l.split_once('='));
    Ok(pairs.filter_map(|(k, v)| Some((k.to_owned(), v.parse().ok()?))).collect())
}

/// The bytes in memory of this process: now (`VmRSS`) or at most so far (`VmHWM`), in MiB.
pub(crate) fn memory_mib(field: &str) -> f64 {
    memory_of("self", field)
}

/// The same of another process.
pub(crate) fn memory_of(process: &str, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Processor time of all threads that live, in milliseconds. Exact, but forgets threads that end.
pub(crate) fn cpu_ms() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    tasks.filter_map(of).sum::<f64>() / 1e6
}

/// Objects in the repository of [`repository`].
pub(crate) const OBJECTS: usize = 10_000;

/// Clients that write at the same time, and how often each does.
pub(crate) const CLIENTS: usize = 64;
pub(crate) const WRITES: usize = 100;

/// Makes a bare repository with one file for each of [`OBJECTS`] small objects, a hundred to a
/// folder: half ConfigMaps, a quarter Services, a quarter Deployments that want no pod.
pub(crate) fn repository(path: &Path) -> Result<CommitId> {
    repository_of(path, (0..OBJECTS).map(|i| (file(i), object(i, "first"))))
}

/// Makes a bare repository with these files.
pub(crate) fn repository_of(
    path: &Path,
    files: impl Iterator<Item = (String, String)>,
) -> Result<CommitId> {
    git(Path::new("."), &["init", "-q", "--bare", "-b", "main", &path.display().to_string()])?;
    let mut script = String::new();
    writeln!(script, "commit refs/heads/main\ncommitter Ann <ann@example.org> 1700000000 +0000")?;
    writeln!(script, "data 5\nfirst")?;
    for (file, content) in files {
        writeln!(script, "M 100644 inline {file}\ndata {}\n{content}", content.len())?;
    }
    let mut import = Command::new("git")
        .args(["fast-import", "--quiet"])
        .current_dir(path)
        .stdin(Stdio::piped())
        .spawn()?;
    import.stdin.take().ok_or("no stdin")?.write_all(script.as_bytes())?;
    if !import.wait()?.success() {
        return Err("git fast-import failed".into());
    }
    head(path)
}

/// The file of an object.
pub(crate) fn file(i: usize) -> String {
    format!("apps/team-{:03}/object-{i:05}.yaml", i / 100)
}

/// The text of an object; `word` stands in it once.
pub(crate) fn object(i: usize, word: &str) -> String {
    match i % 4 {
        0 => format!(
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: web-{i:05}\n  labels:\n    app: \
             web-{i:05}\n    word: {word}\nspec:\n  selector:\n    app: web-{i:05}\n  ports:\n  \
             - name: http\n    port: 80\n    targetPort: 8080\n"
        ),
        1 => format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web-{i:05}\n  labels:\n    \
             app: web-{i:05}\nspec:\n  replicas: 0\n  selector:\n    matchLabels:\n      app: \
             web-{i:05}\n  template:\n    metadata:\n      labels:\n        app: web-{i:05}\n    \
             spec:\n      containers:\n      - name: web\n        image: example.org/web:1\n        \
             env:\n        - name: WORD\n          value: {word}\n        ports:\n        - \
             containerPort: 8080\n        resources:\n          requests:\n            cpu: \
             100m\n            memory: 64Mi\n"
        ),
        _ => format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web-{i:05}\n  labels:\n    app: \
             web-{i:05}\ndata:\n  word: {word}\n  settings.ini: |\n    [web]\n    listen = \
             0.0.0.0:8080\n    workers = 4\n    cache = /var/cache/web\n"
        ),
    }
}

/// Writes the objects of a commit that replaces files; no ref moves yet.
pub(crate) fn prepare(
    repository: &Path,
    parent: &CommitId,
    files: impl Iterator<Item = (String, String)>,
) -> Result<CommitId> {
    let repo = git2::Repository::open_bare(repository)?;
    let parent = repo.find_commit(git2::Oid::from_str(parent.as_str())?)?;
    let mut update = git2::build::TreeUpdateBuilder::new();
    for (file, text) in files {
        update.upsert(file, repo.blob(text.as_bytes())?, git2::FileMode::Blob);
    }
    let tree = repo.find_tree(update.create_updated(&repo, &parent.tree()?)?)?;
    let who = git2::Signature::now("Ann", "ann@example.org")?;
    let id = repo.commit(None, &who, &who, "next", &tree, &[&parent])?;
    CommitId::parse(&id.to_string()).ok_or_else(|| "no commit".into())
}

/// Moves the branch, as the end of a push does.
pub(crate) fn move_branch(repository: &Path, to: &CommitId) -> Result<()> {
    let id = git2::Oid::from_str(to.as_str())?;
    git2::Repository::open_bare(repository)?.reference("refs/heads/main", id, true, "bench")?;
    Ok(())
}

/// Waits until the status branch shows everything and no thread works.
pub(crate) async fn settle(server: &Server) -> Result<()> {
    let begun = Instant::now();
    let mut before = (server.store().view().revision(), cpu_ms());
    loop {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let now = (server.store().view().revision(), cpu_ms());
        if now.0 == before.0 && now.1 - before.1 < 20.0 {
            return Ok(());
        }
        if begun.elapsed() > DEADLINE {
            return Err("the server does not come to rest".into());
        }
        before = now;
    }
}

/// The newest commit of a bare repository.
pub(crate) fn head(path: &Path) -> Result<CommitId> {
    let id = git(path, &["rev-parse", "refs/heads/main"])?;
    CommitId::parse(&id).ok_or_else(|| "no commit".into())
}

/// Runs git; gives what it printed.
pub(crate) fn git(dir: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git").args(args).current_dir(dir).output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {args:?}: {words}").into());
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

/// The wall clock.
pub(crate) fn now() -> Result<Timestamp> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Timestamp(i64::try_from(since.as_millis())?))
}

/// Keys for one server in `dir`.
pub(crate) fn keys(dir: &Path) -> Result<()> {
    let now = now()?;
    let keys = KeyFiles::new(dir.join(PKI));
    let ca = Ca::generate("bench", now)?;
    keys.write_ca(&ca)?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    keys.write_issued("server", &ca.issue(&server_leaf(&names, None), now)?)?;
    Ok(())
}

/// Starts a server of a new cluster that follows `repository`.
pub(crate) async fn server(dir: &Path, repository: &Path) -> Result<Server> {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let url = format!("file://{}", repository.display());
    let config = ServerConfig {
        listen: any,
        metrics: any,
        source: SourceConfig { url, ..SourceConfig::default() },
        ..ServerConfig::default()
    };
    let cluster = NetworkConfig::default().cluster("bench")?;
    let setup = Setup { commands: vec![StateCommand::Configure(cluster)] };
    Ok(Server::start(dir, &config, Some(setup)).await?)
}

/// Waits until a View is so; gives how long that took.
pub(crate) async fn until(server: &Server, is: impl Fn(&View) -> bool) -> Result<Duration> {
    let begun = Instant::now();
    let mut views = server.store().views();
    let wait = views.wait_for(|view| is(view));
    drop(tokio::time::timeout(DEADLINE, wait).await.map_err(|_| "waited too long")??);
    Ok(begun.elapsed())
}

/// Whether a commit is what the cluster runs.
pub(crate) fn runs(view: &View, commit: &CommitId) -> bool {
    view.head().is_some_and(|h| h.commit == *commit)
}
