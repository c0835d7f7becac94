//! A SPDY connection: its two loops, and exec and attach over it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use hyper::body::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    CHUNK_BYTES, LINGER, OPENING_MAX, PIECES_MAX,
    activity::Activity,
    command::{self, Job, Out},
};
use crate::{
    agent::runtime::{Duplex, Runtime},
    node::streams::{
        Ended, Sizes,
        multiplex::Source,
        spdy::{Decoder, Encoder, Event, Reset, StreamId},
    },
};

/// The protocols of exec and attach over SPDY, the best first. Version 5 says nothing new here.
pub(super) const COMMAND_PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// The protocol of port-forward over SPDY.
pub(super) const FORWARD_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];

/// Streams that were opened and wait for whoever serves the connection.
const OPENED_MAX: usize = 64;

/// Answers that wait for the connection.
const ANSWERS_MAX: usize = 8;

/// A stream that the client opened.
pub(super) struct Stream {
    pub(super) id: StreamId,
    headers: Vec<(String, String)>,
    /// What it sends; over when it closed its side.
    pub(super) bytes: mpsc::Receiver<Bytes>,
    /// It gave the stream up.
    pub(super) gone: CancellationToken,
}

impl Stream {
    /// A header, by its name in lower case; empty when there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

enum Answer {
    Reply(StreamId),
    Data(StreamId, Bytes),
    Finish(StreamId),
    Reset(StreamId, Reset),
    Pong(u32),
    End,
}

/// The connection takes no answers any more.
pub(super) struct Gone;

/// Sends on streams. Waits while the client is behind.
#[derive(Clone)]
pub(super) struct Answers(mpsc::Sender<Answer>);

impl Answers {
    pub(super) async fn data(&self, stream: StreamId, bytes: Bytes) -> Result<(), Gone> {
        self.send(Answer::Data(stream, bytes)).await
    }

    pub(super) async fn finish(&self, stream: StreamId) -> Result<(), Gone> {
        self.send(Answer::Finish(stream)).await
    }

    pub(super) async fn reset(&self, stream: StreamId, why: Reset) -> Result<(), Gone> {
        self.send(Answer::Reset(stream, why)).await
    }

    async fn send(&self, answer: Answer) -> Result<(), Gone> {
        self.0.send(answer).await.map_err(|_| Gone)
    }
}

/// A connection that is served by its two loops.
pub(super) struct Connection {
    /// What the client opens; over when it has gone.
    pub(super) streams: mpsc::Receiver<Stream>,
    pub(super) answers: Answers,
    pub(super) activity: Arc<Activity>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
}

impl Connection {
    pub(super) fn start(io: impl Duplex) -> Self {
        let (from, to) = tokio::io::split(io);
        let activity = Arc::new(Activity::new());
        let (opened, streams) = mpsc::channel(OPENED_MAX);
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let answering = Answers(sender);
        let reader = Reader {
            decoder: Decoder::default(),
            open: BTreeMap::new(),
            opened,
            answers: answering.clone(),
            activity: activity.clone(),
        };
        let reading = tokio::spawn(reader.run(from));
        let writing = tokio::spawn(write(to, answers, activity.clone()));
        Self { streams, answers: answering, activity, reading, writing }
    }

