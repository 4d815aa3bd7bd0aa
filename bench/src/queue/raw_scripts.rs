//! The same operations without a coordinator: EVALSHA commands, as redis-benchmark would send them.

use futures::future::try_join_all;
use longhand_command::exit::{Failure, Result};
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Commit, LeaseQuery, Next, scripts};
use longhand_proto::{LeaseId, clock};
use redis::Value;
use redis::aio::MultiplexedConnection;
use serde_json::json;

use super::load::Load;
use crate::redis_server::{RedisServer, store_failure};

/// How commands are sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    connections: usize,
    /// Commands that a connection sends before it waits for their replies.
    pipeline: usize,
}

/// The default of redis-benchmark.
pub(super) const ONE_BY_ONE: Style = Style { connections: 50, pipeline: 1 };
/// The highest throughput.
pub(super) const PIPELINED: Style = Style { connections: 8, pipeline: 32 };

/// The same as of a coordinator.
const TTL_MS: u64 = 60_000;

/// Processes all documents; returns cycles per second.
pub(super) async fn work(server: &RedisServer, load: &Load, slots: u32, style: Style) -> Result<f64> {
    let mut connection = server.connect().await?;
    for script in scripts::preload() {
        script.load_async(&mut connection).await.map_err(store_failure)?;
    }
    let mut connections = Vec::new();
    for _ in 0..style.connections {
        connections.push(server.connect().await?);
    }
    let begin = clock::now();
    let drains = connections.into_iter().map(|connection| drain(connection, load, slots, style.pipeline));
    let cycles = try_join_all(drains).await?;
    let took = clock::now() - begin;
    let cycles: u64 = cycles.iter().sum();
    if cycles != 2 * u64::from(load.documents) {
        return Err(Failure::stopped(format!("{cycles} cycles for {} documents", load.documents)));
    }
    Ok(cycles as f64 / took.as_secs_f64())
}

/// Leases and commits until no document is left.
async fn drain(mut connection: MultiplexedConnection, load: &Load, slots: u32, pipeline: usize) -> Result<u64> {
    let detail = json!({ "kind": "section", "section": 0, "attempt": 1, "finish_reason": "stop",
        "usage": load.section.usage, "timings": load.section.timings, "model": "bench", "words": 300 });
    let commit = |lease, body: &str, next| {
        let (body, detail) = (Some(body.to_owned()), detail.clone());
        scripts::commit(&load.run, &Commit { lease, body, checkpoint: None, next, detail, ttl_ms: TTL_MS })
            .map_err(store_failure)
    };
    let mut cycles = 0;
    loop {
        let fresh: Vec<LeaseId> = (0..slots).map(|_| LeaseId::mint()).collect();
        let query = LeaseQuery {
            worker: "bench".parse().map_err(Failure::refused)?,
            request_id: LeaseId::mint().to_string(),
            slots,
            ttl_ms: TTL_MS,
            model: "bench".into(),
            weights_hash: "bench".into(),
            except: Vec::new(),
        };
        let (_, leased): (bool, Vec<Value>) =
            scripts::lease(&load.run, &query, &fresh).query_async(&mut connection).await.map_err(store_failure)?;
        if leased.is_empty() {
            return Ok(cycles);
        }
        let (mut plans, mut sections) = (Vec::new(), Vec::new());
        for lease in fresh.into_iter().take(leased.len()) {
            let next = LeaseId::mint();
            plans.push(commit(lease, &load.planned, Next::Continue { lease: Some(next) })?);
            let end = Next::End { state: State::Rejected, reason: "too_short".into() };
            sections.push(commit(next, &load.finished, end)?);
        }
        for calls in [plans, sections] {
            let mut calls = calls.into_iter();
            while calls.len() > 0 {
                let mut sent = redis::pipe();
                calls.by_ref().take(pipeline).for_each(|call| _ = sent.add_command(call));
                let replies: Vec<(String, Option<Value>)> =
                    replies(sent.query_async(&mut connection).await.map_err(store_failure)?)?;
                if let Some((word, _)) = replies.iter().find(|(word, _)| word != "done") {
                    return Err(Failure::stopped(format!("unexpected reply to a commit: {word:?}")));
                }
                cycles += replies.len() as u64;
            }
        }
    }
}

/// Each reply is a word, for some followed by an envelope.
fn replies(values: Vec<Vec<Value>>) -> Result<Vec<(String, Option<Value>)>> {
    let read = |reply: Vec<Value>| {
        let mut parts = reply.into_iter();
        let word = parts.next().ok_or_else(|| Failure::stopped("an empty reply"))?;
        Ok((redis::from_redis_value(word).map_err(store_failure)?, parts.next()))
    };
    values.into_iter().map(read).collect()
}
