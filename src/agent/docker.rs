//! Docker as the machine that runs pods.
//!
//! Every call has a deadline; a daemon that is away or hangs gives [`Error::Unreachable`], from
//! which nothing is concluded. Any engine since API 1.41 (Docker 20.10) will do.

mod bodies;
mod sweep;
mod terminals;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bollard::{
    Docker,
    auth::DockerCredentials,
    container::LogOutput,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    models::{ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
        ImportImageOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
        LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions,
    },
};
use futures_util::{StreamExt, stream::BoxStream};

use self::bodies::{container_body, container_name, mounts, reference, sandbox_body};
pub(super) use self::terminals::dial_error;
use super::{
    disk::Disk,
    failpoint, image, prober,
    runtime::{
        Attached, Error, Found, FoundImage, LogOptions, LogStream, Make, Process, Runtime, Wire,
    },
    servers::Servers,
    usage::Calls,
};
use crate::{
    model::{Key, Timestamp},
    node::{
        Assignment,
        probe::{Action, Outcome},
        registry::Login,
        resources::{self, Limits},
        seen::{Container, Exit, Sandbox, State, labels},
        streams::{Command, Size, multiplex::Source},
        tokens::{Token, Wish},
    },
};

/// Longest wait for an ordinary call. Starts take 0.3 s on an idle machine and some seconds on a
/// busy one.
const CALL: Duration = Duration::from_secs(60);
/// Longest wait for a look at one container: one that is stuck must not hold up the others for
/// long.
const LOOK: Duration = Duration::from_secs(15);
/// Longest wait for the daemon to say which API it speaks.
const NEGOTIATE: Duration = Duration::from_secs(5);
/// Longest pull. A registry that is away costs 20 s before it is refused; large images take
/// minutes.
const PULL: Duration = Duration::from_secs(30 * 60);
/// How many of a failed container's last log lines are read, and how much of them is kept, as
/// Kubernetes' `FallbackToLogsOnError`.
const TAIL_LINES: u64 = 80;
const TAIL_BYTES_MAX: usize = 2048;
/// Of how many containers the last lines are remembered (2 MiB); then they are read again.
const TAILS_MAX: usize = 1024;
/// Most containers looked at together.
const LOOKS_TOGETHER: usize = 8;

/// Docker and the disk of one machine.
#[derive(Clone)]
pub struct Machine {
    /// For everything but pulls.
    docker: Docker,
    /// The same engine with the time that pulls and streams need.
    patient: Docker,
    socket: Arc<str>,
    disk: Disk,
    network: Arc<str>,
    /// The host refuses negative OOM scores (no `CAP_SYS_RESOURCE`).
    oom_refused: Arc<AtomicBool>,
    calls: Arc<Calls>,
    /// The last log lines of containers that failed, by id: they end once and say no more.
    tails: Arc<Mutex<BTreeMap<String, String>>>,
    /// Who gives tokens; nobody in tests of the machine alone.
    servers: Option<Servers>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("network", &self.network).finish_non_exhaustive()
    }
}

impl Machine {
    /// Connects to the engine at `socket` (a path) and asks which API it speaks. Pods join the
    /// Docker network `network`, which someone else makes.
    pub async fn connect(socket: &str, network: &str, disk: Disk) -> Result<Self, Error> {
        let docker =
            Docker::connect_with_unix(socket, CALL.as_secs(), bollard::API_DEFAULT_VERSION)
                .map_err(|e| Error::Unreachable(e.to_string()))?;
        let calls = Arc::new(Calls::default());
        let docker = calls.within(NEGOTIATE, docker.negotiate_version()).await?;
        let patient = docker.clone().with_timeout(PULL);
        Ok(Self {
            docker,
            patient,
            socket: socket.into(),
            disk,
            network: network.into(),
            oom_refused: Arc::new(AtomicBool::new(false)),
            calls,
            tails: Arc::default(),
            servers: None,
        })
    }

