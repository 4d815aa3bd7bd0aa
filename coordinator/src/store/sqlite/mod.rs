//! The embedded store: one SQLite file, every call one transaction, every write durable when the call returns.

mod audit;
mod audit_log;
mod document;
mod error;
mod lease;
mod row;
mod run;
mod schema;
mod workers;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use longhand_proto::task::WorkerStatus;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Mutex;

use super::{
    Action, Attempt, Audit, AuditLog, Commit, Committed, CompareAndSwap, Counts, DocumentStore, EndedDocument, Filter,
    LeaseQuery, LeaseStore, Lookup, NewDocument, Page, Record, Renewal, Renewed, Result, Revision, Run, RunStore,
    Source, Store, StoreError, Submitted, Swapped, SweepLimits, Swept, WorkerRecord, WorkerStore,
};

/// Returns Unix milliseconds: given by the caller that opens a store.
type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Documents in one SQLite file, or in memory.
#[derive(Clone)]
pub struct SqliteStore {
    /// One connection: SQLite has one writer anyway, and a queue in front of it is fair where its busy handler is not.
    connection: Arc<Mutex<Connection>>,
    /// None for a store in memory. Its calls take microseconds and run where they are made, which also makes a
    /// simulation repeatable; a file's calls wait for the disk and run on a blocking thread.
    path: Option<PathBuf>,
    clock: Clock,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
enum Access {
    Read,
    Write,
}

impl SqliteStore {
    /// Opens or creates the file at `path`. `clock` gives Unix milliseconds.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the file is not a database of this program, damaged, or of a newer build; [`StoreError::Full`] without
    /// room to create it.
    pub fn open(path: &Path, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self> {
        let connection = schema::open(path)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), path: Some(path.to_owned()), clock: Arc::new(clock) })
    }

    /// A store that is dropped with its last clone.
    ///
    /// # Errors
    /// SQLite could not be initialised.
    pub fn in_memory(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Result<Self> {
        Ok(Self { connection: Arc::new(Mutex::new(schema::in_memory()?)), path: None, clock: Arc::new(clock) })
    }

    /// Runs `step` as one transaction. It runs to its end even if the caller is cancelled.
    async fn call<T, F>(&self, access: Access, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, u64) -> Result<T, Failed> + Send + 'static,
    {
        let mut connection = Arc::clone(&self.connection).lock_owned().await;
        let clock = Arc::clone(&self.clock);
        match self.path.clone() {
            None => transact(&mut connection, Path::new(":memory:"), access, &clock, step),
            Some(path) => tokio::task::spawn_blocking(move || transact(&mut connection, &path, access, &clock, step))
                .await
                .map_err(|error| StoreError::Other(format!("a store transaction did not finish: {error}")))?,
        }
    }

    async fn read<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> Result<T, Failed> + Send + 'static,
    {
        self.call(Access::Read, move |tx, _| step(tx)).await
    }

    async fn write<T, F>(&self, step: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, u64) -> Result<T, Failed> + Send + 'static,
    {
        self.call(Access::Write, step).await
    }
}

