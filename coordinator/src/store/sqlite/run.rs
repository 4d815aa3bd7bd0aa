//! Runs: created, paused, counted.

use longhand_proto::RunId;
use rusqlite::{OptionalExtension, Result, Row, Transaction};

use super::row::{self, int};
use crate::store::{Counts, Run, RunPolicy};

const RUN: &str = "SELECT id, recipe, recipe_hash, seed, created_ms, priority, model, max_open, paused, judge, \
                   cancelling FROM run";

/// Keys of the runs with unfinished documents, by the index `tally_active`.
pub(super) const ACTIVE: &str = "SELECT run FROM tally WHERE n > 0 AND state IN ('ready', 'leased', 'delayed')";

pub(super) fn create_run(tx: &Transaction<'_>, run: &Run) -> Result<Run> {
    tx.prepare_cached(
        "INSERT INTO run (id, recipe, recipe_hash, seed, created_ms, priority, model, max_open, paused, judge)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (id) DO NOTHING",
    )?
    .execute((
        run.id.as_str(),
        &run.recipe,
        &run.recipe_hash,
        int(run.seed),
        int(run.created_ms),
        run.policy.priority,
        &run.policy.model,
        run.policy.max_open,
        run.paused,
        &run.policy.judge,
    ))?;
    tx.prepare_cached(&format!("{RUN} WHERE id = ?1"))?.query_row([run.id.as_str()], read_run)
}

pub(super) fn run(tx: &Transaction<'_>, id: &RunId) -> Result<Option<Run>> {
    tx.prepare_cached(&format!("{RUN} WHERE id = ?1"))?.query_row([id.as_str()], read_run).optional()
}

pub(super) fn runs(tx: &Transaction<'_>) -> Result<Vec<Run>> {
    tx.prepare_cached(&format!("{RUN} ORDER BY created_ms, id"))?.query_map([], read_run)?.collect()
}

/// The literal states let the planner take the partial index.
pub(super) fn active_runs(tx: &Transaction<'_>) -> Result<Vec<Run>> {
    tx.prepare_cached(&format!("{RUN} WHERE key IN ({ACTIVE}) ORDER BY created_ms, id"))?
        .query_map([], read_run)?
        .collect()
}

pub(super) fn latest_runs(tx: &Transaction<'_>, limit: u32) -> Result<Vec<Run>> {
    tx.prepare_cached(&format!("{RUN} ORDER BY created_ms DESC, id DESC LIMIT ?1"))?
        .query_map([limit], read_run)?
        .collect()
}

/// Deletes some documents, and with the last ones the run; true while some are left.
pub(super) fn delete(tx: &Transaction<'_>, run: i64, limit: u32) -> Result<bool> {
    let keys: Vec<i64> = tx
        .prepare_cached("SELECT key FROM document WHERE run = ?1 LIMIT ?2")?
        .query_map((run, limit.max(1)), |row| row.get(0))?
        .collect::<Result<_>>()?;
    for key in keys {
        for table in ["body", "checkpoint", "attempt", "past"] {
            tx.prepare_cached(&format!("DELETE FROM {table} WHERE document = ?1"))?.execute([key])?;
        }
        tx.prepare_cached("DELETE FROM document WHERE key = ?1")?.execute([key])?;
    }
    let more = tx.prepare_cached("SELECT 1 FROM document WHERE run = ?1")?.exists([run])?;
    if !more {
        for (table, column) in [("tally", "run"), ("action", "run"), ("totals", "run"), ("run", "key")] {
            tx.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [run])?;
        }
    }
    Ok(more)
}

fn read_run(row: &Row<'_>) -> Result<Run> {
    Ok(Run {
        id: row::parse(row, 0)?,
        recipe: row.get(1)?,
        recipe_hash: row.get(2)?,
        seed: row::time(row, 3)?,
        created_ms: row::time(row, 4)?,
        policy: RunPolicy { priority: row.get(5)?, model: row.get(6)?, max_open: row.get(7)?, judge: row.get(9)? },
        paused: row.get(8)?,
        cancelling: row.get(10)?,
    })
}

/// `None` if there is no such run.
pub(super) fn pause(tx: &Transaction<'_>, id: &RunId, paused: bool) -> Result<Option<Run>> {
    tx.prepare_cached("UPDATE run SET paused = ?2 WHERE id = ?1")?.execute((id.as_str(), paused))?;
    run(tx, id)
}

pub(super) fn cancel(tx: &Transaction<'_>, run: i64) -> Result<()> {
    tx.prepare_cached("UPDATE run SET cancelling = 1 WHERE key = ?1")?.execute([run]).map(drop)
}

/// False while documents have not ended.
pub(super) fn finish_cancel(tx: &Transaction<'_>, run: i64) -> Result<bool> {
    if counts(tx, run)?.unfinished() > 0 {
        return Ok(false);
    }
    tx.prepare_cached("UPDATE run SET cancelling = 0 WHERE key = ?1")?.execute([run])?;
    Ok(true)
}

pub(super) fn is_cancelling(tx: &Transaction<'_>, id: &RunId) -> Result<bool> {
    tx.prepare_cached("SELECT cancelling FROM run WHERE id = ?1")?.query_row([id.as_str()], |row| row.get(0))
}

/// The run's key, if there is such a run.
pub(super) fn key(tx: &Transaction<'_>, id: &RunId) -> Result<Option<i64>> {
    tx.prepare_cached("SELECT key FROM run WHERE id = ?1")?.query_row([id.as_str()], |row| row.get(0)).optional()
}

pub(super) fn latest_change(tx: &Transaction<'_>, run: i64) -> Result<u64> {
    tx.prepare_cached("SELECT coalesce(max(mark), 0) FROM document WHERE run = ?1")?
        .query_row([run], |row| row::time(row, 0))
}

pub(super) fn totals(tx: &Transaction<'_>, run: i64) -> Result<Option<String>> {
    tx.prepare_cached("SELECT json FROM totals WHERE run = ?1")?.query_row([run], |row| row.get(0)).optional()
}

pub(super) fn set_totals(tx: &Transaction<'_>, run: i64, json: &str) -> Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO totals (run, json) VALUES (?1, ?2)")?.execute((run, json)).map(drop)
}

pub(super) fn counts(tx: &Transaction<'_>, run: i64) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut state_counts = tx.prepare_cached("SELECT state, n FROM tally WHERE run = ?1")?;
    let mut rows = state_counts.query([run])?;
    while let Some(row) = rows.next()? {
        *counts.of_mut(row::state(row, 0)?) = row::time(row, 1)?;
    }
    Ok(counts)
}
