//! A copy of a measurement that serves in a process of its own: it says where in its first line,
//! and ends with its standard input.

use std::{
    io::{BufRead, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::{PART, Result};

/// The other end: what the first copy holds.
pub(crate) struct Serving {
    child: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    /// Where it serves.
    pub(crate) address: SocketAddr,
}

impl Serving {
    /// Starts a part and waits until it serves.
    pub(crate) fn start(name: &str, dir: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(PART, format!("{name}:{}", dir.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let first = lines.next().ok_or("the part ended before it served")??;
        Ok(Self { child, stdin, lines, address: first.parse()? })
    }

    /// Says a word to the part and gives the line it answers.
    pub(crate) fn ask(&mut self, word: &str) -> Result<String> {
        writeln!(self.stdin, "{word}")?;
        Ok(self.lines.next().ok_or("the part has ended")??)
    }

    /// Memory of the part; the field is one of `/proc/PID/status`.
    pub(crate) fn memory_mib(&self, field: &str) -> f64 {
        super::memory_of(&self.child.id().to_string(), field)
    }

    /// Sets the highest resident memory so far back to what is resident now.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It is over either way.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a part does while it serves: says where, then answers each word until the first copy is
/// gone.
pub(crate) async fn serve<F>(address: SocketAddr, mut answer: impl FnMut(String) -> F) -> Result<()>
where
    F: Future<Output = Result<String>>,
{
    println!("{address}");
    let (words, mut heard) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lines().map_while(std::result::Result::ok);
        lines.map(|line| words.send(line)).all(|sent| sent.is_ok())
    });
    while let Some(word) = heard.recv().await {
        println!("{}", answer(word).await?);
    }
    Ok(())
}
