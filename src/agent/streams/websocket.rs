//! Exec, attach and port-forward over a WebSocket.

use std::sync::Arc;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use hyper::body::Bytes;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

use super::{
    LINGER, PIECES_MAX,
    activity::Activity,
    command::{self, Ends, Job, Out},
    forward::{self, Target},
};
use crate::{
    agent::runtime::Runtime,
    node::streams::channels::{Commands, Packing, Ports, Said},
};

/// Most bytes of one message. Clients of other languages send what they have at once; the largest
/// seen are 2 MiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;

type Sink = SplitSink<WebSocket, Message>;

/// Serves an exec or attach.
pub(super) async fn command<R: Runtime>(
    socket: WebSocket,
    packing: Packing,
    runtime: &R,
    job: &Job,
) {
    let (mut sink, mut source) = socket.split();
    let (client, Ends { stdin, sizes, mut out }) = command::client();
    let activity = Activity::new();
    let hearing = hear(&mut source, Commands::new(packing), stdin, sizes, &activity);
    let telling = async {
        while let Some(out) = out.recv().await {
            activity.touch();
            let message = match out {
                Out::Piece(source, bytes) => packing.output(source, &bytes),
                Out::Ended(ended) => packing.end(&ended),
            };
            if sink.send(packed(packing, message)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = async { tokio::join!(command::run(runtime, job, client), telling) } => {}
        () = hearing => {}
        () = activity.idle() => {}
    }
    close(sink, source).await;
}

/// Takes in what the client says until it goes.
async fn hear(
    source: &mut SplitStream<WebSocket>,
    mut commands: Commands,
    stdin: mpsc::Sender<Bytes>,
    sizes: mpsc::Sender<crate::node::streams::Size>,
    activity: &Activity,
) {
    let mut stdin = Some(stdin);
    while let Some(message) = next(source).await {
        activity.touch();
        match commands.receive(&message) {
            Ok(Said::Input(bytes)) => {
                if let Some(open) = &stdin
                    && open.send(bytes.into()).await.is_err()
                {
                    stdin = None;
                }
            }
            Ok(Said::InputEnds) => stdin = None,
            // The process may have ended already.
            Ok(Said::Size(size)) => drop(sizes.send(size).await),
            Ok(Said::Nothing) => {}
            Err(error) => tracing::debug!(event = "message not understood", %error),
        }
    }
}

/// The bytes of the next message; `None` when the client has gone.
pub(super) async fn next(source: &mut SplitStream<WebSocket>) -> Option<Bytes> {
    loop {
        match source.next().await? {
            Ok(Message::Binary(bytes)) => return Some(bytes),
            Ok(Message::Text(text)) => return Some(text.into()),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return None,
        }
    }
}

fn packed(packing: Packing, message: Vec<u8>) -> Message {
    match packing.is_text() {
        // Base64 is ASCII.
        true => Message::Text(Utf8Bytes::from(String::from_utf8_lossy(&message).into_owned())),
        false => Message::Binary(message.into()),
    }
}

/// Closes in order, and waits a moment until the client has taken everything. Without the code
/// kubectl says that the connection broke.
pub(super) async fn close(mut sink: Sink, mut source: SplitStream<WebSocket>) {
    let normal = CloseFrame { code: close_code::NORMAL, reason: Utf8Bytes::from_static("") };
    let over = async {
        // A client that has gone needs no goodbye.
        let _gone = sink.send(Message::Close(Some(normal))).await;
        while next(&mut source).await.is_some() {}
    };
    let _late = timeout(LINGER, over).await;
}

/// Serves a port-forward whose ports are known from the beginning, each with two channels.
pub(super) async fn forward<R: Runtime>(
    socket: WebSocket,
    packing: Packing,
    ports: Vec<u16>,
    runtime: &R,
    target: &Target,
) {
    let (mut sink, mut source) = socket.split();
    let activity = Arc::new(Activity::new());
    let (messages, mut to_send) = mpsc::channel::<Vec<u8>>(PIECES_MAX);
    let channels = Arc::new(Ports::new(packing, ports.clone()));
    let mut tasks = JoinSet::new();
    let mut inputs = Vec::new();
    for (at, port) in ports.into_iter().enumerate() {
        let (input, bytes) = mpsc::channel(PIECES_MAX);
        inputs.push(input);
        let one = Port {
            at,
            port,
            channels: channels.clone(),
            messages: messages.clone(),
            activity: activity.clone(),
        };
        let (runtime, target) = (runtime.clone(), target.clone());
        let first = channels.begin().into_iter().skip(2 * at).take(2).collect();
        tasks.spawn(async move { one.carry(first, &runtime, &target, bytes).await });
    }
    drop(messages);
    let telling = async {
        while let Some(message) = to_send.recv().await {
            if sink.send(packed(packing, message)).await.is_err() {
                return;
            }
        }
    };
    let hearing = async {
        while let Some(message) = next(&mut source).await {
            activity.touch();
            match channels.receive(&message) {
                // A port that is closed takes no more; the others go on.
                Ok((at, bytes)) => drop(inputs[at].send(bytes.into()).await),
                Err(error) => tracing::debug!(event = "message not understood", %error),
            }
        }
    };
    tokio::select! {
        () = telling => {}
        () = hearing => {}
        () = activity.idle() => {}
    }
    drop(tasks);
    close(sink, source).await;
}

/// One port of a port-forward by channels.
struct Port {
    at: usize,
    port: u16,
    channels: Arc<Ports>,
    messages: mpsc::Sender<Vec<u8>>,
    activity: Arc<Activity>,
}

impl Port {
    async fn carry<R: Runtime>(
        self,
        first: Vec<Vec<u8>>,
        runtime: &R,
        target: &Target,
        mut bytes: mpsc::Receiver<Bytes>,
    ) {
        for message in first {
            // Nobody hears when the client has gone; the task ends with it.
            let _gone = self.messages.send(message).await;
        }
        match target.connect(runtime, self.port).await {
            Err(why) => drop(self.messages.send(self.channels.error(self.at, &why)).await),
            Ok(wire) => {
                let (from, to) = tokio::io::split(wire);
                let pack = |part: &[u8]| self.channels.data(self.at, part);
                let down = forward::down_packed(from, pack, &self.messages, &self.activity);
                // These channels have no close: when the pod is done, the port is.
                tokio::select! {
                    () = down => {}
                    () = async {
                        forward::up(to, &mut bytes).await;
                        std::future::pending::<()>().await;
                    } => {}
                }
            }
        }
    }
}
