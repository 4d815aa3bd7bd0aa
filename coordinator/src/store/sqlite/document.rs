//! Documents: submitted, read, swapped, flushed.

use longhand_proto::DocumentId;
use rusqlite::{Result, Transaction};

use super::row::{self, Bytes, DocumentRow, int};
use crate::domain::state::State;
use crate::store::{
    Attempt, CompareAndSwap, EndedDocument, Envelope, Filter, NewDocument, Page, Record, Revision, Submitted, Swapped,
};

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
        let Envelope { state, reason, .. } = Envelope::new(document.failed.as_deref());
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

/// Adds documents that ended elsewhere; returns their number.
pub(super) fn load(tx: &Transaction<'_>, run: i64, documents: &[EndedDocument], now: u64) -> Result<u64> {
    let first: i64 = tx.query_row("SELECT next_seq FROM run WHERE key = ?1", [run], |row| row.get(0))?;
    let mut loaded = 0;
    let mut insert = tx.prepare_cached(
        "INSERT INTO document (id, run, seq, state, reason, version, open, flushed, changed_ms, mark)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, (SELECT coalesce(max(mark), 0) + 1 FROM document WHERE run = ?2))
         ON CONFLICT (id) DO NOTHING",
    )?;
    let mut insert_body = tx.prepare_cached("INSERT INTO body (document, text) VALUES (?1, ?2)")?;
    let mut insert_attempt = tx.prepare_cached(
        "INSERT INTO attempt (document, lease, worker, granted_ms, ended_ms, how, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut insert_revision =
        tx.prepare_cached("INSERT INTO past (document, version, state, reason, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for document in documents {
        let EndedDocument { id, state, reason, version, open, flushed, body, attempts, history } = document;
        let seq = first + int(loaded);
        let row = (Bytes::from(*id), run, seq, state.as_str(), reason, int(*version), open, flushed, int(now));
        if insert.execute(row)? == 0 {
            continue;
        }
        let key = tx.last_insert_rowid();
        loaded += 1;
        insert_body.execute((key, body))?;
        for attempt in attempts {
            let Attempt { lease, worker, granted_ms, ended_ms, end, detail } = attempt;
            let times = (int(*granted_ms), int(*ended_ms));
            let (lease, detail) = (Bytes::from(*lease), detail.to_string());
            insert_attempt.execute((key, lease, worker.as_str(), times.0, times.1, end.as_str(), detail))?;
        }
        for Revision { version, state, reason, body } in history {
            insert_revision.execute((key, int(*version), state.as_str(), reason, body))?;
        }
    }
    tx.execute("UPDATE run SET next_seq = ?2 WHERE key = ?1", (run, first + int(loaded)))?;
    Ok(loaded)
}

/// `None` if there is no such document.
pub(super) fn swap(tx: &Transaction<'_>, swap: &CompareAndSwap, now: u64) -> Result<Option<Swapped>> {
    let Some(mut row) = find(tx, swap.document)? else { return Ok(None) };
    let (answer, change) = row.envelope.swap(swap, now);
    if let Some(change) = change {
        row.apply(tx, change, swap.body.as_deref(), None, now)?;
    }
    Ok(Some(answer))
}

fn find(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<DocumentRow>> {
    row::find(tx, "WHERE document.id = ?1", [Bytes::from(document)])
}

pub(super) fn get(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Record>> {
    find(tx, document)?.map(|row| row.into_record(tx)).transpose()
}

/// `None` if there is no such document.
pub(super) fn attempts(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Vec<Attempt>>> {
    let Some(found) = find(tx, document)? else { return Ok(None) };
    tx.prepare_cached(
        "SELECT lease, worker, granted_ms, ended_ms, how, detail FROM attempt WHERE document = ?1 ORDER BY key",
    )?
    .query_map([found.key], |row| {
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
pub(super) fn history(tx: &Transaction<'_>, document: DocumentId) -> Result<Option<Vec<Revision>>> {
    let Some(found) = find(tx, document)? else { return Ok(None) };
    tx.prepare_cached("SELECT version, state, reason, body FROM past WHERE document = ?1 ORDER BY key")?
        .query_map([found.key], |row| {
            Ok(Revision {
                version: row::time(row, 0)?,
                state: row::state(row, 1)?,
                reason: row.get(2)?,
                body: row.get(3)?,
            })
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
        found.last().map(|row| row.seq)
    } else {
        None
    };
    Ok(Page { records: row::records(tx, found)?, next })
}

pub(super) fn changed(tx: &Transaction<'_>, run: i64, after: u64, limit: u32) -> Result<Vec<Record>> {
    let rows =
        row::select(tx, "WHERE document.run = ?1 AND mark > ?2 ORDER BY mark LIMIT ?3", (run, int(after), limit))?;
    row::records(tx, rows)
}

pub(super) fn unflushed(tx: &Transaction<'_>, run: i64, limit: u32) -> Result<Vec<Record>> {
    let rows = row::select(
        tx,
        "WHERE document.run = ?1 AND state = 'accepted' AND flushed = 0 ORDER BY seq LIMIT ?2",
        (run, limit),
    )?;
    row::records(tx, rows)
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
            Some(mut row) if row.envelope.state == State::Accepted => {
                if let Some(flushed) = row.envelope.mark_flushed() {
                    row.update(tx, flushed, now)?;
                }
            }
            Some(_) | None => ignored.push(document),
        }
    }
    Ok(ignored)
}
