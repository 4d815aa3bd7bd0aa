//! Compares what SQLite does not guard by itself: the counts by state, and which columns may be set together.

use longhand_proto::RunId;
use rusqlite::{Result, Transaction};

use super::row::{self, Bytes};
use super::run::counts;
use crate::domain::state::State;
use crate::store::{Audit, Counts};

pub(super) fn audit(tx: &Transaction<'_>, run: i64, name: &RunId, repair: bool) -> Result<Audit> {
    let mut audit = Audit::default();
    let mut found = Counts::default();
    let mut states = tx.prepare("SELECT state, count(*) FROM document WHERE run = ?1 GROUP BY state")?;
    let mut rows = states.query([run])?;
    while let Some(row) = rows.next()? {
        *found.of_mut(row::state(row, 0)?) = row::time(row, 1)?;
    }
    audit.documents = found.total();

    let counted = counts(tx, run)?;
    for state in State::ALL {
        let (counted, found) = (counted.of(state), found.of(state));
        if counted == found {
            continue;
        }
        audit.mismatches.push(format!("run {name}: counted {counted} {} documents, found {found}", state.as_str()));
        if repair {
            tx.execute("DELETE FROM tally WHERE run = ?1 AND state = ?2", (run, state.as_str()))?;
            tx.execute(
                "INSERT INTO tally (run, state, n) VALUES (?1, ?2, ?3)",
                (run, state.as_str(), row::int(found)),
            )?;
            audit.repaired += 1;
        }
    }

    // SQLite's own indexes: it names each fault in a line.
    let mut broken = false;
    let mut check = tx.prepare("PRAGMA integrity_check")?;
    for line in check.query_map([], |row| row.get::<_, String>(0))? {
        let line = line?;
        if line != "ok" {
            broken = true;
            audit.mismatches.push(line);
            audit.repaired += u64::from(repair);
        }
    }
    drop(check);
    if broken && repair {
        tx.execute_batch("REINDEX")?;
    }

    let mut odd = tx.prepare(
        "SELECT id, state, lease IS NOT NULL, flushed FROM document
         WHERE run = ?1 AND ((state = 'leased') <> (lease IS NOT NULL) OR (flushed <> 0 AND state <> 'accepted'))",
    )?;
    let mut rows = odd.query([run])?;
    while let Some(row) = rows.next()? {
        let id: longhand_proto::DocumentId = row.get::<_, Bytes>(0)?.into();
        let (state, leased, flushed): (String, bool, bool) = (row.get(1)?, row.get(2)?, row.get(3)?);
        audit.mismatches.push(format!("document {id}: state {state} with lease = {leased}, flushed = {flushed}"));
    }
    drop(rows);
    if repair {
        // Whoever held a lease that is not stored cannot deliver; what ended holds none.
        let ready = tx.execute(
            "UPDATE document SET state = 'ready' WHERE run = ?1 AND state = 'leased' AND lease IS NULL",
            [run],
        )?;
        let ended = tx.execute(
            "UPDATE document SET lease = NULL WHERE run = ?1 AND state <> 'leased' AND lease IS NOT NULL",
            [run],
        )?;
        let unmarked = tx.execute(
            "UPDATE document SET flushed = 0 WHERE run = ?1 AND flushed <> 0 AND state <> 'accepted'",
            [run],
        )?;
        audit.repaired += (ready + ended + unmarked) as u64;
    }
    Ok(audit)
}
