//! PUT by 64 clients at once, each of its own ConfigMap, against the same objects proposed to the
//! log with nothing in between, and, to see what the way there costs by itself, against the same
//! requests to a plain server that only proposes. Run with `cargo bench -- put`.

use std::{path::Path, time::Instant};

use crate::{
    common::{self, CLIENTS, Result, WRITES, http::Client},
    serving::{self, NAMESPACE},
};

/// Pairs of all writes through the API and all proposals.
const PAIRS: usize = 5;

pub(crate) fn run() -> Result<()> {
    common::title("put: 64 clients, one object each");
    let dir = tempfile::tempdir()?;
    common::keys(dir.path())?;
    tokio::runtime::Runtime::new()?.block_on(measure(dir.path()))
}

async fn measure(dir: &Path) -> Result<()> {
    let mut api = serving::start("maps", dir)?;
    api.ask("quiet")?;
    let client = Client::new(dir, api.address)?;
    let bare = Client::new(dir, api.ask("bare")?.parse()?)?;
    let (mut ours, mut theirs, mut way) = (vec![], vec![], vec![]);
    for pair in 0..PAIRS {
        let times = api.ask("propose")?;
        let times = times.split(' ').map(|t| Ok(t.parse::<f64>()? / 1000.0));
        theirs.push(told("proposals", &times.collect::<Result<Vec<f64>>>()?));
        way.push(told("plain PUTs", &writes(&bare, pair).await?));
        ours.push(told("PUTs", &writes(&client, pair).await?));
    }
    common::compare(("plain server, 99th percentile", &way), ("proposal, the same", &theirs), 1.5);
    common::compare(("PUT, 99th percentile", &ours), ("plain server, the same", &way), 1.5);
    common::compare(("PUT, 99th percentile", &ours), ("proposal, the same", &theirs), 1.5);
    Ok(())
}

/// Prints the spread of some times; gives the 99th percentile.
fn told(what: &str, times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    eprintln!("{what:10} p50 {:.2} ms  p90 {:.2} ms  p99 {:.2} ms", at(50), at(90), at(99));
    at(99)
}

/// What each write took, in milliseconds.
async fn writes(client: &Client, pair: usize) -> Result<Vec<f64>> {
    let mut running = tokio::task::JoinSet::new();
    for i in 0..CLIENTS {
        let mut connection = client.connect().await?;
        running.spawn(async move {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps/map-{i:02}");
            let mut times = Vec::new();
            for round in 0..WRITES {
                let mut value = serving::map(i);
                value["data"]["count"] = format!("{pair}-{round}").into();
                let body = serde_json::to_vec(&value).map_err(|e| e.to_string())?;
                let begun = Instant::now();
                connection.put(&path, &body).await.map_err(|e| e.to_string())?;
                times.push(common::ms(begun.elapsed()));
            }
            Ok::<_, String>(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = running.join_next().await {
        all.extend(times??);
    }
    Ok(all)
}
