//! The audit log. Run 0 stands for the workers.

use rusqlite::{Result, Transaction};

use super::row;
use crate::store::{AUDIT_LOG_ENTRIES, Action};

pub(super) fn append(tx: &Transaction<'_>, run: i64, action: &Action) -> Result<()> {
    tx.prepare_cached("INSERT INTO action (run, json) VALUES (?1, ?2)")?.execute((run, row::encode(action)?))?;
    tx.prepare_cached(
        "DELETE FROM action WHERE run = ?1
         AND key <= (SELECT key FROM action WHERE run = ?1 ORDER BY key DESC LIMIT 1 OFFSET ?2)",
    )?
    .execute((run, AUDIT_LOG_ENTRIES))?;
    Ok(())
}

pub(super) fn entries(tx: &Transaction<'_>, run: i64, limit: u32) -> Result<Vec<Action>> {
    tx.prepare_cached("SELECT json FROM action WHERE run = ?1 ORDER BY key DESC LIMIT ?2")?
        .query_map((run, limit), |row| row::decode(&row.get::<_, String>(0)?))?
        .collect()
}
