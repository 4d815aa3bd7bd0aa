//! Runs: created, paused, counted.

use longhand_proto::RunId;
use rusqlite::{OptionalExtension, Result, Row, Transaction};

use super::row::{self, int};
use crate::store::{Counts, Run, RunPolicy};

const RUN: &str = "SELECT id, recipe, recipe_hash, seed, created_ms, priority, model, max_open, paused, judge FROM run";

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

fn read_run(row: &Row<'_>) -> Result<Run> {
    Ok(Run {
        id: row::parse(row, 0)?,
        recipe: row.get(1)?,
        recipe_hash: row.get(2)?,
        seed: row::time(row, 3)?,
        created_ms: row::time(row, 4)?,
        policy: RunPolicy { priority: row.get(5)?, model: row.get(6)?, max_open: row.get(7)?, judge: row.get(9)? },
        paused: row.get(8)?,
    })
}

/// `None` if there is no such run.
pub(super) fn pause(tx: &Transaction<'_>, id: &RunId, paused: bool) -> Result<Option<Run>> {
    tx.prepare_cached("UPDATE run SET paused = ?2 WHERE id = ?1")?.execute((id.as_str(), paused))?;
    run(tx, id)
}

/// The run's key, if there is such a run.
pub(super) fn key(tx: &Transaction<'_>, id: &RunId) -> Result<Option<i64>> {
    tx.prepare_cached("SELECT key FROM run WHERE id = ?1")?.query_row([id.as_str()], |row| row.get(0)).optional()
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
