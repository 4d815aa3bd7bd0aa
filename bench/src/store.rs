//! `longhand bench store`: the time of each store operation, for increasing numbers of documents. An operation that scans
//! all documents would show.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Commit, Filter, LeaseQuery, NewDocument, Next, Run, RunPolicy, SqliteStore, Store, StoreError, SweepLimits,
};
use longhand_proto::task::Message;
use longhand_proto::{DocumentId, LeaseId, RunId, clock};
use serde::Serialize;

use crate::machine::Machine;
use crate::redis_server::{RedisServer, store_failure};
use crate::results::publish;
use crate::statistics::median;

const HELP: &str = "\
Each store is filled with documents; then each operation is called 200 times, and the median is printed, in microseconds per \
call (per document for `submit` and `sweep`). SQLite is a file in a temporary folder, synced to disk at each call; Redis \
uses AOF everysec.

Examples:
  longhand bench store
  longhand bench store --documents 1000,10000 --store sqlite
  longhand bench store --ended-runs 10,1000,10000

With --ended-runs the store holds one active run and that many runs of 100 documents that have ended. What a coordinator does \
again and again (lease, sweep, hello, scrape, page) must not become slower with them.";

/// Documents per page when listing and sweeping; and per submission.
const PAGE: u32 = 64;
const BATCH: usize = 256;
/// Calls per operation.
const CALLS: u32 = 200;
/// Longer than the benchmark takes.
const TTL_MS: u64 = 3_600_000;
const REASON: &str = "measured";
static LIMITS: SweepLimits =
    SweepLimits { max_losses: u32::MAX, max_losses_of: BTreeMap::new(), no_progress_ms: 10 * TTL_MS, batch: PAGE };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum StoreKind {
    Sqlite,
    Redis,
}

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct StoreBench {
    /// Numbers of documents to measure with
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000],
          value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    documents: Vec<u32>,

    /// Measure with these numbers of ended runs of 100 documents instead
    #[arg(long, value_name = "N", value_delimiter = ',', conflicts_with = "documents",
          value_parser = clap::value_parser!(u32).range(0..=100_000))]
    ended_runs: Vec<u32>,

    /// Stores to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [StoreKind::Sqlite, StoreKind::Redis])]
    store: Vec<StoreKind>,

    /// Print one JSON object per store
    #[arg(long)]
    pub(crate) json: bool,
}

/// The time of one operation, for each size of the store.
#[derive(Debug, Serialize)]
struct Row {
    call: &'static str,
    microseconds: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    store: StoreKind,
    /// Numbers of documents, or of ended runs.
    #[serde(rename = "documents")]
    sizes: Vec<u32>,
    rows: Vec<Row>,
}

impl StoreBench {
    /// Runs the benchmark.
    pub(crate) async fn run(self) -> Result<Code> {
        for kind in self.store {
            let mut rows: Vec<Row> = Vec::new();
            let by_runs = !self.ended_runs.is_empty();
            let sizes = if by_runs { &self.ended_runs } else { &self.documents };
            for &size in sizes {
                let measure = async |store| {
                    if by_runs {
                        ended::measure(store, size).await
                    } else {
                        FilledStore::new(store, size).await?.measure().await
                    }
                };
                let costs = match kind {
                    StoreKind::Sqlite => {
                        let folder = tempfile::tempdir()
                            .map_err(|e| Failure::refused(format!("a temporary folder cannot be created: {e}")))?;
                        let store = SqliteStore::open(&folder.path().join("store.sqlite"), clock::unix_ms);
                        measure(Arc::new(store.map_err(Failure::refused)?) as Arc<dyn Store>).await?
                    }
                    StoreKind::Redis => {
                        let server = RedisServer::open(None).await?;
                        let store = server.store().await.map_err(Failure::refused)?;
                        measure(Arc::new(store)).await?
                    }
                };
                for (call, cost) in costs {
                    match rows.iter_mut().find(|row| row.call == call) {
                        Some(row) => row.microseconds.push(cost),
                        None => rows.push(Row { call, microseconds: vec![cost] }),
                    }
                }
            }
            let report = Report { machine: Machine::here(), store: kind, sizes: sizes.clone(), rows };
            publish(self.json, None, &report, || report.text())?;
        }
        Ok(Code::Ok)
    }
}

impl Report {
    fn text(&self) -> String {
        let head = ["us per call".to_owned()].into_iter();
        let head = head.chain(self.sizes.iter().map(|it| output::grouped(u64::from(*it)))).chain(["growth".to_owned()]);
        let mut table: Vec<Vec<String>> = vec![head.collect()];
        for Row { call, microseconds } in &self.rows {
            let growth = match (microseconds.first(), microseconds.last()) {
                (Some(first), Some(last)) => format!("x{:.1}", last / first),
                _ => String::new(),
            };
            let cells = microseconds.iter().map(|it| format!("{it:.0}"));
            table.push([(*call).to_owned()].into_iter().chain(cells).chain([growth]).collect());
        }
        let Machine { processor, cores, .. } = &self.machine;
        format!("{:?}; {processor}, {cores} cores\n{}", self.store, output::table(&table))
    }
}

