//! What people look at and do: workers as they last spoke, and the actions of a run.

use longhand_proto::task::WorkerStatus;
use longhand_proto::{RunId, WorkerId};

use super::client::{Client, key};
use super::error::unreadable;
use super::step;
use crate::store::{ACTIONS, Action, FORGET_MS, Result, Seen, StoreError};

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| StoreError::Other(format!("what is said by hand: {error}")))
}

pub(super) async fn report(client: &Client, worker: &WorkerId, report: &WorkerStatus) -> Result<bool> {
    let mut call = client.step_of_workers(&step::REPORT);
    call.arg(worker.as_str()).arg(json(report)?).arg(FORGET_MS);
    client.invoke(&call).await
}

pub(super) async fn workers(client: &Client) -> Result<Vec<Seen>> {
    let mut call = client.step_of_workers(&step::WORKERS);
    call.arg(FORGET_MS);
    let found: Vec<(String, String, u64, bool)> = client.invoke(&call).await?;
    let mut workers = Vec::with_capacity(found.len());
    for (worker, report, seen_ms, drain) in found {
        let report = serde_json::from_str(&report).map_err(unreadable)?;
        workers.push(Seen { worker: worker.parse().map_err(unreadable)?, report, seen_ms, drain });
    }
    workers.sort_by(|a, b| a.worker.cmp(&b.worker));
    Ok(workers)
}

/// False if there is no such worker.
pub(super) async fn drain(client: &Client, worker: &WorkerId) -> Result<bool> {
    let mut call = client.step_of_workers(&step::DRAIN);
    call.arg(worker.as_str()).arg(FORGET_MS);
    client.invoke(&call).await
}

/// The list of a run's actions, or of those that were done to workers.
fn list(run: Option<&RunId>) -> String {
    run.map_or_else(|| "lh:{*}:actions".to_owned(), |run| key(run, "actions"))
}

pub(super) async fn record(client: &Client, run: Option<&RunId>, action: &Action) -> Result<()> {
    let mut add = redis::cmd("RPUSH");
    add.arg(list(run)).arg(json(action)?);
    client.command::<()>(&add).await?;
    let mut trim = redis::cmd("LTRIM");
    trim.arg(list(run)).arg(-i64::from(ACTIONS)).arg(-1);
    client.command(&trim).await
}

pub(super) async fn actions(client: &Client, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut ask = redis::cmd("LRANGE");
    ask.arg(list(run)).arg(-i64::from(limit)).arg(-1);
    let found: Vec<String> = client.command(&ask).await?;
    found.iter().rev().map(|json| serde_json::from_str(json).map_err(unreadable)).collect()
}
