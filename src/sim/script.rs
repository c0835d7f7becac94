//! Scripts: commands, a line `----`, and what they gave.
//!
//! A blank line ends what was given; lines that begin with `#` are comments. `name <<EOF` takes the
//! lines up to `EOF` along.

use super::{verbs::Stage, world::World};

/// Between commands and what they gave.
const LINE: &str = "----";

/// Runs a script and gives it back with what its commands gave now.
///
/// Errors with the line of a command that cannot be understood, or with the promise that broke.
pub fn run(text: &str) -> Result<String, String> {
    let mut stage = Stage::new(World::new(1));
    let mut out = String::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        out += line;
        out.push('\n');
        if line == LINE {
            out += &stage.told();
            out.push('\n');
            while lines.next_if(|(_, line)| !line.trim().is_empty()).is_some() {}
            while lines.next_if(|(_, line)| line.trim().is_empty()).is_some() {}
            continue;
        }
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut body = String::new();
        let mut command = line;
        if let Some((before, end)) = line.split_once("<<") {
            command = before;
            loop {
                let Some((_, line)) = lines.next() else {
                    return Err(format!("line {}: no {end} follows", number + 1));
                };
                out += line;
                out.push('\n');
                if line == end.trim() {
                    break;
                }
                body += line;
                body.push('\n');
            }
        }
        stage.perform(command, &body).map_err(|e| format!("line {}: {e}\n{out}", number + 1))?;
        if let Some(failure) = stage.failure().map(str::to_owned) {
            return Err(format!("line {}: {failure}\n{out}{}", number + 1, stage.told()));
        }
    }
    Ok(format!("{}\n", out.trim_end()))
}