/// A store with documents in it.
struct FilledStore {
    store: Arc<dyn Store>,
    run: RunId,
    body: String,
    documents: u32,
    /// Time per document of the last submissions.
    submit: f64,
    requests: u64,
}

impl FilledStore {
    async fn new(store: Arc<dyn Store>, documents: u32) -> Result<Self> {
        let (run, recipe): (RunId, _) = ("bench".parse().map_err(Failure::refused)?, Recipe::builtin());
        let row = Run {
            id: run.clone(),
            recipe: recipe.to_toml(),
            recipe_hash: recipe.hash(),
            seed: 7,
            created_ms: store.now_ms().await.map_err(store_failure)?,
            policy: RunPolicy::default(),
            paused: false,
            cancelling: false,
        };
        store.create_run(&row).await.map_err(store_failure)?;
        let mut filled = Self { store, body: body(&run)?, run, documents, submit: 0.0, requests: 0 };
        let mut costs = Vec::new();
        for first in (0..documents).step_by(BATCH) {
            let rows = first..documents.min(first + BATCH as u32);
            let new: Vec<NewDocument> = rows.map(|number| filled.document(number)).collect();
            let begin = clock::now();
            filled.store.submit(&filled.run, &new).await.map_err(store_failure)?;
            costs.push(micros(clock::now() - begin) / new.len() as f64);
        }
        // When the store is almost full.
        filled.submit = median(costs.into_iter().rev().take(3));
        Ok(filled)
    }

    fn document(&self, number: u32) -> NewDocument {
        let id = DocumentId::derive(&self.run, &number.to_string(), 0);
        NewDocument { id, body: self.body.clone(), failed: None }
    }

    async fn lease(&mut self, slots: u32, ttl_ms: u64) -> Result<Vec<LeaseId>> {
        self.requests += 1;
        let query = LeaseQuery {
            worker: "bench".parse().map_err(Failure::refused)?,
            request_id: self.requests.to_string(),
            slots,
            ttl_ms,
            model: "bench".into(),
            weights_hash: "bench".into(),
            except: Vec::new(),
        };
        let leased = self.store.lease(&query).await.map_err(store_failure)?;
        Ok(leased.into_iter().filter_map(|record| record.lease).map(|grant| grant.id).collect())
    }

    async fn commit(&self, lease: LeaseId, next: Next) -> Result<()> {
        let (body, detail) = (Some(self.body.clone()), serde_json::json!({ "kind": "section" }));
        let commit = Commit { lease, body, checkpoint: None, next, detail, ttl_ms: TTL_MS };
        self.store.commit(&commit).await.map(drop).map_err(store_failure)
    }

    async fn measure(mut self) -> Result<Vec<(&'static str, f64)>> {
        let (mut leasing, mut continuing, mut ending) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..CALLS {
            let begin = clock::now();
            let leases = self.lease(1, TTL_MS).await?;
            leasing.push(micros(clock::now() - begin));
            let next = LeaseId::mint();
            for lease in leases {
                let begin = clock::now();
                self.commit(lease, Next::Continue { lease: Some(next) }).await?;
                continuing.push(micros(clock::now() - begin));
                let begin = clock::now();
                self.commit(next, Next::End { state: State::Failed, reason: REASON.into() }).await?;
                ending.push(micros(clock::now() - begin));
            }
        }
        let (store, run) = (Arc::clone(&self.store), self.run.clone());
        let ready = Filter { state: Some(State::Ready), reason: None };
        let failed = Filter { state: Some(State::Failed), reason: Some(REASON.into()) };
        let middle = u64::from(self.documents / 2);
        let listing = timed(|| store.list(&run, &ready, Some(middle), PAGE)).await?;
        let filtering = timed(|| store.list(&run, &failed, None, PAGE)).await?;
        let latest = store.list(&run, &failed, None, PAGE).await.map_err(store_failure)?.records;
        let mark = latest.iter().map(|record| record.change_seq).max().unwrap_or(0).saturating_sub(u64::from(PAGE));
        let changing = timed(|| store.changed(&run, mark, PAGE)).await?;
        let counting = timed(|| store.counts(&run)).await?;
        let idle = timed(|| store.sweep(&LIMITS)).await?;
        let mut sweeping = Vec::new();
        for _ in 0..5 {
            // A lease that expires at once.
            let held = self.lease(PAGE, 0).await?.len();
            let begin = clock::now();
            let swept = store.sweep(&LIMITS).await.map_err(store_failure)?.len();
            if swept != held {
                return Err(Failure::stopped(format!("{held} leases expired and {swept} were swept")));
            }
            sweeping.push(micros(clock::now() - begin) / held as f64);
        }
        Ok(vec![
            ("submit, per document", self.submit),
            ("lease", median(leasing.into_iter())),
            ("commit and lease the next task", median(continuing.into_iter())),
            ("commit the last", median(ending.into_iter())),
            ("sweep, nothing due", idle),
            ("sweep, per document", median(sweeping.into_iter())),
            ("list 64 by state, from the middle", listing),
            ("list 64 by reason", filtering),
            ("list the 64 latest changes", changing),
            ("count by state", counting),
        ])
    }
}