/// Why a step failed: SQLite's error is explained where the file's name is known.
#[derive(Debug)]
enum Failed {
    Sqlite(rusqlite::Error),
    Store(StoreError),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn transact<T>(
    connection: &mut Connection,
    path: &Path,
    access: Access,
    clock: &Clock,
    step: impl FnOnce(&Transaction<'_>, u64) -> Result<T, Failed>,
) -> Result<T> {
    let explain = |error| error::explain(error, path);
    let behavior = match access {
        Access::Read => TransactionBehavior::Deferred,
        // The write lock comes first: a transaction that began by reading could not get it from another process.
        Access::Write => TransactionBehavior::Immediate,
    };
    let tx = connection.transaction_with_behavior(behavior).map_err(explain)?;
    // Read under the lock, so that times never run backwards along the order of writes.
    let now = clock();
    let answer = step(&tx, now).map_err(|failed| match failed {
        Failed::Sqlite(error) => explain(error),
        Failed::Store(error) => error,
    })?;
    tx.commit().map_err(explain)?;
    Ok(answer)
}

/// The run's key.
fn key(tx: &Transaction<'_>, run: &RunId) -> Result<i64, Failed> {
    Ok(run::key(tx, run)?.ok_or_else(|| StoreError::no_run(run))?)
}

/// The same, and 0 for what belongs to no run.
fn key_or_none(tx: &Transaction<'_>, run: Option<&RunId>) -> Result<i64, Failed> {
    run.map_or(Ok(0), |run| key(tx, run))
}

#[async_trait]
impl Source for SqliteStore {
    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        let id = id.clone();
        self.read(move |tx| Ok(run::run(tx, &id)?)).await
    }

    async fn attempts(&self, document: DocumentId) -> Result<Vec<Attempt>> {
        self.read(move |tx| Ok(document::attempts(tx, document)?.ok_or_else(|| StoreError::no_document(document))?))
            .await
    }

    async fn list(&self, run: &RunId, filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page> {
        filter.check()?;
        let (run, filter) = (run.clone(), filter.clone());
        self.read(move |tx| Ok(document::list(tx, key(tx, &run)?, &filter, after, limit)?)).await
    }

    async fn unflushed(&self, run: &RunId, limit: u32) -> Result<Vec<Record>> {
        let run = run.clone();
        self.read(move |tx| Ok(document::unflushed(tx, key(tx, &run)?, limit)?)).await
    }

    async fn mark_flushed(&self, run: &RunId, documents: &[DocumentId]) -> Result<Vec<DocumentId>> {
        let (run, documents) = (run.clone(), documents.to_vec());
        self.write(move |tx, now| Ok(document::mark_flushed(tx, key(tx, &run)?, &documents, now)?)).await
    }
}

#[async_trait]
impl RunStore for SqliteStore {
    async fn create_run(&self, run: &Run) -> Result<Run> {
        let run = run.clone();
        self.write(move |tx, _| Ok(run::create_run(tx, &run)?)).await
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        self.read(|tx| Ok(run::runs(tx)?)).await
    }

    async fn active_runs(&self) -> Result<Vec<Run>> {
        self.read(|tx| Ok(run::active_runs(tx)?)).await
    }

    async fn latest_runs(&self, limit: u32) -> Result<Vec<Run>> {
        self.read(move |tx| Ok(run::latest_runs(tx, limit)?)).await
    }

    async fn refresh_active(&self) -> Result<()> {
        // The index is SQLite's own.
        Ok(())
    }

    async fn delete_run(&self, run: &RunId, limit: u32) -> Result<bool> {
        let run = run.clone();
        self.write(move |tx, _| {
            let Some(key) = run::key(tx, &run)? else { return Ok(false) };
            if run::counts(tx, key)?.leased > 0 {
                return Err(StoreError::leased(&run).into());
            }
            Ok(run::delete(tx, key, limit)?)
        })
        .await
    }

    async fn load(&self, run: &RunId, documents: &[EndedDocument]) -> Result<u64> {
        let (run, documents) = (run.clone(), documents.to_vec());
        self.write(move |tx, now| Ok(document::load(tx, key(tx, &run)?, &documents, now)?)).await
    }

    async fn pause(&self, run: &RunId, paused: bool) -> Result<Run> {
        let run = run.clone();
        self.write(move |tx, _| Ok(run::pause(tx, &run, paused)?.ok_or_else(|| StoreError::no_run(&run))?)).await
    }

    async fn cancel(&self, run: &RunId) -> Result<()> {
        let run = run.clone();
        self.write(move |tx, _| Ok(run::cancel(tx, key(tx, &run)?)?)).await
    }

    async fn finish_cancel(&self, run: &RunId) -> Result<bool> {
        let run = run.clone();
        self.write(move |tx, _| Ok(run::finish_cancel(tx, key(tx, &run)?)?)).await
    }

    async fn latest_change(&self, run: &RunId) -> Result<u64> {
        let run = run.clone();
        self.read(move |tx| Ok(run::latest_change(tx, key(tx, &run)?)?)).await
    }

    async fn totals(&self, run: &RunId) -> Result<Option<String>> {
        let run = run.clone();
        self.read(move |tx| Ok(run::totals(tx, key(tx, &run)?)?)).await
    }

    async fn set_totals(&self, run: &RunId, json: &str) -> Result<()> {
        let (run, json) = (run.clone(), json.to_owned());
        self.write(move |tx, _| Ok(run::set_totals(tx, key(tx, &run)?, &json)?)).await
    }

    async fn counts(&self, run: &RunId) -> Result<Counts> {
        let run = run.clone();
        self.read(move |tx| Ok(run::counts(tx, key(tx, &run)?)?)).await
    }
}

#[async_trait]
impl DocumentStore for SqliteStore {
    async fn submit(&self, run: &RunId, documents: &[NewDocument]) -> Result<Submitted> {
        let (run, documents) = (run.clone(), documents.to_vec());
        self.write(move |tx, now| Ok(document::submit(tx, key(tx, &run)?, &documents, now)?)).await
    }

    async fn get(&self, document: DocumentId) -> Result<Option<Record>> {
        self.read(move |tx| Ok(document::get(tx, document)?)).await
    }

    async fn swap(&self, swap: &CompareAndSwap) -> Result<Swapped> {
        swap.check()?;
        let swap = swap.clone();
        self.write(move |tx, now| {
            let swapped = document::swap(tx, &swap, now)?;
            Ok(swapped.ok_or_else(|| StoreError::no_document(swap.document))?)
        })
        .await
    }

    async fn history(&self, document: DocumentId) -> Result<Vec<Revision>> {
        self.read(move |tx| Ok(document::history(tx, document)?.ok_or_else(|| StoreError::no_document(document))?))
            .await
    }

    async fn changed(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<Record>> {
        let run = run.clone();
        self.read(move |tx| Ok(document::changed(tx, key(tx, &run)?, after, limit)?)).await
    }
}

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn lease(&self, query: &LeaseQuery) -> Result<Vec<Record>> {
        let query = query.clone();
        self.write(move |tx, now| Ok(lease::lease(tx, &query, now)?)).await
    }

    async fn renew(&self, renewals: &[Renewal], ttl_ms: u64) -> Result<Renewed> {
        let renewals = renewals.to_vec();
        self.write(move |tx, now| Ok(lease::renew(tx, &renewals, ttl_ms, now)?)).await
    }

    async fn lookup(&self, lease: LeaseId) -> Result<Lookup> {
        self.read(move |tx| Ok(lease::lookup(tx, lease)?)).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        commit.check()?;
        let commit = commit.clone();
        self.write(move |tx, now| Ok(lease::commit(tx, &commit, now)?)).await
    }

    async fn sweep(&self, limits: &SweepLimits) -> Result<Vec<Swept>> {
        let limits = limits.clone();
        self.write(move |tx, now| Ok(lease::sweep(tx, &limits, now)?)).await
    }
}

#[async_trait]
impl WorkerStore for SqliteStore {
    async fn heartbeat(&self, worker: &WorkerId, report: &WorkerStatus) -> Result<bool> {
        let (worker, report) = (worker.clone(), report.clone());
        self.write(move |tx, now| Ok(workers::heartbeat(tx, &worker, &report, now)?)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.call(Access::Read, move |tx, now| Ok(workers::workers(tx, now)?)).await
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        let worker = worker.clone();
        self.write(move |tx, now| match workers::drain(tx, &worker, now)? {
            true => Ok(()),
            false => Err(StoreError::no_worker(&worker).into()),
        })
        .await
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn append_audit(&self, run: Option<&RunId>, action: &Action) -> Result<()> {
        let (run, action) = (run.cloned(), action.clone());
        self.write(move |tx, _| Ok(audit_log::append(tx, key_or_none(tx, run.as_ref())?, &action)?)).await
    }

    async fn audit_log(&self, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>> {
        let run = run.cloned();
        self.read(move |tx| Ok(audit_log::entries(tx, key_or_none(tx, run.as_ref())?, limit)?)).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn audit(&self, run: &RunId, repair: bool) -> Result<Audit> {
        let run = run.clone();
        self.write(move |tx, _| Ok(audit::audit(tx, key(tx, &run)?, &run, repair)?)).await
    }

    async fn now_ms(&self) -> Result<u64> {
        Ok((self.clock)())
    }
}

#[cfg(test)]
mod tests {
    use longhand_proto::clock;

    use super::*;

    fn run() -> Run {
        Run {
            id: "r".parse().unwrap(),
            recipe: String::new(),
            recipe_hash: String::new(),
            seed: 0,
            created_ms: 1,
            policy: crate::store::RunPolicy::default(),
            paused: false,
            cancelling: false,
        }
    }

    fn document(number: u32) -> NewDocument {
        let id = DocumentId::derive(&run().id, &number.to_string(), 0);
        NewDocument { id, body: "x".repeat(10_000), failed: None }
    }

    #[tokio::test]
    async fn a_full_disk_changes_nothing_and_the_store_goes_on_when_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.sqlite"), clock::unix_ms).unwrap();
        store.create_run(&run()).await.unwrap();
        store.submit(&run().id, &[document(0)]).await.unwrap();
        let limit = async |pages: i64| {
            let connection = store.connection.lock().await;
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        };

        // As little as the file has: SQLite answers as it would on a disk without room.
        limit(1).await;
        let batch: Vec<NewDocument> = (0..20).map(document).collect();
        let full = store.submit(&run().id, &batch).await.unwrap_err();
        assert!(matches!(&full, StoreError::Full(text) if text.contains("store.sqlite")), "{full}");
        assert_eq!(store.counts(&run().id).await.unwrap().total(), 1, "none of the batch was written");
        assert_eq!(store.audit(&run().id, false).await.unwrap().mismatches, Vec::<String>::new());

        limit(1_000_000).await;
        assert_eq!(store.submit(&run().id, &batch).await.unwrap().inserted, 19);
    }

    #[tokio::test]
    async fn a_row_without_its_lease_does_not_stall_the_sweep_and_the_audit_repairs_it() {
        let store = SqliteStore::in_memory(|| 1_000).unwrap();
        store.create_run(&run()).await.unwrap();
        let documents: Vec<NewDocument> = (0..3).map(document).collect();
        store.submit(&run().id, &documents).await.unwrap();
        let query = LeaseQuery {
            worker: "here-1".parse().unwrap(),
            request_id: "one".into(),
            slots: 3,
            ttl_ms: 0,
            model: String::new(),
            weights_hash: String::new(),
            except: Vec::new(),
        };
        assert_eq!(store.lease(&query).await.unwrap().len(), 3);
        let lost = "UPDATE document SET lease = NULL, expires_ms = 1, progress_ms = 1 WHERE seq < 2";
        assert_eq!(store.connection.lock().await.execute(lost, []).unwrap(), 2);

        let limits = SweepLimits { max_losses: 3, max_losses_of: Default::default(), no_progress_ms: 60_000, batch: 2 };
        let swept = store.sweep(&limits).await.unwrap();
        assert_eq!(swept.iter().map(|swept| swept.document).collect::<Vec<_>>(), [documents[2].id]);
        let found = store.audit(&run().id, true).await.unwrap();
        assert_eq!((found.mismatches.len(), found.repaired), (2, 2), "{found:?}");
        assert_eq!(store.audit(&run().id, false).await.unwrap().mismatches, Vec::<String>::new());
        assert_eq!(store.counts(&run().id).await.unwrap().ready, 3);
    }

    #[tokio::test]
    async fn a_call_whose_caller_went_away_still_ends() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.sqlite"), clock::unix_ms).unwrap();
        store.create_run(&run()).await.unwrap();
        let id = run().id;
        let batch = [document(0)];
        let mut submit = Box::pin(store.submit(&id, &batch));
        assert!(futures::poll!(&mut submit).is_pending());
        drop(submit);
        assert_eq!(store.counts(&id).await.unwrap().total(), 1, "written whole, and the connection is free again");
    }
}
