//! `longhand bench store`: what one call to a store costs, for more and more documents. A call that looked at all of them
//! would show.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
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

use super::compare::median;
use super::machine::Machine;
use super::redis::{Server, broken};
use crate::exit::{Code, Failure, Result};
use crate::output;

const HELP: &str = "\
Each store is filled with so many documents; then each call is made some hundred times, and the median is shown, in
microseconds a call (a document for `submit` and `sweep`). SQLite is a file in a temporary folder, written through to the
disk at each call; Redis has AOF everysec.

Examples:
  longhand bench store
  longhand bench store --documents 1000,10000 --store sqlite";

/// Documents that are submitted, swept or listed at a time.
const PAGE: u32 = 64;
const BATCH: usize = 256;
/// Times that each call is made.
const CALLS: u32 = 200;
/// Longer than the measurement takes.
const TTL_MS: u64 = 3_600_000;
const REASON: &str = "measured";
const LIMITS: SweepLimits = SweepLimits { max_losses: u32::MAX, no_progress_ms: 10 * TTL_MS, batch: PAGE };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Sqlite,
    Redis,
}

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct StoreBench {
    /// Numbers of documents to measure with
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000],
          value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    documents: Vec<u32>,

    /// Stores to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Sqlite, Kind::Redis])]
    store: Vec<Kind>,

    /// Print one JSON object a store
    #[arg(long)]
    pub(crate) json: bool,
}

/// What one call costs, for each number of documents.
#[derive(Debug, Serialize)]
struct Row {
    call: &'static str,
    microseconds: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    store: Kind,
    documents: Vec<u32>,
    rows: Vec<Row>,
}

impl StoreBench {
    pub(crate) async fn run(self) -> Result<Code> {
        for kind in self.store {
            let mut rows: Vec<Row> = Vec::new();
            for &documents in &self.documents {
                let costs = match kind {
                    Kind::Sqlite => {
                        let folder =
                            tempfile::tempdir().map_err(|e| Failure::refused(format!("a temporary folder: {e}")))?;
                        let store = SqliteStore::open(&folder.path().join("store.sqlite"), clock::unix_ms);
                        Filled::new(Arc::new(store.map_err(Failure::refused)?), documents).await?.measure().await?
                    }
                    Kind::Redis => {
                        let server = Server::open(None).await?;
                        let store = server.store().await.map_err(Failure::refused)?;
                        Filled::new(Arc::new(store), documents).await?.measure().await?
                    }
                };
                for (call, cost) in costs {
                    match rows.iter_mut().find(|row| row.call == call) {
                        Some(row) => row.microseconds.push(cost),
                        None => rows.push(Row { call, microseconds: vec![cost] }),
                    }
                }
            }
            let report = Report { machine: Machine::here(), store: kind, documents: self.documents.clone(), rows };
            if self.json { output::json(&report)? } else { output::line(&report.text())? }
        }
        Ok(Code::Ok)
    }
}

impl Report {
    fn text(&self) -> String {
        let head = ["us a call".to_owned()].into_iter();
        let head =
            head.chain(self.documents.iter().map(|it| output::grouped(u64::from(*it)))).chain(["growth".to_owned()]);
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
struct Filled {
    store: Arc<dyn Store>,
    run: RunId,
    body: String,
    documents: u32,
    /// Cost of a submission when almost all are there, for one document.
    submit: f64,
    requests: u64,
}

impl Filled {
    async fn new(store: Arc<dyn Store>, documents: u32) -> Result<Self> {
        let (run, recipe): (RunId, _) = ("bench".parse().map_err(Failure::refused)?, Recipe::builtin());
        let row = Run {
            id: run.clone(),
            recipe: recipe.to_toml(),
            recipe_hash: recipe.hash(),
            seed: 7,
            created_ms: store.now_ms().await.map_err(broken)?,
            policy: RunPolicy::default(),
            paused: false,
        };
        store.create_run(&row).await.map_err(broken)?;
        let mut filled = Self { store, body: body(&run)?, run, documents, submit: 0.0, requests: 0 };
        let mut costs = Vec::new();
        for first in (0..documents).step_by(BATCH) {
            let rows = first..documents.min(first + BATCH as u32);
            let new: Vec<NewDocument> = rows.map(|number| filled.document(number)).collect();
            let begin = clock::now();
            filled.store.submit(&filled.run, &new).await.map_err(broken)?;
            costs.push(micros(clock::now() - begin) / new.len() as f64);
        }
        // As it is at the end: the last of them.
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
        };
        let leased = self.store.lease(&query).await.map_err(broken)?;
        Ok(leased.into_iter().filter_map(|record| record.lease).map(|grant| grant.id).collect())
    }

    async fn commit(&self, lease: LeaseId, next: Next) -> Result<()> {
        let (body, detail) = (Some(self.body.clone()), serde_json::json!({ "kind": "section" }));
        let commit = Commit { lease, body, checkpoint: None, next, detail, ttl_ms: TTL_MS };
        self.store.commit(&commit).await.map(drop).map_err(broken)
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
        let latest = store.list(&run, &failed, None, PAGE).await.map_err(broken)?.records;
        let mark = latest.iter().map(|record| record.change_seq).max().unwrap_or(0).saturating_sub(u64::from(PAGE));
        let changing = timed(|| store.changed(&run, mark, PAGE)).await?;
        let counting = timed(|| store.counts(&run)).await?;
        let idle = timed(|| store.sweep(&LIMITS)).await?;
        let mut sweeping = Vec::new();
        for _ in 0..5 {
            // Gone before it is given.
            let held = self.lease(PAGE, 0).await?.len();
            let begin = clock::now();
            let swept = store.sweep(&LIMITS).await.map_err(broken)?.len();
            if swept != held {
                return Err(Failure::stopped(format!("{held} leases ran out and {swept} were swept")));
            }
            sweeping.push(micros(clock::now() - begin) / held as f64);
        }
        Ok(vec![
            ("submit, a document", self.submit),
            ("lease", median(leasing.into_iter())),
            ("commit, and lease the next task", median(continuing.into_iter())),
            ("commit the last", median(ending.into_iter())),
            ("sweep, nothing due", idle),
            ("sweep, a document", median(sweeping.into_iter())),
            ("list 64 by state, from the middle", listing),
            ("list 64 by reason", filtering),
            ("list 64 that changed last", changing),
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
        call().await.map_err(broken)?;
        costs.push(micros(clock::now() - begin));
    }
    Ok(median(costs.into_iter()))
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// A document as it is submitted. To a store it is only bytes.
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