/// Median of many calls.
async fn timed<T, F>(call: impl Fn() -> F) -> Result<f64>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut costs = Vec::new();
    for _ in 0..CALLS {
        let begin = clock::now();
        call().await.map_err(store_failure)?;
        costs.push(micros(clock::now() - begin));
    }
    Ok(median(costs.into_iter()))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A document as submitted; opaque to the store.
fn body(run: &RunId) -> Result<String> {
    let instruction = Instruction {
        id: Some("row".into()),
        messages: vec![Message { role: "user".into(), content: "Write about the harbour at night. ".repeat(8) }],
        language: Language::En,
        required_words: Some(2_000),
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: 1,
    };
    serde_json::to_string(&Document::new(run, instruction, 0, 7, String::new())).map_err(Failure::stopped)
}

/// What a coordinator does again and again, in a store with many runs that have ended.
mod ended {
    use std::sync::Arc;

    use longhand_command::exit::{Failure, Result};
    use longhand_coordinator::domain::recipe::Recipe;
    use longhand_coordinator::domain::state::State;
    use longhand_coordinator::store::{EndedDocument, LeaseQuery, Run, RunPolicy, Store, StoreError};
    use longhand_proto::{DocumentId, RunId};

    use crate::store::{FilledStore, LIMITS, body, store_failure, timed};

    /// Documents of each run.
    const DOCUMENTS: u32 = 100;
    /// Runs of the dashboard's list beside the active ones, and runs with series of their own.
    const PAGE_RUNS: u32 = 100;
    const SCRAPE_RUNS: u32 = 32;

    /// Fills the store with `runs` ended runs and an active one, and measures.
    pub(super) async fn measure(store: Arc<dyn Store>, runs: u32) -> Result<Vec<(&'static str, f64)>> {
        for number in 0..runs {
            ended_run(store.as_ref(), &format!("ended-{number}")).await?;
        }
        let filled = FilledStore::new(Arc::clone(&store), DOCUMENTS).await?;
        store.sweep(&LIMITS).await.map_err(store_failure)?;
        let nothing = LeaseQuery {
            worker: "bench".parse().map_err(Failure::refused)?,
            request_id: "nothing".into(),
            slots: 1,
            ttl_ms: 1_000,
            model: "bench".into(),
            weights_hash: "bench".into(),
            except: vec![filled.run],
        };
        let with_counts = |runs: Vec<Run>| {
            let store = Arc::clone(&store);
            async move {
                for run in runs {
                    store.counts(&run.id).await?;
                }
                Ok::<_, StoreError>(())
            }
        };
        Ok(vec![
            ("lease, nothing to give", timed(|| store.lease(&nothing)).await?),
            ("sweep, nothing due", timed(|| store.sweep(&LIMITS)).await?),
            ("hello", timed(|| async { with_counts(store.active_runs().await?).await }).await?),
            (
                "scrape",
                timed(|| async {
                    with_counts(store.active_runs().await?).await?;
                    with_counts(store.latest_runs(SCRAPE_RUNS).await?).await
                })
                .await?,
            ),
            (
                "page of runs",
                timed(|| async {
                    with_counts(store.active_runs().await?).await?;
                    with_counts(store.latest_runs(PAGE_RUNS).await?).await
                })
                .await?,
            ),
        ])
    }

    async fn ended_run(store: &dyn Store, name: &str) -> Result<()> {
        let (id, recipe): (RunId, _) = (name.parse().map_err(Failure::refused)?, Recipe::builtin());
        let run = Run {
            id: id.clone(),
            recipe: recipe.to_toml(),
            recipe_hash: recipe.hash(),
            seed: 7,
            created_ms: 1,
            policy: RunPolicy::default(),
            paused: false,
            cancelling: false,
        };
        store.create_run(&run).await.map_err(store_failure)?;
        let body = body(&id)?;
        let document = |number: u32| EndedDocument {
            id: DocumentId::derive(&id, &number.to_string(), 0),
            state: State::Accepted,
            reason: String::new(),
            version: 2,
            open: true,
            flushed: true,
            body: body.clone(),
            attempts: Vec::new(),
            history: Vec::new(),
        };
        let documents: Vec<_> = (0..DOCUMENTS).map(document).collect();
        store.load(&id, &documents).await.map(drop).map_err(store_failure)
    }
}
