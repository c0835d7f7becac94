//! `mainstay logs <pod|deployment/x>`

use http_body_util::BodyExt;
use hyper::Method;

use super::{
    Common, Error,
    client::{Client, quoted},
    output::{self, Format},
};
use crate::api::talk::POD_HEADER;

/// Print what a container wrote
#[derive(clap::Args, Debug)]
pub(super) struct Verb {
    /// A pod's name, pod/web-1 or deployment/web
    object: String,
    /// Namespace of the object
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// The container; the first one when absent
    #[arg(short, long)]
    container: Option<String>,
    /// Go on printing what it writes
    #[arg(short, long)]
    follow: bool,
    /// Start with the last so many lines
    #[arg(long)]
    tail: Option<u32>,
    /// Of the instance before the running one
    #[arg(short, long)]
    previous: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(verb: &Verb) -> Result<(), Error> {
    let response = Client::find(&verb.common)?.open(Method::GET, &path(verb)).await?;
    if let Some(pod) = response.headers().get(POD_HEADER).and_then(|v| v.to_str().ok())
        && verb.object.contains("deploy")
    {
        output::say(&format!("from pod/{pod}"));
    }
    let mut body = response.into_body();
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Error::ours(format!("the log broke off: {e}")))?;
        if let Ok(data) = frame.into_data() {
            lines.push(verb.common.output, &data)?;
        }
    }
    lines.end(verb.common.output)
}

fn path(verb: &Verb) -> String {
    let (object, namespace) = (quoted(&verb.object), quoted(&verb.namespace));
    let mut path = format!("/mainstay/v1/logs?object={object}&namespace={namespace}");
    if let Some(container) = &verb.container {
        path += &format!("&container={}", quoted(container));
    }
    if let Some(lines) = verb.tail {
        path += &format!("&tailLines={lines}");
    }
    path + &format!("&follow={}&previous={}", verb.follow, verb.previous)
}

/// The rest of a line that is not whole yet.
#[derive(Default)]
struct Lines(Vec<u8>);

/// Longest line that is kept together; a longer one is printed in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;

impl Lines {
    /// Text goes out as it comes; JSON and YAML are one string for each line, so that they stay
    /// readable as a stream.
    fn push(&mut self, format: Format, data: &[u8]) -> Result<(), Error> {
        if format == Format::Text {
            return output::write(data);
        }
        for byte in data {
            if *byte == b'\n' || self.0.len() >= LINE_BYTES_MAX {
                self.line(format)?;
            }
            if *byte != b'\n' {
                self.0.push(*byte);
            }
        }
        Ok(())
    }

    fn end(mut self, format: Format) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { self.line(format) }
    }

    fn line(&mut self, format: Format) -> Result<(), Error> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned();
        let quoted = serde_json::Value::from(line);
        match format {
            Format::Yaml => output::write(format!("- {quoted}\n").as_bytes()),
            _ => output::write(format!("{quoted}\n").as_bytes()),
        }
    }
}
