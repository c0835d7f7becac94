//! Data on stdout, talk on stderr.

use std::io::{self, Write as _};

use serde::Serialize;

use super::Error;

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// For scripts
    Json,
    /// For both
    Yaml,
}

/// Prints a value as asked; `text` is what people see of it.
pub(super) fn print<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Error> {
    let written = match format {
        Format::Text => Ok(text(value)),
        Format::Json => {
            serde_json::to_string_pretty(value).map(|t| t + "\n").map_err(|e| e.to_string())
        }
        Format::Yaml => serde_yaml::to_string(value).map_err(|e| e.to_string()),
    };
    write(written.map_err(|e| Error::ours(format!("cannot print: {e}")))?.as_bytes())
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no error.
pub(super) fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::ours(format!("cannot write to stdout: {e}")))
        }
        _ => Ok(()),
    }
}

/// Says something that is no data.
pub(super) fn say(text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(io::stderr(), "{text}"));
}
