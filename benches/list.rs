//! LIST of 10,000 pods, sixteen at a time, against a plain HTTP server that sends the same bytes
//! from memory. Both serve over the same TLS, in processes of their own, to the same client. Run
//! with `cargo bench -- list`.

use std::{path::Path, time::Instant};

use crate::{
    common::{self, Result, http::Client},
    serving::{self, NAMESPACE},
};

/// Lists at a time.
const AT_A_TIME: usize = 16;

/// Pairs of sixteen lists and sixteen plain answers.
const PAIRS: usize = 7;

pub(crate) fn run() -> Result<()> {
    common::title("list: 10,000 pods, 16 at a time");
    let dir = tempfile::tempdir()?;
    common::keys(dir.path())?;
    tokio::runtime::Runtime::new()?.block_on(measure(dir.path()))
}

async fn measure(dir: &Path) -> Result<()> {
    let mut api = serving::start("pods", dir)?;
    api.ask("quiet")?;
    let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let client = Client::new(dir, api.address)?;
    std::fs::write(dir.join(serving::BYTES), body(&client, &path).await?)?;
    let plain = serving::start("bytes", dir)?;
    let plain_client = Client::new(dir, plain.address)?;
    let (mut ours, mut theirs, mut growths) = (vec![], vec![], vec![]);
    let mut bytes = 0.0;
    for _ in 0..PAIRS {
        theirs.push(lists(&plain_client, &path).await?.0);
        api.forget_peak()?;
        let before = api.memory_mib("VmRSS");
        let (ms, count) = lists(&client, &path).await?;
        growths.push(api.memory_mib("VmHWM") - before);
        ours.push(ms);
        bytes = count as f64;
    }
    common::compare(("16 lists", &ours), ("plain server, same bytes", &theirs), 1.5);
    let rate = |ms: &[f64]| bytes / 1e3 / common::median(ms);
    let mib = bytes / f64::from(1 << 20) / AT_A_TIME as f64;
    eprintln!("{mib:.1} MiB a list; {:.0} MB/s, plain {:.0} MB/s", rate(&ours), rate(&theirs));
    let growth = growths.iter().copied().fold(0.0, f64::max);
    let verdict = if growth < 32.0 { "reached" } else { "NOT reached" };
    eprintln!("memory grew by at most {growth:.1} MiB (below 32: {verdict})");
    Ok(())
}

/// The body of one answer.
async fn body(client: &Client, path: &str) -> Result<Vec<u8>> {
    let mut connection = client.connect().await?;
    connection.get(path).await?;
    let head = String::from_utf8(connection.until(b"\r\n\r\n").await?)?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.into());
    }
    let mut body = Vec::new();
    loop {
        let size = String::from_utf8(connection.until(b"\r\n").await?)?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        let chunk = connection.exactly(size + 2).await?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Sixteen answers at a time, from the first byte of the requests to the last of the answers, in
/// milliseconds; how many bytes they were.
async fn lists(client: &Client, path: &str) -> Result<(f64, usize)> {
    let mut connections = Vec::new();
    for _ in 0..AT_A_TIME {
        connections.push(client.connect().await?);
    }
    let begun = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for mut connection in connections {
        let path = path.to_owned();
        running.spawn(async move {
            connection.get(&path).await.map_err(|e| e.to_string())?;
            connection.count().await.map_err(|e| e.to_string())
        });
    }
    let mut bytes = 0;
    while let Some(counted) = running.join_next().await {
        let (count, begin) = counted??;
        if !begin.starts_with("HTTP/1.1 200") {
            return Err(begin.into());
        }
        bytes += count;
    }
    Ok((common::ms(begun.elapsed()), bytes))
}
