//! Runs and documents: created, looked at, put by hand.

use longhand_proto::{DocumentId, RunId};
use rusqlite::{OptionalExtension, Result, Row, Transaction};

use super::row::{self, Bytes, Envelope, int};
use crate::domain::state::State;
use crate::store::{
    Attempt, AttemptEnd, Counters, Counts, Filter, NewDocument, Page, Past, Record, Run, Submitted, Swap, Swapped,
    Terms,
};

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
        run.terms.priority,
        &run.terms.model,
        run.terms.max_open,
        run.paused,
        &run.terms.judge,
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
        terms: Terms { priority: row.get(5)?, model: row.get(6)?, max_open: row.get(7)?, judge: row.get(9)? },
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

pub(super) fn submit(tx: &Transaction<'_>, run: i64, documents: &[NewDocument], now: u64) -> Result<Submitted> {
    let first: i64 = tx.query_row("SELECT next_seq FROM run WHERE key = ?1", [run], |row| row.get(0))?;
    let mut submitted = Submitted::default();
    let mut insert = tx.prepare_cached(
        "INSERT INTO document (id, run, seq, state, reason, changed_ms, mark)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, (SELECT coalesce(max(mark), 0) + 1 FROM document WHERE run = ?2))
         ON CONFLICT (id) DO NOTHING",
    )?;
    let mut insert_body = tx.prepare_cached("INSERT INTO body (document, text) VALUES (?1, ?2)")?;
    for document in documents {
        let (state, reason) = match &document.failed {
            Some(reason) => (State::Failed, reason.as_str()),
            None => (State::Ready, ""),
        };
        let seq = first + int(submitted.inserted);
        if insert.execute((Bytes::from(document.id), run, seq, state.as_str(), reason, int(now)))? == 0 {
            submitted.existing += 1;
        } else {
            insert_body.execute((tx.last_insert_rowid(), &document.body))?;
            submitted.inserted += 1;
        }
    }
    tx.execute("UPDATE run SET next_seq = ?2 WHERE key = ?1", (run, first + int(submitted.inserted)))?;
    Ok(submitted)
}

/// `None` if there is no such document.
pub(super) fn swap(tx: &Transaction<'_>, swap: &Swap, now: u64) -> Result<Option<Swapped>> {
    let Some(mut envelope) = find(tx, swap.document)? else { return Ok(None) };
    let fingerprint = Bytes(swap.fingerprint());
    if envelope.record.version != swap.version {
        let repeated = envelope.record.version == swap.version + 1 && envelope.swap == Some(fingerprint);
        return Ok(Some(if repeated { Swapped::Done } else { Swapped::Changed }));
    }
    if let Some(grant) = envelope.record.lease.take() {
        let detail = serde_json::json!({ "revoked": swap.state });
        envelope.add_attempt(tx, &grant, now, AttemptEnd::Released, &detail)?;
    }
    if envelope.record.state.is_terminal() && !swap.state.is_terminal() {
        envelope.add_past(tx)?;
    }
    if let Some(body) = &swap.body {
        envelope.set_body(tx, body)?;
    }
    envelope.set_checkpoint(tx, None)?;
    envelope.record.state = swap.state;
    swap.kept_reason().clone_into(&mut envelope.record.reason);
    envelope.record.counters = Counters::default();
    envelope.record.due_ms = 0;
    envelope.record.judge = swap.judge;
    envelope.record.flushed = false;
    envelope.swap = Some(fingerprint);
    envelope.change(tx, now)?;
    Ok(Some(Swapped::Done))
}

