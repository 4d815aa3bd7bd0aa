//! A document's row: read into a [`Record`], changed there, written back.

use longhand_proto::task::Checkpoint;
use longhand_proto::{DocumentId, LeaseId};
use rusqlite::types::{FromSql, FromSqlResult, Type, ValueRef};
use rusqlite::{Error, OptionalExtension, Params, Result, Row, Transaction, named_params};

use crate::domain::state::State;
use crate::store::{AttemptEnd, Counters, Grant, Record};

/// A stored document with what only the store needs of it. `record.body` and `record.checkpoint` are empty until
/// [`Envelope::fill`] reads them.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) key: i64,
    pub(super) record: Record,
    /// The lease that was committed last.
    pub(super) last: Option<LeaseId>,
    /// The lease that this commit gave.
    pub(super) next: Option<LeaseId>,
    /// Fingerprint of the swap that led to this version.
    pub(super) swap: Option<Bytes>,
}

const COLUMNS: &str = "document.key, document.id, run.id, seq, state, reason, version, open, due_ms, errors, losses, \
                       releases, flushed, lease, worker, granted_ms, expires_ms, progress, progress_ms, last_lease, \
                       next_lease, swap, mark, changed_ms, document.judge";

/// The envelopes that `rest` (a `WHERE` clause and what follows it) selects.
pub(super) fn select(tx: &Transaction<'_>, rest: &str, params: impl Params) -> Result<Vec<Envelope>> {
    let sql = format!("SELECT {COLUMNS} FROM document JOIN run ON run.key = document.run {rest}");
    tx.prepare_cached(&sql)?.query_map(params, read)?.collect()
}

pub(super) fn find(tx: &Transaction<'_>, rest: &str, params: impl Params) -> Result<Option<Envelope>> {
    Ok(select(tx, rest, params)?.into_iter().next())
}

/// The document that lives under this lease.
pub(super) fn leased(tx: &Transaction<'_>, lease: LeaseId) -> Result<Option<Envelope>> {
    find(tx, "WHERE lease = ?1", [Bytes::from(lease)])
}

/// The document whose last commit was under this lease.
pub(super) fn committed(tx: &Transaction<'_>, lease: LeaseId) -> Result<Option<Envelope>> {
    find(tx, "WHERE last_lease = ?1", [Bytes::from(lease)])
}

fn read(row: &Row<'_>) -> Result<Envelope> {
    let grant = match row.get::<_, Option<Bytes>>(13)? {
        None => None,
        Some(id) => Some(Grant {
            id: id.into(),
            worker: parse(row, 14)?,
            granted_ms: time(row, 15)?,
            expires_ms: time(row, 16)?,
            progress: time(row, 17)?,
            progress_ms: time(row, 18)?,
        }),
    };
    let record = Record {
        id: row.get::<_, Bytes>(1)?.into(),
        run: parse(row, 2)?,
        seq: time(row, 3)?,
        state: state(row, 4)?,
        reason: row.get(5)?,
        version: time(row, 6)?,
        mark: time(row, 22)?,
        changed_ms: time(row, 23)?,
        open: row.get(7)?,
        judge: row.get(24)?,
        due_ms: time(row, 8)?,
        counters: Counters { errors: row.get(9)?, losses: row.get(10)?, releases: row.get(11)? },
        flushed: row.get(12)?,
        lease: grant,
        checkpoint: None,
        body: String::new(),
    };
    let lease = |column| Ok::<_, Error>(row.get::<_, Option<Bytes>>(column)?.map(LeaseId::from));
    Ok(Envelope { key: row.get(0)?, record, last: lease(19)?, next: lease(20)?, swap: row.get(21)? })
}

impl Envelope {
    /// Reads body and checkpoint.
    pub(super) fn fill(mut self, tx: &Transaction<'_>) -> Result<Record> {
        self.record.body =
            tx.prepare_cached("SELECT text FROM body WHERE document = ?1")?.query_row([self.key], |row| row.get(0))?;
        let checkpoint: Option<String> = tx
            .prepare_cached("SELECT json FROM checkpoint WHERE document = ?1")?
            .query_row([self.key], |row| row.get(0))
            .optional()?;
        self.record.checkpoint = checkpoint.map(|json| decode(&json)).transpose()?;
        Ok(self.record)
    }

    /// Writes the envelope as a new version.
    pub(super) fn change(&mut self, tx: &Transaction<'_>, now: u64) -> Result<()> {
        self.record.version += 1;
        self.record.changed_ms = now;
        // Writers take turns, so the highest mark is the latest.
        self.record.mark = tx
            .prepare_cached("SELECT max(mark) + 1 FROM document WHERE run = (SELECT run FROM document WHERE key = ?1)")?
            .query_row([self.key], |row| time(row, 0))?;
        self.save(tx)
    }

    /// Writes the envelope; body and checkpoint have their own functions.
    pub(super) fn save(&self, tx: &Transaction<'_>) -> Result<()> {
        let Record { state, reason, version, mark, changed_ms, open, judge, due_ms, counters, flushed, lease, .. } =
            &self.record;
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
            ":last_lease": self.last.map(Bytes::from),
            ":next_lease": self.next.map(Bytes::from),
            ":swap": self.swap,
            ":mark": int(*mark),
            ":changed_ms": int(*changed_ms),
        })?;
        Ok(())
    }

    pub(super) fn set_body(&self, tx: &Transaction<'_>, body: &str) -> Result<()> {
        tx.prepare_cached("INSERT OR REPLACE INTO body (document, text) VALUES (?1, ?2)")?.execute((self.key, body))?;
        Ok(())
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

    /// Keeps what the document is before it is taken up again.
    pub(super) fn add_past(&self, tx: &Transaction<'_>) -> Result<()> {
        let Record { version, state, reason, .. } = &self.record;
        tx.prepare_cached(
            "INSERT INTO past (document, version, state, reason, body)
             SELECT document, ?2, ?3, ?4, text FROM body WHERE document = ?1",
        )?
        .execute((self.key, int(*version), state.as_str(), reason))?;
        Ok(())
    }

    /// Keeps how this lease of the document ended.
    pub(super) fn add_attempt(
        &self,
        tx: &Transaction<'_>,
        grant: &Grant,
        ended_ms: u64,
        end: AttemptEnd,
        detail: &serde_json::Value,
    ) -> Result<()> {
        tx.prepare_cached(
            "INSERT INTO attempt (document, lease, worker, granted_ms, ended_ms, how, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            self.key,
            Bytes::from(grant.id),
            grant.worker.as_str(),
            int(grant.granted_ms),
            int(ended_ms),
            end.as_str(),
            detail.to_string(),
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
