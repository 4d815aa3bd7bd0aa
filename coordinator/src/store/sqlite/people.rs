//! What people look at and do: workers as they last spoke, and the actions of a run.

use longhand_proto::WorkerId;
use longhand_proto::task::WorkerStatus;
use rusqlite::{OptionalExtension, Result, Transaction};

use super::row::{self, int};
use crate::store::{ACTIONS, Action, FORGET_MS, Seen};

/// True if the worker is asked to drain.
pub(super) fn report(tx: &Transaction<'_>, worker: &WorkerId, report: &WorkerStatus, now: u64) -> Result<bool> {
    forget(tx, now)?;
    tx.prepare_cached(
        "INSERT INTO worker (id, report, seen_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET report = ?2, seen_ms = ?3 RETURNING drain",
    )?
    .query_row((worker.as_str(), row::encode(report)?, int(now)), |row| row.get(0))
}

pub(super) fn workers(tx: &Transaction<'_>, now: u64) -> Result<Vec<Seen>> {
    tx.prepare_cached("SELECT id, report, seen_ms, drain FROM worker WHERE seen_ms >= ?1 ORDER BY id")?
        .query_map([int(now.saturating_sub(FORGET_MS))], |row| {
            Ok(Seen {
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
    forget(tx, now)?;
    let changed = tx
        .prepare_cached("UPDATE worker SET drain = 1 WHERE id = ?1 RETURNING 1")?
        .query_row([worker.as_str()], |_| Ok(()));
    Ok(changed.optional()?.is_some())
}

fn forget(tx: &Transaction<'_>, now: u64) -> Result<()> {
    tx.prepare_cached("DELETE FROM worker WHERE seen_ms < ?1")?.execute([int(now.saturating_sub(FORGET_MS))])?;
    Ok(())
}

pub(super) fn record(tx: &Transaction<'_>, run: i64, action: &Action) -> Result<()> {
    tx.prepare_cached("INSERT INTO action (run, json) VALUES (?1, ?2)")?.execute((run, row::encode(action)?))?;
    tx.prepare_cached(
        "DELETE FROM action WHERE run = ?1
         AND key <= (SELECT key FROM action WHERE run = ?1 ORDER BY key DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute((run, ACTIONS))?;
    Ok(())
}

pub(super) fn actions(tx: &Transaction<'_>, run: i64, limit: u32) -> Result<Vec<Action>> {
    tx.prepare_cached("SELECT json FROM action WHERE run = ?1 ORDER BY key DESC LIMIT ?2")?
        .query_map((run, limit), |row| row::decode(&row.get::<_, String>(0)?))?
        .collect()
}