    /// The same machine, which asks these servers for what its pods need of them.
    #[must_use]
    pub fn asking(self, servers: Servers) -> Self {
        Self { servers: Some(servers), ..self }
    }

    /// The engine, for those who look after its networks and images.
    pub fn docker(&self) -> Docker {
        self.docker.clone()
    }

    /// How the engine has answered so far.
    pub fn calls(&self) -> Arc<Calls> {
        self.calls.clone()
    }

    /// Removes every container of every pod, running or not, and the sandbox image. Gives what
    /// could not be removed.
    pub async fn remove_everything(&self) -> Vec<String> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let list = async || Ok(self.ids(None).await?.into_iter().map(|(id, _)| id).collect());
        let remove = async |id: String| {
            let removed = self.docker.remove_container(&id, Some(options.clone()));
            self.calls.within(CALL, removed).await
        };
        let mut problems = sweep::sweep(list, remove, sweep::PAUSE).await;
        let removed = self.docker.remove_image(image::SANDBOX, None::<RemoveImageOptions>, None);
        match deadline(CALL, removed).await.map(drop) {
            // Refused: another agent's sandboxes use it.
            Ok(()) | Err(Error::NotFound(_) | Error::Refused(_)) => {}
            Err(error) => problems.push(format!("image {}: {error}", image::SANDBOX)),
        }
        problems
    }

    /// The ids of our containers and the uids of their pods.
    async fn ids(&self, uid: Option<&str>) -> Result<Vec<(String, String)>, Error> {
        let label = match uid {
            Some(uid) => format!("{}={uid}", labels::UID),
            None => labels::UID.to_owned(),
        };
        let filters = [("label".to_owned(), vec![label])].into_iter().collect();
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let list = self.calls.within(LOOK, self.docker.list_containers(Some(options))).await?;
        let ids = |c: bollard::models::ContainerSummary| {
            Some((c.id?, c.labels.unwrap_or_default().remove(labels::UID)?))
        };
        Ok(list.into_iter().filter_map(ids).collect())
    }

    /// One container; `None` when it went away meanwhile.
    async fn look(&self, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        match self.calls.within(LOOK, self.docker.inspect_container(id, None)).await {
            Ok(container) => Ok(Some(container)),
            Err(Error::NotFound(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads the last log lines of what failed without a message; each container's once.
    async fn read_tails(&self, found: &mut Found) {
        for container in found.containers.values_mut().flatten() {
            let State::Exited(exit) = &mut container.state else { continue };
            if exit.code != 0 && exit.message.is_empty() && exit.error.is_empty() {
                exit.tail = self.tail(&container.id).await;
            }
        }
    }

    async fn tail(&self, id: &str) -> String {
        let tails = || self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tails().get(id) {
            return known.clone();
        }
        let options = LogOptions { tail: Some(TAIL_LINES), ..LogOptions::default() };
        let read = async {
            let mut lines = self.logs(id, &options);
            let mut text = Vec::new();
            while let Some(Ok(line)) = lines.next().await {
                text.extend_from_slice(&line);
                // Only the end counts, and a line may be as long as it likes.
                text.drain(..text.len().saturating_sub(TAIL_BYTES_MAX));
            }
            text
        };
        // No lines are no failure of the look: the exit code is known all the same.
        let text = tokio::time::timeout(LOOK, read).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        let mut tails = tails();
        if tails.len() >= TAILS_MAX {
            tails.clear();
        }
        tails.insert(id.to_owned(), text.clone());
        text
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Disk) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let disk = self.disk.clone();
        let done = tokio::task::spawn_blocking(move || work(&disk)).await;
        let done = done.map_err(|e| Error::Refused(e.to_string()))?;
        done.map_err(|e| Error::Refused(e.to_string()))
    }

    /// Makes a container; one of that name that is there already is ours from an attempt that was
    /// cut short, and the next look finds it.
    async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<(), Error> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        match self.calls.within(CALL, self.docker.create_container(Some(options), body)).await {
            Err(Error::Refused(m)) if m.contains("is already in use by container") => Ok(()),
            result => result.map(drop),
        }
    }

    async fn load_sandbox_image(&self) -> Result<(), Error> {
        let tar = image::sandbox().map_err(|e| Error::Refused(e.to_string()))?;
        load(&self.docker, tar).await
    }

    fn oom_score_adj(&self, wanted: i64) -> i64 {
        if self.oom_refused.load(Ordering::Relaxed) { wanted.max(0) } else { wanted }
    }

    async fn command(
        &self,
        container: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<Outcome, Error> {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let run = async {
            let exec = self.docker.create_exec(container, options).await?.id;
            let start = self.docker.start_exec(&exec, Some(StartExecOptions::default())).await?;
            let mut said = Vec::new();
            if let StartExecResults::Attached { mut output, input } = start {
                while let Some(part) = output.next().await {
                    let room = prober::ANSWER_BYTES_MAX.saturating_sub(said.len());
                    let part = part?;
                    said.extend(part.as_ref().iter().take(room));
                }
                drop(input);
            }
            let code = self.docker.inspect_exec(&exec).await?.exit_code;
            Ok((code, said))
        };
        let (code, said) = match tokio::time::timeout(timeout, run).await {
            Ok(result) => result.map_err(error)?,
            // A daemon that hangs says nothing about the container.
            Err(_) => {
                self.calls.within(NEGOTIATE, self.docker.ping()).await?;
                let text = format!("command timed out after {}s", timeout.as_secs());
                return Ok(Outcome::Failure(text));
            }
        };
        Ok(match code {
            Some(0) => Outcome::Success,
            _ => Outcome::Failure(String::from_utf8_lossy(&said).trim_end().to_owned()),
        })
    }
}

/// Loads a docker-archive into an engine.
pub async fn load(docker: &Docker, tar: Vec<u8>) -> Result<(), Error> {
    let body = bollard::body_full(tar.into());
    let options = ImportImageOptionsBuilder::new().quiet(true).build();
    let mut stream = docker.import_image(options, body, None);
    let drain = async {
        while let Some(part) = stream.next().await {
            part?;
        }
        Ok(())
    };
    deadline(CALL, drain).await
}

impl Calls {
    /// The answer within `limit`, counted.
    async fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        let result = deadline(limit, call).await;
        match &result {
            Ok(_) | Err(Error::NotFound(_)) => self.answered(),
            Err(Error::Refused(_)) => self.refused(),
            Err(Error::Unreachable(_)) => self.unanswered(),
        }
        result
    }
}

async fn deadline<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result.map_err(error),
        Err(_) => Err(Error::Unreachable(format!("no answer within {}s", limit.as_secs()))),
    }
}

