//! Port-forward: each connection of the client becomes one into the pod.

use std::{collections::BTreeMap, sync::Arc};

use hyper::body::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinSet,
};

use super::{
    CHUNK_BYTES,
    activity::Activity,
    spdy::{Answers, Connection, Gone, Stream},
};
use crate::{
    agent::runtime::{Duplex, Runtime, Wire},
    node::streams::spdy::{Reset, StreamId},
};

/// Most connections of one port-forward at once; a browser opens a few dozen.
const CONNECTIONS_MAX: usize = 256;

/// Most connections of which only one of the two streams has been opened.
const HALVES_MAX: usize = 64;

/// The pod to whose ports connections go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Docker's id of its sandbox.
    pub(super) sandbox: String,
    /// For messages.
    pub(super) pod: String,
}

impl Target {
    /// Connects, or says why not in Kubernetes' words.
    pub(super) async fn connect<R: Runtime>(&self, runtime: &R, port: u16) -> Result<Wire, String> {
        runtime.connect(&self.sandbox, port).await.map_err(|error| {
            format!("error forwarding port {port} to pod {}, uid : {error}", self.pod)
        })
    }
}

/// One connection, as its streams are opened.
#[derive(Default)]
struct Half {
    error: Option<StreamId>,
    data: Option<Stream>,
}

/// Serves a port-forward until the client goes.
pub(super) async fn spdy<R: Runtime>(io: impl Duplex, runtime: &R, target: &Target) {
    let mut connection = Connection::start(io);
    let mut halves: BTreeMap<String, Half> = BTreeMap::new();
    let mut running = JoinSet::new();
    let activity = connection.activity.clone();
    loop {
        let opened = tokio::select! {
            opened = connection.streams.recv() => opened,
            Some(_ended) = running.join_next() => continue,
            () = activity.idle() => None,
        };
        let Some(stream) = opened else { break };
        let full = running.len() >= CONNECTIONS_MAX || halves.len() >= HALVES_MAX;
        let kept = if full { Err(stream.id) } else { file(&mut halves, stream) };
        match kept {
            Ok(None) => {}
            Ok(Some((error, data))) => {
                let each = Each { error, answers: connection.answers.clone() };
                let (runtime, target) = (runtime.clone(), target.clone());
                running.spawn(async move { each.carry(&runtime, &target, data).await });
            }
            Err(stream) => drop(connection.answers.reset(stream, Reset::Refused).await),
        }
    }
    drop(running);
    connection.end().await;
}

/// Puts a stream with the other one of its connection, which are told by the same id.
fn file(
    halves: &mut BTreeMap<String, Half>,
    stream: Stream,
) -> Result<Option<(StreamId, Stream)>, StreamId> {
    let id = stream.header("requestid").to_owned();
    let half = halves.entry(id.clone()).or_default();
    match stream.header("streamtype") {
        "error" => half.error = Some(stream.id),
        "data" => half.data = Some(stream),
        _ => {
            halves.remove(&id);
            return Err(stream.id);
        }
    }
    if half.error.is_none() || half.data.is_none() {
        return Ok(None);
    }
    Ok(halves.remove(&id).and_then(|half| Some((half.error?, half.data?))))
}

/// One connection.
struct Each {
    error: StreamId,
    answers: Answers,
}

impl Each {
    async fn carry<R: Runtime>(self, runtime: &R, target: &Target, mut data: Stream) {
        let (id, gone) = (data.id, data.gone.clone());
        let connected = match data.header("port").parse() {
            Ok(port) => target.connect(runtime, port).await,
            Err(_) => Err(format!("{:?} is not a port", data.header("port"))),
        };
        let done = match connected {
            Err(why) => self.refuse(id, why).await,
            Ok(wire) => {
                let (from, to) = tokio::io::split(wire);
                let both = async {
                    tokio::join!(down(from, id, &self.answers), up(to, &mut data.bytes)).0
                };
                tokio::select! {
                    done = both => done,
                    () = gone.cancelled() => Ok(()),
                }
            }
        };
        if done.is_ok() {
            // The client may go at any time.
            let _gone = self.answers.finish(self.error).await;
        }
    }

    async fn refuse(&self, data: StreamId, why: String) -> Result<(), Gone> {
        self.answers.data(self.error, why.into()).await?;
        self.answers.finish(data).await
    }
}

/// Carries what the pod sends, and tells when that is over.
async fn down(mut from: ReadHalf<Wire>, stream: StreamId, answers: &Answers) -> Result<(), Gone> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return answers.finish(stream).await,
            Ok(read) => answers.data(stream, Bytes::copy_from_slice(&buffer[..read])).await?,
        }
    }
}

/// Carries what the client sends, and closes the pod's side when that is over.
pub(super) async fn up(mut to: WriteHalf<Wire>, bytes: &mut mpsc::Receiver<Bytes>) {
    while let Some(part) = bytes.recv().await {
        if to.write_all(&part).await.is_err() {
            return;
        }
    }
    // The pod may have closed already.
    let _closed = to.shutdown().await;
}

/// Carries what one port of a pod sends into messages.
pub(super) async fn down_packed(
    mut from: ReadHalf<Wire>,
    pack: impl Fn(&[u8]) -> Vec<u8>,
    messages: &mpsc::Sender<Vec<u8>>,
    activity: &Arc<Activity>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        activity.touch();
        if messages.send(pack(&buffer[..read])).await.is_err() {
            return;
        }
    }
}
