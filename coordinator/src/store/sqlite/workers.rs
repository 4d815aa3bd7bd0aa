//! Workers: their heartbeats, and which are asked to drain.

use longhand_proto::WorkerId;
use longhand_proto::task::WorkerStatus;
use rusqlite::{OptionalExtension, Result, Transaction};

use super::row::{self, int};
use crate::store::{WORKER_TTL_MS, WorkerRecord};

/// True if the worker is asked to drain.
pub(super) fn heartbeat(tx: &Transaction<'_>, worker: &WorkerId, report: &WorkerStatus, now: u64) -> Result<bool> {
    remove_expired(tx, now)?;
    tx.prepare_cached(
        "INSERT INTO worker (id, report, seen_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET report = ?2, seen_ms = ?3 RETURNING drain",
    )?
    .query_row((worker.as_str(), row::encode(report)?, int(now)), |row| row.get(0))
}

pub(super) fn workers(tx: &Transaction<'_>, now: u64) -> Result<Vec<WorkerRecord>> {
    tx.prepare_cached("SELECT id, report, seen_ms, drain FROM worker WHERE seen_ms >= ?1 ORDER BY id")?
        .query_map([int(now.saturating_sub(WORKER_TTL_MS))], |row| {
            Ok(WorkerRecord {
                worker: row::parse(row, 0)?,
                report: row::decode(&row.get::<_, String>(1)?)?,
                seen_ms: row::time(row, 2)?,
                drain: row.get(3)?,
            })
        })?
        .collect()
}

/// False if there is no such worker.
pub(super) fn drain(tx: &Transaction<'_>, worker: &WorkerId, now: u64) -> Result<bool> {
    remove_expired(tx, now)?;
    let changed = tx
        .prepare_cached("UPDATE worker SET drain = 1 WHERE id = ?1 RETURNING 1")?
        .query_row([worker.as_str()], |_| Ok(()));
    Ok(changed.optional()?.is_some())
}

fn remove_expired(tx: &Transaction<'_>, now: u64) -> Result<()> {
    tx.prepare_cached("DELETE FROM worker WHERE seen_ms < ?1")?.execute([int(now.saturating_sub(WORKER_TTL_MS))])?;
    Ok(())
}