/// What the daemon itself answered is a refusal; everything else means that nothing is known.
fn error(e: bollard::errors::Error) -> Error {
    use bollard::errors::Error as E;
    match e {
        E::DockerResponseServerError { status_code: 404, message } => Error::NotFound(message),
        E::DockerResponseServerError { message, .. } => Error::Refused(message),
        E::DockerStreamError { error } => Error::Refused(error),
        E::JsonDataError { message, .. } => Error::Refused(message),
        other => Error::Unreachable(other.to_string()),
    }
}

impl Runtime for Machine {
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    async fn list(&self, uid: Option<&str>) -> Result<BTreeMap<String, Found>, Error> {
        let ids = self.ids(uid).await?;
        let count = ids.len();
        let look = async |(id, uid): (String, String)| (uid, self.look(&id).await);
        let looks = futures_util::stream::iter(ids.into_iter().map(look));
        let looks: Vec<_> = looks.buffer_unordered(LOOKS_TOGETHER).collect().await;
        let mut pods = self.directories(uid).await?;
        let mut silent = 0;
        for (pod, look) in looks {
            match look {
                Ok(Some(container)) => self.file(container, &mut pods),
                Ok(None) => {}
                // One stuck container leaves its own pod unknown; when none on the machine answers,
                // it is the daemon.
                Err(e) if uid.is_none() && silent + 1 == count => return Err(e),
                Err(_) => {
                    silent += 1;
                    pods.entry(pod).or_default().unknown = true;
                }
            }
        }
        for found in pods.values_mut() {
            for list in found.containers.values_mut() {
                list.sort_by_key(|c| (c.attempt, c.created));
            }
            self.read_tails(found).await;
        }
        Ok(pods)
    }

