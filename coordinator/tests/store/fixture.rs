//! A store to test, with a clock that the test moves.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Commit, Committed, Filter, LeaseQuery, NewDocument, Next, Record, RedisOptions, RedisStore, Run, RunPolicy,
    SqliteStore, Store, SweepLimits, Swept,
};
use longhand_proto::task::Checkpoint;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use serde_json::json;

use longhand_tests::cluster::Cluster;
use longhand_tests::server::{Kind, Server};

pub(crate) const SECOND: u64 = 1000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// Time to live of a lease where a test sets no other. Redis' own clock runs beside the test's: no test may depend on
/// less than the minutes that it can take.
pub(crate) const TTL: u64 = 10 * MINUTE;
pub(crate) const LIMITS: SweepLimits =
    SweepLimits { max_losses: 3, max_losses_of: BTreeMap::new(), no_progress_ms: 600 * MINUTE, batch: 100 };

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) store: Arc<dyn Store>,
    clock: Clock,
    /// The folder or the server, dropped after the store.
    backing: Option<Box<dyn Debug + Send + Sync>>,
}

#[derive(Debug)]
enum Clock {
    /// The clock itself.
    Manual(Arc<AtomicU64>),
    /// What is added to the server's.
    Offset(Arc<AtomicI64>),
}

fn manual_clock() -> (Arc<AtomicU64>, impl Fn() -> u64 + Send + Sync + 'static) {
    let time = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = Arc::clone(&time);
    (time, move || clock.load(Ordering::SeqCst))
}

impl Fixture {
    pub(crate) async fn memory() -> Self {
        let (time, clock) = manual_clock();
        let store = SqliteStore::in_memory(clock).unwrap();
        Self { store: Arc::new(store), clock: Clock::Manual(time), backing: None }
    }

    pub(crate) async fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::file_at(folder.path()).with_backing(folder)
    }

    /// In a folder of the caller's.
    pub(crate) fn file_at(folder: &Path) -> Self {
        let (time, clock) = manual_clock();
        let store = SqliteStore::open(&folder.join("store.sqlite"), clock).unwrap();
        Self { store: Arc::new(store), clock: Clock::Manual(time), backing: None }
    }

    pub(crate) async fn redis() -> Self {
        let server = Server::start(Kind::Redis);
        Self::of_server(&server).await.with_backing(server)
    }

    pub(crate) async fn valkey() -> Self {
        let server = Server::start(Kind::Valkey);
        Self::of_server(&server).await.with_backing(server)
    }

    /// On a server of the caller's.
    pub(crate) async fn of_server(server: &Server) -> Self {
        Self::at(&server.url(), RedisOptions::default()).await
    }

    /// On a cluster of the caller's, emptied before.
    pub(crate) async fn of_cluster(cluster: &Cluster) -> Self {
        for primary in &cluster.primaries {
            redis::cmd("FLUSHALL").exec(&mut primary.connect()).unwrap();
        }
        Self::at(&cluster.url(), RedisOptions::default()).await
    }

    pub(crate) async fn at(url: &str, options: RedisOptions) -> Self {
        let offset = Arc::clone(&options.clock_offset_ms);
        let store = RedisStore::open(url, options).await.unwrap();
        Self { store: Arc::new(store), clock: Clock::Offset(offset), backing: None }
    }

    fn with_backing(mut self, backing: impl Debug + Send + Sync + 'static) -> Self {
        self.backing = Some(Box::new(backing));
        self
    }

    /// Moves the store's clock.
    pub(crate) fn pass(&self, ms: u64) {
        match &self.clock {
            Clock::Manual(time) => {
                time.fetch_add(ms, Ordering::SeqCst);
            }
            Clock::Offset(offset) => {
                offset.fetch_add(ms.cast_signed(), Ordering::SeqCst);
            }
        }
    }

    /// A run with this many new documents.
    pub(crate) async fn run(&self, name: &str, documents: usize) -> RunId {
        self.run_on(name, documents, RunPolicy::default()).await
    }

    pub(crate) async fn run_on(&self, name: &str, documents: usize, policy: RunPolicy) -> RunId {
        let run = run(name);
        self.store.create_run(&Run { policy, ..a_run(name, 7) }).await.unwrap();
        let new: Vec<NewDocument> = (0..documents).map(|number| new(&run, number)).collect();
        assert_eq!(self.store.submit(&run, &new).await.unwrap().inserted, documents as u64);
        run
    }

    pub(crate) async fn lease(&self, worker: &str, request: &str, slots: u32) -> Vec<Record> {
        self.store.lease(&query(worker, request, slots)).await.unwrap()
    }

    /// Leases one document to worker `w`.
    pub(crate) async fn lease_one(&self) -> (Record, LeaseId) {
        let mut records = self.lease("w", &LeaseId::mint().to_string(), 1).await;
        let record = records.pop().expect("a ready document");
        let id = lease_of(&record);
        (record, id)
    }

    pub(crate) async fn commit(&self, lease: LeaseId, next: Next) -> Committed {
        self.store.commit(&commit(lease, next)).await.unwrap()
    }

    pub(crate) async fn end(&self, lease: LeaseId, state: State) {
        let done = self.commit(lease, Next::End { state, reason: String::new() }).await;
        assert_eq!(done, Committed::Done(None));
    }

    pub(crate) async fn get(&self, id: DocumentId) -> Record {
        self.store.get(id).await.unwrap().expect("a document that was submitted")
    }

    pub(crate) async fn sweep(&self) -> Vec<Swept> {
        self.store.sweep(&LIMITS).await.unwrap()
    }

    pub(crate) async fn all(&self, run: &RunId) -> Vec<Record> {
        self.store.list(run, &Filter::default(), None, 10_000).await.unwrap().records
    }

    pub(crate) async fn assert_sound(&self, run: &RunId) {
        let audit = self.store.audit(run, false).await.unwrap();
        assert_eq!(audit.mismatches, Vec::<String>::new());
        assert_eq!(audit.documents, self.store.counts(run).await.unwrap().total());
    }
}

