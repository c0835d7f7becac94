//! What the driver of pods needs from a machine. Docker and the disk implement it; so can a
//! simulation.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    model::{Key, Timestamp},
    node::{
        Assignment,
        probe::{Action, Outcome},
        registry::Login,
        resources::Limits,
        seen::{Container, Sandbox},
        streams::{Command, Size, log::Filter},
        tokens::{Token, Wish},
    },
};

/// What went wrong on the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer in time, or no daemon: the truth is unknown, nothing may be concluded.
    #[error("the container runtime does not answer: {0}")]
    Unreachable(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The daemon refused, or the disk did.
    #[error("{0}")]
    Refused(String),
}

/// One pod as the machine shows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Its name, as far as labels tell; `None` when only its directory is left.
    pub key: Option<Key>,
    /// The grace period that its labels tell.
    pub grace: Option<Duration>,
    /// The sandbox.
    pub sandbox: Option<Sandbox>,
    /// The address that was given to the sandbox, running or not.
    pub claimed: Option<Ipv4Addr>,
    /// The containers, by name, then by attempt.
    pub containers: BTreeMap<String, Vec<Container>>,
    /// Volumes on disk and what was written to them last.
    pub volumes: BTreeMap<String, String>,
    /// The pod has a directory.
    pub directory: bool,
    /// Something of it gave no answer: no step may be taken.
    pub unknown: bool,
}

/// An image that is on the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundImage {
    /// `docker-pullable://…` or `docker://sha256:…`.
    pub id: String,
    /// The user it runs as.
    pub user: String,
}

/// Which lines of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Wait for more.
    pub follow: bool,
    /// Only the last ones.
    pub tail: Option<u64>,
    /// Of the container before the last restart.
    pub previous: bool,
    /// Of these, only what passes.
    pub filter: Filter,
}

/// A part of a log.
pub type LogStream = BoxStream<'static, Result<hyper::body::Bytes, Error>>;

/// Both directions of a connection, whatever carries it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A connection to something on the machine. Shutting its writing side down tells the other end
/// that nothing more comes, and leaves the reading side open.
pub type Wire = Box<dyn Duplex>;

/// A process and the connection to its input and outputs.
pub struct Attached {
    /// Its input, and its outputs: multiplexed, or bare with a terminal.
    pub wire: Wire,
    /// It has a terminal.
    pub tty: bool,
    /// Which process.
    pub process: Process,
}

/// A process that is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Process {
    /// One that was started in a container, by the id of that start.
    Exec(String),
    /// A container's own.
    Container(String),
}

/// A machine that runs pods. Every call ends within a deadline of its own.
pub trait Runtime: Clone + Send + Sync + 'static {
    /// The machine's clock.
    fn now(&self) -> Timestamp;

    /// All pods of ours that the machine has anything of, by uid; or only the one of `uid`.
    fn list(
        &self,
        uid: Option<&str>,
    ) -> impl Future<Output = Result<BTreeMap<String, Found>, Error>> + Send;

    /// The uids of pods to which something happens, from now on. Ends when the daemon goes away.
    fn watch(&self) -> impl Future<Output = Result<BoxStream<'static, String>, Error>> + Send;

    /// Brings every volume that can be made to its wanted content.
    fn write_volumes(&self, want: &Assignment) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes the sandbox with this address (none on the host's network).
    fn create_sandbox(
        &self,
        want: &Assignment,
        ip: Option<Ipv4Addr>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes a container, joined to the sandbox.
    fn create_container(
        &self,
        want: &Assignment,
        make: &Make,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Starts a container or sandbox. Returns a warning when the machine could not give it all it
    /// asked for.
    fn start(&self, id: &str) -> impl Future<Output = Result<Option<String>, Error>> + Send;

    /// Gives a running container another share of the machine.
    fn resize_container(
        &self,
        id: &str,
        limits: &Limits,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Sends the signal that asks it to stop.
    fn terminate(
        &self,
        id: &str,
        signal: Option<&str>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Ends it at once. What has ended already counts as done.
    fn kill(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes it. What is gone already counts as done.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Removes all that the disk has of a pod.
    fn remove_directory(&self, uid: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// The image, if it is on the machine.
    fn find_image(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<Option<FoundImage>, Error>> + Send;

    /// Pulls an image, as the first of these that the registry lets in; as nobody when there is
    /// none.
    fn pull(&self, image: &str, logins: &[Login])
    -> impl Future<Output = Result<(), Error>> + Send;

    /// Asks the cluster for a token of a pod's account, bound to the pod.
    fn token(
        &self,
        want: &Assignment,
        wish: &Wish,
    ) -> impl Future<Output = Result<Token, Error>> + Send;

    /// Does what a probe or hook asks for.
    fn act(
        &self,
        action: &Action,
        container: &str,
        ip: Option<IpAddr>,
        timeout: Duration,
    ) -> impl Future<Output = Outcome> + Send;

    /// What a container has written.
    fn logs(&self, id: &str, options: &LogOptions) -> LogStream;

    /// Starts a command in a running container.
    fn exec(
        &self,
        container: &str,
        command: &Command,
    ) -> impl Future<Output = Result<Attached, Error>> + Send;

    /// Attaches to a container's own process.
    fn attach(
        &self,
        container: &str,
        command: &Command,
    ) -> impl Future<Output = Result<Attached, Error>> + Send;

    /// Changes the size of a process' terminal.
    fn resize(
        &self,
        process: &Process,
        size: Size,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The code with which an exec ended; `None` while it runs.
    fn exit_code(&self, exec: &str) -> impl Future<Output = Result<Option<i64>, Error>> + Send;

    /// Connects to a port on the loopback address of a sandbox's network.
    fn connect(&self, sandbox: &str, port: u16)
    -> impl Future<Output = Result<Wire, Error>> + Send;
}

/// Which container to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Make {
    /// Its name.
    pub name: String,
    /// How often it was started before.
    pub attempt: u32,
    /// The delay before its next restart.
    pub backoff: Duration,
    /// The sandbox's id.
    pub sandbox: String,
    /// The id of the container whose processes it sees.
    pub target: Option<String>,
}