fn find(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Envelope>> {
    row::find(tx, "WHERE document.id = ?1", [Bytes::from(document)])
}

pub(super) fn get(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Record>> {
    find(tx, document)?.map(|envelope| envelope.fill(tx)).transpose()
}

/// `None` if there is no such document.
pub(super) fn attempts(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Vec<Attempt>>> {
    let Some(envelope) = find(tx, document)? else { return Ok(None) };
    tx.prepare_cached(
        "SELECT lease, worker, granted_ms, ended_ms, how, detail FROM attempt WHERE document = ?1 ORDER BY key",
    )?
    .query_map([envelope.key], |row| {
        Ok(Attempt {
            lease: row.get::<_, Bytes>(0)?.into(),
            worker: row::parse(row, 1)?,
            granted_ms: row::time(row, 2)?,
            ended_ms: row::time(row, 3)?,
            end: row::parse(row, 4)?,
            detail: row::decode(&row.get::<_, String>(5)?)?,
        })
    })?
    .collect::<Result<_>>()
    .map(Some)
}

/// `None` if there is no such document.
pub(super) fn history(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Vec<Past>>> {
    let Some(envelope) = find(tx, document)? else { return Ok(None) };
    tx.prepare_cached("SELECT version, state, reason, body FROM past WHERE document = ?1 ORDER BY key")?
        .query_map([envelope.key], |row| {
            Ok(Past { version: row::time(row, 0)?, state: row::state(row, 1)?, reason: row.get(2)?, body: row.get(3)? })
        })?
        .collect::<Result<_>>()
        .map(Some)
}

pub(super) fn list(tx: &Transaction<'_>, run: i64, filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page> {
    let after = after.map_or(-1, int);
    // One more than asked for, to know whether there is a next page.
    let limit = limit.max(1);
    let more = i64::from(limit) + 1;
    let mut found = match (filter.state, &filter.reason) {
        (None, _) => row::select(tx, "WHERE document.run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3", (run, after, more))?,
        (Some(state), None) => row::select(
            tx,
            "WHERE document.run = ?1 AND state = ?4 AND seq > ?2 ORDER BY seq LIMIT ?3",
            (run, after, more, state.as_str()),
        )?,
        (Some(state), Some(reason)) => row::select(
            tx,
            "WHERE document.run = ?1 AND state = ?4 AND reason = ?5 AND seq > ?2 ORDER BY seq LIMIT ?3",
            (run, after, more, state.as_str(), reason),
        )?,
    };
    let next = if found.len() > limit as usize {
        found.truncate(limit as usize);
        found.last().map(|envelope| envelope.record.seq)
    } else {
        None
    };
    let records = found.into_iter().map(|envelope| envelope.fill(tx)).collect::<Result<_>>()?;
    Ok(Page { records, next })
}

pub(super) fn counts(tx: &Transaction<'_>, run: i64) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut tally = tx.prepare_cached("SELECT state, n FROM tally WHERE run = ?1")?;
    let mut rows = tally.query([run])?;
    while let Some(row) = rows.next()? {
        *counts.of_mut(row::state(row, 0)?) = row::time(row, 1)?;
    }
    Ok(counts)
}

pub(super) fn changed(tx: &Transaction<'_>, run: i64, after: u64, limit: u32) -> Result<Vec<Record>> {
    row::select(tx, "WHERE document.run = ?1 AND mark > ?2 ORDER BY mark LIMIT ?3", (run, int(after), limit))?
        .into_iter()
        .map(|envelope| envelope.fill(tx))
        .collect()
}

pub(super) fn unflushed(tx: &Transaction<'_>, run: i64, limit: u32) -> Result<Vec<Record>> {
    row::select(
        tx,
        "WHERE document.run = ?1 AND state = 'accepted' AND flushed = 0 ORDER BY seq LIMIT ?2",
        (run, limit),
    )?
    .into_iter()
    .map(|envelope| envelope.fill(tx))
    .collect()
}

pub(super) fn mark_flushed(
    tx: &Transaction<'_>,
    run: i64,
    documents: &[DocumentId],
    now: u64,
) -> Result<Vec<DocumentId>> {
    let mut ignored = Vec::new();
    for &document in documents {
        match row::find(tx, "WHERE document.id = ?1 AND document.run = ?2", (Bytes::from(document), run))? {
            Some(mut envelope) if envelope.record.state == State::Accepted => {
                if !envelope.record.flushed {
                    envelope.record.flushed = true;
                    envelope.change(tx, now)?;
                }
            }
            Some(_) | None => ignored.push(document),
        }
    }
    Ok(ignored)
}