pub(crate) fn run(name: &str) -> RunId {
    name.parse().unwrap()
}

pub(crate) fn a_run(name: &str, created_ms: u64) -> Run {
    Run {
        id: run(name),
        recipe: "[plan]\n".into(),
        recipe_hash: "f00".into(),
        seed: u64::MAX,
        created_ms,
        policy: RunPolicy::default(),
        paused: false,
        cancelling: false,
    }
}

pub(crate) fn worker(name: &str) -> WorkerId {
    name.parse().unwrap()
}

pub(crate) fn document(run: &RunId, number: usize) -> DocumentId {
    DocumentId::derive(run, &format!("row {number}"), 0)
}

pub(crate) fn new(run: &RunId, number: usize) -> NewDocument {
    NewDocument {
        id: document(run, number),
        body: json!({ "row": number, "text": "渡口 \u{0} end" }).to_string(),
        failed: None,
    }
}

pub(crate) fn query(name: &str, request: &str, slots: u32) -> LeaseQuery {
    LeaseQuery {
        worker: worker(name),
        request_id: request.into(),
        slots,
        ttl_ms: TTL,
        model: "small".into(),
        weights_hash: "w1".into(),
        except: Vec::new(),
    }
}

pub(crate) fn commit(lease: LeaseId, next: Next) -> Commit {
    Commit { lease, body: None, checkpoint: None, next, detail: json!({ "kind": "plan" }), ttl_ms: TTL }
}

pub(crate) fn ended(state: State, reason: &str) -> Next {
    Next::End { state, reason: reason.into() }
}

pub(crate) fn lease_of(record: &Record) -> LeaseId {
    record.lease.as_ref().expect("a leased document").id
}

pub(crate) fn ids(records: &[Record]) -> Vec<DocumentId> {
    records.iter().map(|record| record.id).collect()
}

pub(crate) fn checkpoint(tokens: &[u32]) -> Checkpoint {
    Checkpoint { tokens: tokens.to_vec(), tokenizer_hash: "smollm \"2\"".into(), ..Checkpoint::default() }
}

/// Runs each test on each store.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        on_every_store!(@store memory $($test)*);
        on_every_store!(@store file $($test)*);
        on_every_store!(@store redis $($test)*);
        on_every_store!(@store valkey $($test)*);

        /// All of them in turn, for a store that takes seconds to start.
        pub(crate) async fn on_cluster(cluster: &longhand_tests::cluster::Cluster) {
            $(eprintln!("{}", stringify!($test));
            $test(&crate::fixture::Fixture::of_cluster(cluster).await).await;)*
        }
    };
    (@store $store:ident $($test:ident)*) => {
        mod $store {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&crate::fixture::Fixture::$store().await).await;
            })*
        }
    };
}
pub(crate) use on_every_store;
