//! A document's row: its columns read into an [`Envelope`], and what a transition changes written back.

use longhand_proto::task::Checkpoint;
use longhand_proto::{DocumentId, LeaseId, RunId};
use rusqlite::types::{FromSql, FromSqlResult, Type, ValueRef};
use rusqlite::{Error, OptionalExtension, Params, Result, Row, Transaction, named_params};

use crate::domain::state::State;
use crate::store::{Attempt, Counters, Envelope, EnvelopeChange, LeaseGrant, Record};

/// A stored document without its body and checkpoint.
#[derive(Debug)]
pub(super) struct DocumentRow {
    pub(super) key: i64,
    pub(super) id: DocumentId,
    pub(super) run: RunId,
    pub(super) seq: u64,
    change_seq: u64,
    changed_ms: u64,
    pub(super) envelope: Envelope,
}

const COLUMNS: &str = "document.key, document.id, run.id, seq, state, reason, version, open, due_ms, errors, losses, \
                       releases, flushed, lease, worker, granted_ms, expires_ms, progress, progress_ms, last_lease, \
                       next_lease, swap, mark, changed_ms, document.judge";

/// The rows that `rest` (a `WHERE` clause and what follows it) selects.
pub(super) fn select(tx: &Transaction<'_>, rest: &str, params: impl Params) -> Result<Vec<DocumentRow>> {
    let sql = format!("SELECT {COLUMNS} FROM document JOIN run ON run.key = document.run {rest}");
    tx.prepare_cached(&sql)?.query_map(params, read)?.collect()
}

/// The first row that `rest` selects.
pub(super) fn find(tx: &Transaction<'_>, rest: &str, params: impl Params) -> Result<Option<DocumentRow>> {
    Ok(select(tx, rest, params)?.into_iter().next())
}

/// The document with this live lease.
pub(super) fn leased(tx: &Transaction<'_>, lease: LeaseId) -> Result<Option<DocumentRow>> {
    find(tx, "WHERE lease = ?1", [Bytes::from(lease)])
}

/// The document whose last commit was under this lease.
pub(super) fn committed(tx: &Transaction<'_>, lease: LeaseId) -> Result<Option<DocumentRow>> {
    find(tx, "WHERE last_lease = ?1", [Bytes::from(lease)])
}

/// The documents with their bodies and checkpoints.
pub(super) fn records(tx: &Transaction<'_>, rows: Vec<DocumentRow>) -> Result<Vec<Record>> {
    rows.into_iter().map(|row| row.into_record(tx)).collect()
}

fn read(row: &Row<'_>) -> Result<DocumentRow> {
    let lease = match row.get::<_, Option<Bytes>>(13)? {
        None => None,
        Some(id) => Some(LeaseGrant {
            id: id.into(),
            worker: parse(row, 14)?,
            granted_ms: time(row, 15)?,
            expires_ms: time(row, 16)?,
            progress: time(row, 17)?,
            progress_ms: time(row, 18)?,
        }),
    };
    let lease_id = |column| Ok::<_, Error>(row.get::<_, Option<Bytes>>(column)?.map(LeaseId::from));
    let envelope = Envelope {
        state: state(row, 4)?,
        reason: row.get(5)?,
        version: time(row, 6)?,
        open: row.get(7)?,
        judge: row.get(24)?,
        due_ms: time(row, 8)?,
        counters: Counters { errors: row.get(9)?, losses: row.get(10)?, releases: row.get(11)? },
        flushed: row.get(12)?,
        lease,
        last_lease: lease_id(19)?,
        next_lease: lease_id(20)?,
        last_swap: row.get::<_, Option<Bytes>>(21)?.map(|bytes| bytes.0),
    };
    Ok(DocumentRow {
        key: row.get(0)?,
        id: row.get::<_, Bytes>(1)?.into(),
        run: parse(row, 2)?,
        seq: time(row, 3)?,
        change_seq: time(row, 22)?,
        changed_ms: time(row, 23)?,
        envelope,
    })
}

impl DocumentRow {
    /// Reads body and checkpoint.
    pub(super) fn into_record(self, tx: &Transaction<'_>) -> Result<Record> {
        let body =
            tx.prepare_cached("SELECT text FROM body WHERE document = ?1")?.query_row([self.key], |row| row.get(0))?;
        let checkpoint = self.checkpoint(tx)?;
        let Self { key: _, id, run, seq, change_seq, changed_ms, envelope } = self;
        let Envelope { state, reason, version, open, judge, due_ms, counters, flushed, lease, .. } = envelope;
        Ok(Record {
            id,
            run,
            state,
            reason,
            version,
            seq,
            change_seq,
            changed_ms,
            open,
            judge,
            due_ms,
            counters,
            lease,
            checkpoint,
            body,
            flushed,
        })
    }

    /// Writes what a transition changes, with the body and the checkpoint of its call.
    pub(super) fn apply(
        &mut self,
        tx: &Transaction<'_>,
        change: EnvelopeChange,
        body: Option<&str>,
        checkpoint: Option<&Checkpoint>,
        now: u64,
    ) -> Result<()> {
        if let Some(attempt) = &change.attempt {
            self.add_attempt(tx, attempt)?;
        }
        if change.keep_revision {
            self.add_revision(tx)?;
        }
        if let Some(body) = body {
            tx.prepare_cached("INSERT OR REPLACE INTO body (document, text) VALUES (?1, ?2)")?
                .execute((self.key, body))?;
        }
        if !change.keep_checkpoint {
            self.set_checkpoint(tx, checkpoint)?;
        }
        self.update(tx, change.envelope, now)
    }