    async fn watch(&self) -> Result<BoxStream<'static, String>, Error> {
        let filters = [
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![labels::UID.to_owned()]),
            (
                "event".to_owned(),
                ["die", "start", "destroy", "oom", "create"].map(str::to_owned).to_vec(),
            ),
        ];
        let options = EventsOptionsBuilder::new().filters(&filters.into_iter().collect()).build();
        // The stream says nothing until something happens; a ping says that the daemon is there.
        self.calls.within(NEGOTIATE, self.docker.ping()).await?;
        let docker = self.patient.clone();
        let events = docker.events(Some(options));
        let uid = |event: bollard::models::EventMessage| {
            event.actor.and_then(|a| a.attributes).and_then(|mut a| a.remove(labels::UID))
        };
        let uids = events.take_while(|e| std::future::ready(e.is_ok()));
        Ok(uids.filter_map(move |e| std::future::ready(e.ok().and_then(uid))).boxed())
    }

    async fn write_volumes(&self, want: &Assignment) -> Result<(), Error> {
        let want = want.clone();
        self.blocking(move |disk| disk.write(&want)).await
    }

    async fn create_sandbox(&self, want: &Assignment, ip: Option<Ipv4Addr>) -> Result<(), Error> {
        let body = sandbox_body(
            want,
            ip,
            &self.network,
            self.oom_score_adj(resources::SANDBOX_OOM_SCORE_ADJ),
        );
        let name = container_name("POD", want, 0);
        let uid = want.uid.clone();
        let make_directory = move |disk: &Disk| disk.pod_file(&uid, "sandbox", "").map(drop);
        self.blocking(make_directory).await?;
        let result = match self.create(&name, body.clone()).await {
            Err(Error::NotFound(m)) if m.contains("No such image") => {
                self.load_sandbox_image().await?;
                self.create(&name, body).await
            }
            result => result,
        };
        failpoint::reached("after-create-sandbox");
        result
    }

    async fn create_container(&self, want: &Assignment, make: &Make) -> Result<(), Error> {
        let (wanted, made) = (want.clone(), make.clone());
        let mounts = self.blocking(move |disk| mounts(disk, &wanted, &made)).await?;
        failpoint::reached("after-container-files");
        let spec = want.container(&make.name);
        let spec = spec.ok_or_else(|| Error::Refused(format!("no container {:?}", make.name)))?;
        let oom = self.oom_score_adj(spec.limits.oom_score_adj);
        let body = container_body(want, spec, make, mounts, oom)?;
        let name = container_name(&make.name, want, make.attempt);
        let result = self.create(&name, body).await;
        failpoint::reached("after-create-container");
        result
    }

    async fn start(&self, id: &str) -> Result<Option<String>, Error> {
        let result = self.calls.within(CALL, self.docker.start_container(id, None)).await;
        failpoint::reached("after-start");
        match result {
            Ok(()) => Ok(None),
            Err(Error::Refused(message)) => {
                let seen = self.calls.within(LOOK, self.docker.inspect_container(id, None)).await?;
                let score = seen.host_config.and_then(|h| h.oom_score_adj).unwrap_or_default();
                if score >= 0 {
                    return Err(Error::Refused(message));
                }
                // Without CAP_SYS_RESOURCE the kernel refuses negative scores, and runc says so in
                // words that do not tell. Made again without one, it will start, or fail for its
                // true reason. Several may have been made with one before the first was refused.
                self.oom_refused.store(true, Ordering::Relaxed);
                self.remove(id).await?;
                Ok(Some(format!(
                    "this host refuses negative OOM scores (is CAP_SYS_RESOURCE missing?); \
                     Guaranteed pods are not protected from the OOM killer: {message}"
                )))
            }
            Err(e) => Err(e),
        }
    }

    async fn resize_container(&self, id: &str, limits: &Limits) -> Result<(), Error> {
        let body = bodies::update_body(limits);
        self.calls.within(CALL, self.docker.update_container(id, body)).await
    }

    async fn terminate(&self, id: &str, signal: Option<&str>) -> Result<(), Error> {
        let signal = match signal {
            Some(signal) => signal.to_owned(),
            None => {
                let seen = self.calls.within(LOOK, self.docker.inspect_container(id, None)).await;
                match seen {
                    Ok(seen) => seen.config.and_then(|c| c.stop_signal).unwrap_or_default(),
                    Err(Error::NotFound(_)) => return Ok(()),
                    Err(e) => return Err(e),
                }
            }
        };
        let signal = if signal.is_empty() { "SIGTERM" } else { &signal };
        self.signal(id, signal).await?;
        failpoint::reached("after-terminate");
        Ok(())
    }

    async fn kill(&self, id: &str) -> Result<(), Error> {
        self.signal(id, "SIGKILL").await?;
        failpoint::reached("after-kill");
        Ok(())
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let result =
            match self.calls.within(CALL, self.docker.remove_container(id, Some(options))).await {
                Err(Error::NotFound(_)) => Ok(()),
                // Somebody else, or we before a restart, asked for it already.
                Err(Error::Refused(m)) if m.contains("is already in progress") => Ok(()),
                result => result,
            };
        failpoint::reached("after-remove");
        result
    }

    async fn remove_directory(&self, uid: &str) -> Result<(), Error> {
        let uid = uid.to_owned();
        self.blocking(move |disk| disk.remove(&uid)).await?;
        failpoint::reached("after-remove-directory");
        Ok(())
    }

    async fn find_image(&self, image: &str) -> Result<Option<FoundImage>, Error> {
        let found = match self.calls.within(LOOK, self.docker.inspect_image(image)).await {
            Ok(found) => found,
            Err(Error::NotFound(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        let digest = found.repo_digests.unwrap_or_default().into_iter().next();
        let id = match (digest, found.id) {
            (Some(digest), _) => format!("docker-pullable://{digest}"),
            (None, Some(id)) => format!("docker://{id}"),
            (None, None) => String::new(),
        };
        let user = found.config.and_then(|c| c.user).unwrap_or_default();
        Ok(Some(FoundImage { id, user }))
    }

    async fn pull(&self, image: &str, logins: &[Login]) -> Result<(), Error> {
        let mut result = Ok(());
        for login in logins {
            result = self.pull_as(image, Some(bodies::credentials(login))).await;
            if result.is_ok() {
                return result;
            }
        }
        // What was refused to all is told as it was refused, not as it would be to nobody.
        if logins.is_empty() { self.pull_as(image, None).await } else { result }
    }

    async fn token(&self, want: &Assignment, wish: &Wish) -> Result<Token, Error> {
        match &self.servers {
            Some(servers) => servers.token(want, wish).await,
            None => Err(Error::Refused("this node asks no server".to_owned())),
        }
    }

    async fn act(
        &self,
        action: &Action,
        container: &str,
        ip: Option<IpAddr>,
        timeout: Duration,
    ) -> Outcome {
        match action {
            Action::Exec(command) => match self.command(container, command, timeout).await {
                Ok(outcome) => outcome,
                Err(Error::Unreachable(_)) => Outcome::Unknown,
                Err(e) => Outcome::Failure(e.to_string()),
            },
            other => prober::act(other, ip, timeout).await,
        }
    }

    fn logs(&self, id: &str, options: &LogOptions) -> LogStream {
        let mut filter = options.filter.clone();
        let mut query = LogsOptionsBuilder::new()
            .follow(options.follow)
            .stdout(true)
            .stderr(true)
            .timestamps(filter.needs_times());
        // Docker counts whole seconds: lines of the same second come too, and are filtered here.
        if let Some(since) = filter.since {
            query = query.since(i32::try_from(since.0.div_euclid(1000)).unwrap_or(i32::MAX));
        }
        let tail = options.tail.map_or("all".to_owned(), |n| n.to_string());
        let stream = self.patient.logs(id, Some(query.tail(&tail).build()));
        let passed = stream.map(move |part| {
            let part = match part {
                Ok(part) => part,
                Err(e) => return Some(Err(error(e))),
            };
            let source = match &part {
                LogOutput::StdErr { .. } => Source::Stderr,
                _ => Source::Stdout,
            };
            let record = part.into_bytes();
            filter.pass(source, &record).map(|kept| Ok(record.slice_ref(kept)))
        });
        passed
            .take_while(|part| std::future::ready(part.is_some()))
            .filter_map(std::future::ready)
            .boxed()
    }

    async fn exec(&self, container: &str, command: &Command) -> Result<Attached, Error> {
        self.start_command(container, command).await
    }

    async fn attach(&self, container: &str, command: &Command) -> Result<Attached, Error> {
        self.attach_to(container, command).await
    }

    async fn resize(&self, process: &Process, size: Size) -> Result<(), Error> {
        self.resize_terminal(process, size).await
    }

    async fn exit_code(&self, exec: &str) -> Result<Option<i64>, Error> {
        let seen = self.calls.within(LOOK, self.docker.inspect_exec(exec)).await?;
        Ok(seen.exit_code.filter(|_| seen.running != Some(true)))
    }

    async fn connect(&self, sandbox: &str, port: u16) -> Result<Wire, Error> {
        self.connect_inside(sandbox, port).await
    }
}

impl Machine {
    async fn pull_as(&self, image: &str, who: Option<DockerCredentials>) -> Result<(), Error> {
        let (name, tag) = reference(image);
        let options = CreateImageOptionsBuilder::new().from_image(&name).tag(&tag).build();
        let mut stream = self.patient.create_image(Some(options), None, who);
        let drain = async {
            while let Some(part) = stream.next().await {
                part?;
            }
            Ok(())
        };
        self.calls.within(PULL, drain).await
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), Error> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        match self.calls.within(CALL, self.docker.kill_container(id, Some(options))).await {
            Err(Error::NotFound(_)) => Ok(()),
            Err(Error::Refused(m)) if m.contains("is not running") => Ok(()),
            result => result,
        }
    }

    async fn directories(&self, uid: Option<&str>) -> Result<BTreeMap<String, Found>, Error> {
        let wanted = uid.map(str::to_owned);
        let volumes = self
            .blocking(move |disk| match wanted {
                None => disk.list(),
                Some(uid) => Ok(disk.pod(&uid)?.into_iter().map(|v| (uid.clone(), v)).collect()),
            })
            .await?;
        let found = |volumes| Found { directory: true, volumes, ..Found::default() };
        Ok(volumes.into_iter().map(|(uid, volumes)| (uid, found(volumes))).collect())
    }

    /// Files one inspected container under its pod.
    fn file(&self, container: ContainerInspectResponse, pods: &mut BTreeMap<String, Found>) {
        let labels = container.config.as_ref().and_then(|c| c.labels.as_ref());
        let label = |name: &str| labels.and_then(|l| l.get(name)).cloned().unwrap_or_default();
        let uid = label(labels::UID);
        let found = pods.entry(uid.clone()).or_default();
        let key = Key::of::<k8s_openapi::api::core::v1::Pod>(
            &label(labels::NAMESPACE),
            &label(labels::POD),
        );
        found.key = Some(key);
        found.grace = label(labels::GRACE).parse().ok().map(Duration::from_secs);
        let mut state = state(&container);
        let id = container.id.clone().unwrap_or_default();
        let created = time(container.created.as_deref());
        if label(labels::KIND) == "sandbox" {
            found.claimed = label(labels::IP).parse().ok();
            let ip = found.claimed.filter(|_| state.is_running()).map(IpAddr::V4);
            found.sandbox = Some(Sandbox { id, state, ip, created });
            return;
        }
        let (name, attempt) = (label(labels::CONTAINER), label(labels::ATTEMPT));
        let attempt = attempt.parse().unwrap_or_default();
        if let State::Exited(exit) = &mut state {
            exit.message = self.disk.message(&uid, &name, attempt);
        }
        found.containers.entry(name).or_default().push(Container {
            id,
            attempt,
            backoff: Duration::from_millis(label(labels::BACKOFF).parse().unwrap_or_default()),
            sandbox: label(labels::SANDBOX),
            hash: label(labels::HASH),
            image_id: container.image.unwrap_or_default(),
            created,
            limits: container.host_config.as_ref().map(bodies::limits_of),
            state,
        });
    }
}

fn time(text: Option<&str>) -> Timestamp {
    let parsed: Option<jiff::Timestamp> = text.and_then(|t| t.parse().ok());
    // Docker writes year 1 for "never".
    Timestamp(parsed.map_or(0, |t| t.as_millisecond()).max(0))
}

fn state(container: &ContainerInspectResponse) -> State {
    let Some(s) = &container.state else { return State::Created };
    let created = time(container.created.as_deref());
    let started = time(s.started_at.as_deref());
    let started = if started == Timestamp(0) { created } else { started };
    let error = s.error.clone().unwrap_or_default();
    let code = s.exit_code.unwrap_or_default();
    let exit = |error: String| {
        let finished = time(s.finished_at.as_deref()).max(started);
        let code = i32::try_from(code).unwrap_or(-1);
        let oom = s.oom_killed == Some(true);
        State::Exited(Exit { code, started, finished, oom, error, ..Exit::default() })
    };
    use ContainerStateStatusEnum as S;
    match s.status {
        Some(S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING) => State::Running(started),
        Some(S::CREATED) if code == 0 && error.is_empty() => State::Created,
        // Its start failed.
        Some(S::CREATED) => exit(error),
        Some(S::EMPTY) | None if s.running == Some(true) => State::Running(started),
        // A daemon's note on one that did run (an unclean shutdown) is not a failed start.
        _ => exit(if s.started_at.as_deref().is_some_and(|t| time(Some(t)).0 > 0) {
            String::new()
        } else {
            error
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_split_as_docker_splits_them() {
        for (image, name, tag) in [
            ("web", "web", "latest"),
            ("web:1", "web", "1"),
            ("localhost:5000/web", "localhost:5000/web", "latest"),
            ("localhost:5000/a/web:1.2", "localhost:5000/a/web", "1.2"),
            ("web@sha256:ab", "web", "sha256:ab"),
        ] {
            assert_eq!(reference(image), (name.to_owned(), tag.to_owned()), "{image}");
        }
    }

    #[test]
    fn a_failed_start_has_ended_and_a_fresh_container_has_not() {
        let seen = |status, exit_code, error: &str, started: &str| {
            state(&ContainerInspectResponse {
                created: Some("2026-01-02T03:04:05.5Z".into()),
                state: Some(bollard::models::ContainerState {
                    status: Some(status),
                    exit_code: Some(exit_code),
                    error: Some(error.to_owned()),
                    started_at: Some(started.to_owned()),
                    finished_at: Some("0001-01-01T00:00:00Z".into()),
                    ..Default::default()
                }),
                ..Default::default()
            })
        };
        use ContainerStateStatusEnum as S;
        let never = "0001-01-01T00:00:00Z";
        let created = Timestamp(1_767_323_045_500);
        assert_eq!(seen(S::CREATED, 0, "", never), State::Created);
        let State::Exited(exit) = seen(S::CREATED, 127, "no such file", never) else {
            panic!("a failed start must have ended")
        };
        assert_eq!((exit.code, exit.error.as_str()), (127, "no such file"));
        assert_eq!((exit.started, exit.finished), (created, created));
        let ran = "2026-01-02T03:04:06Z";
        assert_eq!(seen(S::RUNNING, 0, "", ran), State::Running(Timestamp(1_767_323_046_000)));
    }
}
