//! Workers: their heartbeats, and which are asked to drain.

use longhand_proto::WorkerId;
use longhand_proto::task::WorkerStatus;

use super::client::Client;
use super::error::unreadable;
use super::scripts::{self, encode};
use crate::store::{Result, WORKER_TTL_MS, WorkerRecord};

pub(super) async fn heartbeat(client: &Client, worker: &WorkerId, report: &WorkerStatus) -> Result<bool> {
    let mut call = client.step_of_workers(&scripts::HEARTBEAT);
    call.arg(worker.as_str()).arg(encode(report)?).arg(WORKER_TTL_MS);
    client.invoke(&call).await
}

pub(super) async fn workers(client: &Client) -> Result<Vec<WorkerRecord>> {
    let mut call = client.step_of_workers(&scripts::WORKERS);
    call.arg(WORKER_TTL_MS);
    let found: Vec<(String, String, u64, bool)> = client.invoke(&call).await?;
    let mut workers = Vec::with_capacity(found.len());
    for (worker, report, seen_ms, drain) in found {
        let report = serde_json::from_str(&report).map_err(unreadable)?;
        workers.push(WorkerRecord { worker: worker.parse().map_err(unreadable)?, report, seen_ms, drain });
    }
    workers.sort_by(|a, b| a.worker.cmp(&b.worker));
    Ok(workers)
}

/// False if there is no such worker.
pub(super) async fn drain(client: &Client, worker: &WorkerId) -> Result<bool> {
    let mut call = client.step_of_workers(&scripts::DRAIN);
    call.arg(worker.as_str()).arg(WORKER_TTL_MS);
    client.invoke(&call).await
}