    /// Sends what is still to be sent, and gives the client time to take it and to close: a
    /// connection that is cut while it still sends would lose it.
    pub(super) async fn end(self) {
        let Self { streams, answers, mut reading, mut writing, .. } = self;
        drop(streams);
        let over = async {
            let _gone = answers.send(Answer::End).await;
            let _ended = (&mut writing).await;
            let _ended = (&mut reading).await;
        };
        if timeout(LINGER, over).await.is_err() {
            reading.abort();
            writing.abort();
        }
    }
}

struct Reader {
    decoder: Decoder,
    open: BTreeMap<StreamId, (mpsc::Sender<Bytes>, CancellationToken)>,
    opened: mpsc::Sender<Stream>,
    answers: Answers,
    activity: Arc<Activity>,
}

impl Reader {
    async fn run<I: Duplex>(mut self, mut from: ReadHalf<I>) {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let read = match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            let events = match self.decoder.receive(&buffer[..read]) {
                Ok(events) => events,
                Err(error) => return tracing::debug!(event = "stream broken off", %error),
            };
            for event in events {
                if self.on(event).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn on(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Opened { stream, headers } => return self.open(stream, headers).await,
            Event::Refused(stream) => return self.answers.reset(stream, Reset::Refused).await,
            Event::Ping(number) => return self.answers.send(Answer::Pong(number)).await,
            Event::Data { stream, bytes } => {
                self.activity.touch();
                let Some((sender, _)) = self.open.get(&stream) else { return Ok(()) };
                // Waits while its reader is behind: nothing else holds the client back.
                if sender.send(bytes.into()).await.is_err() {
                    self.forget(stream);
                }
            }
            Event::Finished(stream) => self.forget(stream),
            Event::Reset(stream) => {
                if let Some((_, gone)) = self.open.get(&stream) {
                    gone.cancel();
                }
                self.forget(stream);
            }
            Event::GoAway => {}
        }
        Ok(())
    }

    async fn open(&mut self, id: StreamId, headers: Vec<(String, String)>) -> Result<(), Gone> {
        let (sender, bytes) = mpsc::channel(PIECES_MAX);
        let gone = CancellationToken::new();
        self.open.insert(id, (sender, gone.clone()));
        self.answers.send(Answer::Reply(id)).await?;
        let stream = Stream { id, headers, bytes, gone };
        match self.opened.send(stream).await {
            Ok(()) => Ok(()),
            // The job is done; the client learns of it in a moment.
            Err(_) => self.answers.reset(id, Reset::Refused).await,
        }
    }

    fn forget(&mut self, stream: StreamId) {
        self.open.remove(&stream);
        self.decoder.forget(stream);
    }
}

async fn write<I: Duplex>(
    mut to: WriteHalf<I>,
    mut answers: mpsc::Receiver<Answer>,
    activity: Arc<Activity>,
) {
    let mut encoder = Encoder::default();
    while let Some(answer) = answers.recv().await {
        let bytes = match answer {
            Answer::Reply(stream) => encoder.reply(stream),
            Answer::Data(stream, bytes) => {
                activity.touch();
                encoder.data(stream, &bytes)
            }
            Answer::Finish(stream) => encoder.finish(stream),
            Answer::Reset(stream, why) => encoder.reset(stream, why),
            Answer::Pong(number) => encoder.pong(number),
            Answer::End => break,
        };
        let sent = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        if sent.await.is_err() {
            return;
        }
    }
    // The client closes in turn, or has gone already.
    let _gone = to.shutdown().await;
}

/// Serves an exec or attach.
pub(super) async fn command<R: Runtime>(io: impl Duplex, protocol: &str, runtime: &R, job: &Job) {
    let mut connection = Connection::start(io);
    let opening = timeout(OPENING_MAX, gather(&mut connection, protocol, job)).await;
    if let Ok(Some(streams)) = opening {
        converse(&mut connection, streams, protocol, runtime, job).await;
    }
    connection.end().await;
}

/// The streams that the job needs, once all are open.
async fn gather(
    connection: &mut Connection,
    protocol: &str,
    job: &Job,
) -> Option<BTreeMap<String, Stream>> {
    let (command, resizes) =
        (&job.command, !matches!(protocol, "v2.channel.k8s.io" | "channel.k8s.io"));
    let all = [
        ("error", true),
        ("stdin", command.stdin),
        ("stdout", command.stdout),
        ("stderr", command.stderr),
        ("resize", command.tty && resizes),
    ];
    let mut missing: BTreeSet<&str> = all.iter().filter(|(_, on)| *on).map(|(n, _)| *n).collect();
    let mut streams = BTreeMap::new();
    while !missing.is_empty() {
        let stream = connection.streams.recv().await?;
        let kind = stream.header("streamtype").to_owned();
        if missing.remove(kind.as_str()) {
            streams.insert(kind, stream);
        } else {
            connection.answers.reset(stream.id, Reset::Refused).await.ok()?;
        }
    }
    Some(streams)
}

async fn converse<R: Runtime>(
    connection: &mut Connection,
    mut streams: BTreeMap<String, Stream>,
    protocol: &str,
    runtime: &R,
    job: &Job,
) {
    let (mut client, ends) = command::client();
    // A stream of the client is the input, as it is.
    let _unopened = ends.stdin;
    if let Some(stdin) = streams.remove("stdin") {
        client.stdin = stdin.bytes;
    }
    let resizing = streams.remove("resize").map(|stream| stream.bytes);
    let id = |name: &str| streams.get(name).map(|stream| stream.id);
    let told = Told {
        stdout: id("stdout"),
        stderr: id("stderr"),
        error: id("error"),
        as_status: protocol == COMMAND_PROTOCOLS[0],
        answers: connection.answers.clone(),
    };
    let sizes = ends.sizes;
    let resize = async move {
        let (Some(mut bytes), mut decoder) = (resizing, Sizes::default()) else { return };
        while let Some(part) = bytes.recv().await {
            if let Some(size) = decoder.receive(&part) {
                // The process may have ended already.
                let _ended = sizes.send(size).await;
            }
        }
    };
    let job_done = async { tokio::join!(command::run(runtime, job, client), told.all(ends.out)) };
    let gone = async { while connection.streams.recv().await.is_some() {} };
    let resized = async {
        resize.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = job_done => {}
        () = gone => {}
        () = connection.activity.idle() => {}
        () = resized => {}
    }
}

/// Tells a client what comes out of its job.
struct Told {
    stdout: Option<StreamId>,
    stderr: Option<StreamId>,
    error: Option<StreamId>,
    as_status: bool,
    answers: Answers,
}

impl Told {
    async fn all(&self, mut out: mpsc::Receiver<Out>) {
        while let Some(out) = out.recv().await {
            let sent = match out {
                Out::Piece(Source::Stdout, bytes) => self.data(self.stdout, bytes).await,
                Out::Piece(Source::Stderr, bytes) => self.data(self.stderr, bytes).await,
                Out::Ended(ended) => self.end(&ended).await,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    async fn data(&self, stream: Option<StreamId>, bytes: Bytes) -> Result<(), Gone> {
        match stream {
            Some(stream) => self.answers.data(stream, bytes).await,
            None => Ok(()),
        }
    }

    async fn end(&self, ended: &Ended) -> Result<(), Gone> {
        let text = if self.as_status { ended.status().to_string() } else { ended.text() };
        if !text.is_empty() {
            self.data(self.error, text.into()).await?;
        }
        for stream in [self.stdout, self.stderr, self.error].into_iter().flatten() {
            self.answers.finish(stream).await?;
        }
        Ok(())
    }
}
