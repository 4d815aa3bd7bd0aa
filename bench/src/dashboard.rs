//! `longhand bench dashboard`: the server's response time for each page of a large run.

use std::time::Duration;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::note;
use longhand_command::store_url::redact;
use longhand_coordinator::control::rpc::{Coordinator, ServiceOptions};
use longhand_coordinator::control::submit::{self, RunSpec};
use longhand_coordinator::domain::document::{Document, Progress, Section, Verdict};
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::plan::{Plan, Step};
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::http::{self, HttpConfig};
use longhand_coordinator::store::{self, CompareAndSwap, NewDocument, RedisOptions, RunPolicy, Store};
use longhand_proto::task::{FinishReason, Message, Timings, Usage};
use longhand_proto::{RunId, clock, rng};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::results::publish;

const HELP: &str = "\
Creates a run in the store: one document in four has failed and one in twenty is accepted, each with a text of about 1,000 \
words; all others are waiting. Then requests each page repeatedly, and prints the server's time from the header \
Server-Timing. The run stays in the store: use a store that you can discard.

Examples:
  longhand bench dashboard --store sqlite:/tmp/bench.sqlite
  longhand bench dashboard --store redis://127.0.0.1:6379/9 --documents 100000";

/// Documents per submission.
const BATCH: usize = 256;
const SECTIONS: usize = 4;
const SECTION_WORDS: usize = 250;
const CAUSES: [&str; 4] = ["bad_plan", "truncated_section", "repetition", "empty_section"];

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DashboardBench {
    /// Store to create the run in: redis://HOST:PORT/DB or sqlite:PATH
    #[arg(long, value_name = "URL", hide_env_values = true)]
    store: String,

    /// Number of documents
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    documents: u32,

    /// Number of requests per page
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Accept a Redis that may lose data
    #[arg(long)]
    allow_volatile: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The server's time for a page.
#[derive(Debug, Serialize)]
struct Page {
    name: &'static str,
    median_ms: f64,
    max_ms: f64,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct Report {
    store: String,
    documents: u32,
    /// Time from the first request until the whole run was indexed, and the slowest page in that time.
    first_look_ms: u64,
    first_look_max_ms: f64,
    /// The first request of the report, when nothing is measured yet.
    first_report_ms: f64,
    pages: Vec<Page>,
}

impl DashboardBench {
    /// Runs the benchmark.
    pub(crate) async fn run(self) -> Result<Code> {
        let at = |e| Failure::refused(format!("{}: {e}", redact(&self.store)));
        let options = RedisOptions { allow_volatile: self.allow_volatile, ..RedisOptions::default() };
        let store = store::open(&self.store, options).await.map_err(at)?;
        let id: RunId = format!("bench-{:08x}", rng::below(1 << 32)).parse().map_err(Failure::refused)?;
        note(&format!("creating run {id} with {} documents", self.documents));
        fill(store.as_ref(), &id, self.documents).await.map_err(Failure::stopped)?;
        let coordinator = Coordinator::new(store, ServiceOptions::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::stopped)?;
        let site = HttpConfig { coordinator: Some(coordinator), ..HttpConfig::default() };
        let url = format!("http://{}", listener.local_addr().map_err(Failure::stopped)?);
        let stop = CancellationToken::new();
        let server = tokio::spawn(http::serve(listener, site, None, stop.clone()));
        let report = self.measure(&url, &id).await;
        stop.cancel();
        server.await.map_err(Failure::stopped)?;
        let report = report.map_err(|e| Failure::stopped(format!("a page could not be loaded: {e}")))?;
        publish(self.json, None, &report, || report.text())
    }

    async fn measure(&self, url: &str, run: &RunId) -> std::io::Result<Report> {
        let list = format!("/api/runs/{run}/documents");
        let (began, mut slowest) = (clock::now(), 0.0_f64);
        loop {
            let (ms, body) = get(url, &list).await?;
            slowest = slowest.max(ms);
            if serde_json::from_str::<Value>(&body)?["complete"] == true {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let first_look_ms = clock::now().duration_since(began).as_millis() as u64;
        let failed: Value = serde_json::from_str(&get(url, &format!("{list}?state=failed")).await?.1)?;
        let some = failed["items"][0]["id"].as_str().unwrap_or_default();
        let report = format!("/report/{run}");
        let (first_report_ms, mut page) = get(url, &report).await?;
        // The rest is measured in the background.
        while page.contains(" data-again>") {
            tokio::time::sleep(Duration::from_millis(100)).await;
            page = get(url, &report).await?.1;
        }
        let requests: [(&'static str, String); 10] = [
            ("the list of runs", "/api/runs".into()),
            ("the run", format!("/api/runs/{run}")),
            ("first page of documents", list.clone()),
            ("last page", format!("{list}?page=1000000")),
            ("failed documents with one cause", format!("{list}?state=failed&reason=bad_plan")),
            ("a search with few results", format!("{list}?q=number%2099999")),
            ("a search without results", format!("{list}?q=zzzz")),
            ("the longest first", format!("{list}?sort=words")),
            ("one document", format!("{list}/{some}")),
            ("the report, measured", report),
        ];
        let mut pages = Vec::new();
        for (name, path) in requests {
            let (mut times, mut bytes) = (Vec::new(), 0);
            for _ in 0..self.rounds {
                let (ms, body) = get(url, &path).await?;
                times.push(ms);
                bytes = body.len();
            }
            times.sort_by(f64::total_cmp);
            pages.push(Page { name, median_ms: times[times.len() / 2], max_ms: times[times.len() - 1], bytes });
        }
        let store = redact(&self.store);
        Ok(Report {
            store,
            documents: self.documents,
            first_look_ms,
            first_look_max_ms: slowest,
            first_report_ms,
            pages,
        })
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} documents, indexed in {:.1} s (slowest page in that time: {:.0} ms)\n",
            self.documents,
            self.first_look_ms as f64 / 1000.0,
            self.first_look_max_ms
        );
        text.push_str(&format!(
            "{:>8.1} ms                                          the report, of which nothing was measured before\n",
            self.first_report_ms
        ));
        for page in &self.pages {
            text.push_str(&format!(
                "{:>8.1} ms median {:>8.1} ms max {:>9} bytes  {}\n",
                page.median_ms, page.max_ms, page.bytes, page.name
            ));
        }
        text
    }
}

async fn fill(store: &dyn Store, id: &RunId, documents: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let spec =
        RunSpec { id: id.clone(), recipe: Recipe::builtin(), seed: 0, candidates: 1, policy: RunPolicy::default() };
    submit::create(store, &spec).await?;
    let numbers: Vec<u32> = (0..documents).collect();
    for numbers in numbers.chunks(BATCH) {
        let mut batch = Vec::new();
        for &number in numbers {
            let document = document(id, number);
            let failed = document.ended().filter(|(state, _)| *state == State::Failed).map(|(_, reason)| reason);
            batch.push(NewDocument { id: document.id, body: serde_json::to_string(&document)?, failed });
        }
        store.submit(id, &batch).await?;
    }
    for number in (0..documents).step_by(20) {
        let mut document = document(id, number);
        let (sections, plan) = (document.sections().to_vec(), document.plan().cloned().unwrap_or_default());
        let (text, verdict, votes) = (String::new(), Verdict::Accepted, Vec::new());
        document.progress = Progress::Finished { plan, sections, text, verdict, votes };
        let body = Some(serde_json::to_string(&document)?);
        let (reason, judge) = (String::new(), false);
        let swap = CompareAndSwap { document: document.id, version: 1, state: State::Accepted, reason, judge, body };
        store.swap(&swap).await?;
    }
    Ok(())
}

/// One in four failed with a text; all others wait for their plan.
fn document(run: &RunId, number: u32) -> Document {
    let text = format!(
        "Write a long and careful report on harbour number {number}: its history, its trade, its people, and what the next \
         fifty years may bring for those who live by the water."
    );
    let instruction = Instruction {
        id: Some(format!("row-{number}")),
        messages: vec![Message { role: "user".into(), content: text }],
        language: Language::En,
        required_words: Some(1_000 + number % 4_000),
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: u64::from(number) + 1,
    };
    let mut document = Document::new(run, instruction, 0, 0, String::new());
    if number.is_multiple_of(4) {
        let cause = CAUSES[(number / 4) as usize % CAUSES.len()];
        let section = Section {
            text: "the water keeps what it is told ".repeat(SECTION_WORDS / 7),
            target_words: SECTION_WORDS as u32,
            asked_words: None,
            words: (SECTION_WORDS / 7 * 7) as u32,
            finish_reason: FinishReason::Stop,
            attempt: 1,
            worker: "bench".parse().unwrap_or_else(|_| unreachable!("a valid id")),
            usage: Usage { prompt: 900, cached: 800, reusable: 800, generated: 400, ..Usage::default() },
            timings: Timings::default(),
            seed: 1,
            trace_id: String::new(),
            context: Vec::new(),
            rejections: Vec::new(),
        };
        let step = Step { main_point: "What the water keeps".into(), words: SECTION_WORDS as u32 };
        document.progress = Progress::Failed {
            class: cause.into(),
            message: format!("section 4 of 5: {cause} of document {number}"),
            plan: Some(Plan { steps: vec![step; SECTIONS + 1] }),
            sections: vec![section; SECTIONS],
        };
    }
    document
}

/// The server's time in milliseconds, and the response.
async fn get(url: &str, path: &str) -> std::io::Result<(f64, String)> {
    let address = url.strip_prefix("http://").unwrap_or(url);
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.starts_with("HTTP/1.1 200") {
        return Err(std::io::Error::other(format!("{path}: {}", answer.lines().next().unwrap_or_default())));
    }
    let timing = head.lines().find_map(|line| line.strip_prefix("server-timing: all;dur=")?.parse().ok());
    let timing = timing.ok_or_else(|| std::io::Error::other("the response has no Server-Timing header"))?;
    Ok((timing, body.to_owned()))
}