    /// Writes a new version of the envelope, which becomes the run's latest change.
    pub(super) fn update(&mut self, tx: &Transaction<'_>, envelope: Envelope, now: u64) -> Result<()> {
        self.envelope = envelope;
        self.changed_ms = now;
        // Writers take turns, so the highest number is the latest.
        self.change_seq = tx
            .prepare_cached("SELECT max(mark) + 1 FROM document WHERE run = (SELECT run FROM document WHERE key = ?1)")?
            .query_row([self.key], |row| time(row, 0))?;
        self.save(tx)
    }

    /// Writes the envelope as it is; body and checkpoint have their own functions.
    pub(super) fn save(&self, tx: &Transaction<'_>) -> Result<()> {
        let Envelope { state, reason, version, open, judge, due_ms, counters, flushed, lease, .. } = &self.envelope;
        tx.prepare_cached(
            "UPDATE document SET state = :state, reason = :reason, version = :version, open = :open, due_ms = :due_ms,
                 errors = :errors, losses = :losses, releases = :releases, flushed = :flushed, lease = :lease,
                 worker = :worker, granted_ms = :granted_ms, expires_ms = :expires_ms, progress = :progress,
                 progress_ms = :progress_ms, last_lease = :last_lease, next_lease = :next_lease, swap = :swap,
                 mark = :mark, changed_ms = :changed_ms, judge = :judge
             WHERE key = :key",
        )?
        .execute(named_params! {
            ":key": self.key,
            ":state": state.as_str(),
            ":reason": reason,
            ":version": int(*version),
            ":open": open,
            ":judge": judge,
            ":due_ms": int(*due_ms),
            ":errors": counters.errors,
            ":losses": counters.losses,
            ":releases": counters.releases,
            ":flushed": flushed,
            ":lease": lease.as_ref().map(|grant| Bytes::from(grant.id)),
            ":worker": lease.as_ref().map(|grant| grant.worker.as_str()),
            ":granted_ms": lease.as_ref().map(|grant| int(grant.granted_ms)),
            ":expires_ms": lease.as_ref().map(|grant| int(grant.expires_ms)),
            ":progress": lease.as_ref().map(|grant| int(grant.progress)),
            ":progress_ms": lease.as_ref().map(|grant| int(grant.progress_ms)),
            ":last_lease": self.envelope.last_lease.map(Bytes::from),
            ":next_lease": self.envelope.next_lease.map(Bytes::from),
            ":swap": self.envelope.last_swap.map(Bytes),
            ":mark": int(self.change_seq),
            ":changed_ms": int(self.changed_ms),
        })?;
        Ok(())
    }

    pub(super) fn checkpoint(&self, tx: &Transaction<'_>) -> Result<Option<Checkpoint>> {
        let json: Option<String> = tx
            .prepare_cached("SELECT json FROM checkpoint WHERE document = ?1")?
            .query_row([self.key], |row| row.get(0))
            .optional()?;
        json.map(|json| decode(&json)).transpose()
    }

    pub(super) fn set_checkpoint(&self, tx: &Transaction<'_>, checkpoint: Option<&Checkpoint>) -> Result<()> {
        match checkpoint {
            None => tx.prepare_cached("DELETE FROM checkpoint WHERE document = ?1")?.execute([self.key])?,
            Some(checkpoint) => tx
                .prepare_cached("INSERT OR REPLACE INTO checkpoint (document, json) VALUES (?1, ?2)")?
                .execute((self.key, encode(checkpoint)?))?,
        };
        Ok(())
    }

    /// Appends what the document is now to its history.
    fn add_revision(&self, tx: &Transaction<'_>) -> Result<()> {
        let Envelope { version, state, reason, .. } = &self.envelope;
        tx.prepare_cached(
            "INSERT INTO past (document, version, state, reason, body)
             SELECT document, ?2, ?3, ?4, text FROM body WHERE document = ?1",
        )?
        .execute((self.key, int(*version), state.as_str(), reason))?;
        Ok(())
    }

    fn add_attempt(&self, tx: &Transaction<'_>, attempt: &Attempt) -> Result<()> {
        tx.prepare_cached(
            "INSERT INTO attempt (document, lease, worker, granted_ms, ended_ms, how, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            self.key,
            Bytes::from(attempt.lease),
            attempt.worker.as_str(),
            int(attempt.granted_ms),
            int(attempt.ended_ms),
            attempt.end.as_str(),
            attempt.detail.to_string(),
        ))?;
        Ok(())
    }
}

/// The 16 bytes of an id as a BLOB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) [u8; 16]);

impl From<LeaseId> for Bytes {
    fn from(id: LeaseId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<Bytes> for LeaseId {
    fn from(bytes: Bytes) -> Self {
        Self::from_bytes(bytes.0)
    }
}

impl From<DocumentId> for Bytes {
    fn from(id: DocumentId) -> Self {
        Self(*id.as_bytes())
    }
}

impl From<Bytes> for DocumentId {
    fn from(bytes: Bytes) -> Self {
        Self::from_bytes(bytes.0)
    }
}

impl rusqlite::ToSql for Bytes {
    fn to_sql(&self) -> Result<rusqlite::types::ToSqlOutput<'_>> {
        self.0.as_slice().to_sql()
    }
}

impl FromSql for Bytes {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(Self)
    }
}

/// SQLite's integers are signed; the bits are kept, and only numbers that stay small are compared in SQL.
pub(super) const fn int(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn time(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

pub(super) fn state(row: &Row<'_>, column: usize) -> Result<State> {
    parse(row, column)
}

pub(super) fn parse<T>(row: &Row<'_>, column: usize) -> Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

pub(super) fn encode(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}
