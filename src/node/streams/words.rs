//! What a command is asked with, and how its end is told.

use serde_json::{Value, json};

/// What a client wants of one exec or attach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What to run; empty for an attach.
    pub command: Vec<String>,
    /// The client sends input.
    pub stdin: bool,
    /// The client reads output.
    pub stdout: bool,
    /// The client reads errors apart; never with a terminal, which has one output.
    pub stderr: bool,
    /// Give the command a terminal.
    pub tty: bool,
}

/// Why a request for a command makes no sense; the sentences are Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Nothing would be carried.
    #[error("you must specify at least 1 of stdin, stdout, stderr")]
    NoStreams,
    /// A flag that is neither true nor false.
    #[error("{name}={value:?} is not true or false")]
    Flag {
        /// `stdin`
        name: String,
        /// What it was set to.
        value: String,
    },
}

impl Command {
    /// Reads the query of an exec or attach request; what other words say is not for here.
    pub fn of(query: &[(String, String)]) -> Result<Self, CommandError> {
        let mut command = Self::default();
        for (name, value) in query {
            match name.as_str() {
                "command" => command.command.push(value.clone()),
                "stdin" => command.stdin = flag(name, value)?,
                "stdout" => command.stdout = flag(name, value)?,
                "stderr" => command.stderr = flag(name, value)?,
                "tty" => command.tty = flag(name, value)?,
                _ => {}
            }
        }
        command.stderr &= !command.tty;
        match command.stdin || command.stdout || command.stderr {
            true => Ok(command),
            false => Err(CommandError::NoStreams),
        }
    }
}

/// The query parameter of a flag, as Kubernetes reads it: everything but these is true.
fn flag(name: &str, value: &str) -> Result<bool, CommandError> {
    match value {
        "true" | "1" | "" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(CommandError::Flag { name: name.to_owned(), value: value.to_owned() }),
    }
}

/// How an exec or attach ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With code 0, or the attached output is over.
    Success,
    /// With another code.
    Exit(i64),
    /// It could not be run, or nobody knows how it ended.
    Failed(String),
}

impl Ended {
    /// The end as a Kubernetes `Status`, as the error channel carries it since version 4 of the
    /// protocol.
    pub fn status(&self) -> Value {
        match self {
            Self::Success => json!({ "metadata": {}, "status": "Success" }),
            Self::Exit(code) => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": self.text(),
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
            Self::Failed(why) => json!({
                "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
                "message": self.text(), "details": { "causes": [{ "message": why }] },
            }),
        }
    }

    /// The end as text, which is all that older versions carry; nothing for a success.
    pub fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::Exit(code) => format!("command terminated with non-zero exit code: {code}"),
            Self::Failed(why) => format!("Internal error occurred: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(query: &str, expected: Expect) {
        let pair = |pair: &str| pair.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        let pairs: Vec<_> = query.split('&').filter_map(pair).collect();
        let text = match Command::of(&pairs) {
            Ok(c) => {
                let on = [(c.stdin, "in"), (c.stdout, "out"), (c.stderr, "err"), (c.tty, "tty")];
                let on: Vec<_> = on.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
                format!("{:?} {}", c.command, on.join("+"))
            }
            Err(e) => e.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn a_query_says_what_to_run() {
        check(
            "command=ls&command=-l&container=web&stdout=true&stderr=true",
            expect![[r#"["ls", "-l"] out+err"#]],
        );
        check(
            "command=sh&stdin=true&stdout=true&stderr=true&tty=true",
            expect![[r#"["sh"] in+out+tty"#]],
        );
        check("stdin=1&stdout=0", expect!["[] in"]);
        check(
            "command=ls&stdout=false",
            expect!["you must specify at least 1 of stdin, stdout, stderr"],
        );
        check("stdin=perhaps", expect![[r#"stdin="perhaps" is not true or false"#]]);
    }

    #[test]
    fn ends_are_told_in_kubernetes_words() {
        expect![[r#"{"metadata":{},"status":"Success"}"#]]
            .assert_eq(&Ended::Success.status().to_string());
        expect![[r#"{"details":{"causes":[{"message":"7","reason":"ExitCode"}]},"message":"command terminated with non-zero exit code: 7","metadata":{},"reason":"NonZeroExitCode","status":"Failure"}"#]]
            .assert_eq(&Ended::Exit(7).status().to_string());
        let failed = Ended::Failed("no such container".into()).status();
        assert_eq!(failed["code"], 500);
        assert_eq!(failed["message"], "Internal error occurred: no such container");
    }
}
