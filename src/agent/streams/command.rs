//! One exec or attach, whichever protocol its client speaks.

use std::time::Duration;

use hyper::body::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
};

use super::{CHUNK_BYTES, PIECES_MAX};
use crate::{
    agent::runtime::{Attached, Error, Process, Runtime, Wire},
    node::streams::{
        Command, Ended, Size,
        multiplex::{Frames, Source},
    },
};

/// Milliseconds before each look at a command whose outputs are over; Docker learns of its end a
/// moment later.
const ENDED_LOOKS_MS: [u64; 8] = [0, 10, 50, 100, 500, 1000, 3000, 5000];

/// What is to be run, or attached to.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Docker's id of the container.
    pub(super) container: String,
    /// What the client wants.
    pub(super) command: Command,
    /// Attach to the container's own process.
    pub(super) attach: bool,
}

/// The client's ends.
pub(super) struct Client {
    /// Its input; over when the sender is dropped.
    pub(super) stdin: mpsc::Receiver<Bytes>,
    /// Sizes of its terminal.
    pub(super) sizes: mpsc::Receiver<Size>,
    /// What is told to it.
    pub(super) out: mpsc::Sender<Out>,
}

/// What a client is told.
pub(super) enum Out {
    /// Output.
    Piece(Source, Bytes),
    /// The end; nothing follows.
    Ended(Ended),
}

/// The other halves of a [`Client`], for the protocol.
pub(super) struct Ends {
    pub(super) stdin: mpsc::Sender<Bytes>,
    pub(super) sizes: mpsc::Sender<Size>,
    pub(super) out: mpsc::Receiver<Out>,
}

/// A client and the protocol's ends of it.
pub(super) fn client() -> (Client, Ends) {
    let (stdin, stdin_end) = mpsc::channel(PIECES_MAX);
    let (sizes, sizes_end) = mpsc::channel(PIECES_MAX);
    let (out_end, out) = mpsc::channel(PIECES_MAX);
    let client = Client { stdin: stdin_end, sizes: sizes_end, out: out_end };
    (client, Ends { stdin, sizes, out })
}

/// Runs the job until it ends, and tells how. A client that has gone ends it too: the process sees
/// the end of its input.
pub(super) async fn run<R: Runtime>(runtime: &R, job: &Job, mut client: Client) {
    let attached = match job.attach {
        true => runtime.attach(&job.container, &job.command).await,
        false => runtime.exec(&job.container, &job.command).await,
    };
    let out = client.out.clone();
    let ended = match attached {
        Ok(attached) => carry(runtime, job, attached, &mut client).await,
        Err(error) => Ended::Failed(error.to_string()),
    };
    // A client that has gone needs no answer.
    let _gone = out.send(Out::Ended(ended)).await;
}

async fn carry<R: Runtime>(
    runtime: &R,
    job: &Job,
    attached: Attached,
    client: &mut Client,
) -> Ended {
    let Attached { wire, tty, process } = attached;
    let (from, to) = tokio::io::split(wire);
    let output = drain(from, tty, &job.command, &client.out);
    let inputs = async {
        let feeding = feed(to, job.command.stdin, &mut client.stdin);
        let (_to, ()) = tokio::join!(feeding, follow(runtime, &process, &mut client.sizes));
        std::future::pending().await
    };
    let drained = tokio::select! {
        biased;
        drained = output => drained,
        never = inputs => never,
    };
    match (drained, process) {
        (Err(error), _) => Ended::Failed(error.to_string()),
        (Ok(()), Process::Container(_)) => Ended::Success,
        (Ok(()), Process::Exec(id)) => match exit(runtime, &id).await {
            Ok(ended) => ended,
            Err(error) => Ended::Failed(error.to_string()),
        },
    }
}

/// Carries input to the process. The connection is given back, as long as output may come on it.
async fn feed(
    mut to: WriteHalf<Wire>,
    wanted: bool,
    stdin: &mut mpsc::Receiver<Bytes>,
) -> WriteHalf<Wire> {
    while let Some(bytes) = stdin.recv().await {
        // A process that has closed its input, or ended, does not want the rest.
        if wanted && to.write_all(&bytes).await.is_err() {
            stdin.close();
            return to;
        }
    }
    if wanted && let Err(error) = to.shutdown().await {
        tracing::debug!(event = "end of input not told", %error);
    }
    to
}

async fn follow<R: Runtime>(runtime: &R, process: &Process, sizes: &mut mpsc::Receiver<Size>) {
    while let Some(size) = sizes.recv().await {
        if let Err(error) = runtime.resize(process, size).await {
            tracing::debug!(event = "terminal not resized", %error);
        }
    }
}

/// Carries the process' outputs until they are over.
async fn drain(
    mut from: ReadHalf<Wire>,
    tty: bool,
    command: &Command,
    out: &mpsc::Sender<Out>,
) -> std::io::Result<()> {
    let gone = |_| std::io::Error::other("the client has gone");
    let mut frames = Frames::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(read) => &buffer[..read],
            Err(error) => return Err(error),
        };
        let pieces = match tty {
            true => vec![(Source::Stdout, read)],
            false => frames.receive(read).map_err(std::io::Error::other)?,
        };
        for (source, piece) in pieces {
            let wanted = match source {
                Source::Stdout => command.stdout,
                Source::Stderr => command.stderr,
            };
            if wanted {
                out.send(Out::Piece(source, Bytes::copy_from_slice(piece))).await.map_err(gone)?;
            }
        }
    }
}

async fn exit<R: Runtime>(runtime: &R, exec: &str) -> Result<Ended, Error> {
    for wait in ENDED_LOOKS_MS {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        match runtime.exit_code(exec).await? {
            Some(0) => return Ok(Ended::Success),
            Some(code) => return Ok(Ended::Exit(code)),
            None => {}
        }
    }
    let text = "the command's outputs are closed, but it still runs: its end is not known";
    Err(Error::Refused(text.to_owned()))
}
