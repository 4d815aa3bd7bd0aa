//! `longhand bench trace`: the overhead of tracing. The same run in three modes in turn: without tracing, with a collector,
//! and with a collector that accepts connections and never answers.

use std::io::{BufRead, BufReader};
use std::net::TcpListener as StdTcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{note, table};
use longhand_proto::clock;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::instructions;
use crate::longhand_engine::this_program;
use crate::machine::Machine;
use crate::process::{Exited, wait};
use crate::results::publish;
use crate::statistics::median;

const HELP: &str = "\
Each round writes the same documents three times, each time in a new process. Ratios are taken within a round; the median \
over the rounds is printed. CPU time is more stable than wall-clock time if other programs are running.

Without --model, the mock engine is used, which takes no time: this shows the overhead in the coordinator.

Examples:
  longhand bench trace --model model.gguf --documents 2 --rounds 9
  longhand bench trace --documents 200";

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TraceBench {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors [default: the mock engine]
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: Option<PathBuf>,

    /// Documents per run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    documents: u32,

    /// Words per document
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=32_000))]
    words: u32,

    /// Number of times that each mode is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// Save all measurements to this file (JSON)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the spans of a run go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TraceMode {
    Off,
    Collector,
    Hanging,
}

const MODES: [TraceMode; 3] = [TraceMode::Off, TraceMode::Collector, TraceMode::Hanging];

/// The measurement of one run.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    #[serde(rename = "way")]
    mode: TraceMode,
    tokens: u64,
    /// From the start to the last document.
    seconds: f64,
    /// CPU time of all threads, model loading included.
    processor_seconds: f64,
    /// From the last document to the end of the process.
    exit_seconds: f64,
    /// Spans that the collector received.
    spans: u64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    model: String,
    documents: u32,
    words: u32,
    rounds: Vec<Vec<Measured>>,
}

/// A collector that counts spans.
#[derive(Debug, Clone, Default)]
struct Collector(Arc<AtomicU64>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.get_ref().resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        self.0.fetch_add(scopes.map(|scope| scope.spans.len() as u64).sum(), Ordering::Relaxed);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The endpoints of the modes, and the spans that the collector received.
struct Endpoints {
    collector: String,
    hanging: String,
    spans: Collector,
    /// Listens and never answers.
    _hanging: StdTcpListener,
}

impl Endpoints {
    async fn open() -> std::io::Result<Self> {
        let (listener, hanging_listener) =
            (TcpListener::bind("127.0.0.1:0").await?, StdTcpListener::bind("127.0.0.1:0")?);
        let spans = Collector::default();
        let collector = format!("http://{}", listener.local_addr()?);
        let hanging = format!("http://{}", hanging_listener.local_addr()?);
        let server = Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok(Self { collector, hanging, spans, _hanging: hanging_listener })
    }
}

impl TraceBench {
    /// Runs the benchmark.
    pub(crate) async fn run(self) -> Result<Code> {
        let refused = |e: std::io::Error| Failure::refused(format!("the benchmark cannot be set up: {e}"));
        let endpoints = Endpoints::open().await.map_err(refused)?;
        let folder = std::env::temp_dir().join(format!("longhand-bench-trace-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(refused)?;
        let measured = self.measure(&folder, &endpoints).await;
        std::fs::remove_dir_all(&folder).map_err(refused)?;
        let model = self.model.as_ref().map_or_else(|| "mock".to_owned(), |path| path.display().to_string());
        let Self { documents, words, .. } = self;
        let report = Report { machine: Machine::here(), model, documents, words, rounds: measured? };
        publish(self.json, self.report.as_deref(), &report, || report.table())
    }

    async fn measure(&self, folder: &Path, endpoints: &Endpoints) -> Result<Vec<Vec<Measured>>> {
        let input = folder.join("instructions.jsonl");
        let written = std::fs::write(&input, self.instructions());
        written.map_err(|e| Failure::refused(format!("{}: {e}", input.display())))?;
        let mut rounds = Vec::new();
        for round in 0..self.rounds as usize {
            let mut measured = Vec::new();
            // Each mode is first, second and last equally often.
            for position in 0..MODES.len() {
                let mode = MODES[(round + position) % MODES.len()];
                note(&format!("round {} of {}: {mode:?}", round + 1, self.rounds));
                let output = folder.join(format!("{round}-{position}"));
                let command = self.command(&input, &output, mode, endpoints)?;
                let before = endpoints.spans.0.load(Ordering::Relaxed);
                let one = tokio::task::spawn_blocking(move || run(command, mode)).await;
                let one = one.map_err(Failure::stopped)??;
                measured.push(Measured { spans: endpoints.spans.0.load(Ordering::Relaxed) - before, ..one });
            }
            rounds.push(measured);
        }
        Ok(rounds)
    }

    /// The demo's instructions, repeated as often as needed, with the requested length.
    fn instructions(&self) -> String {
        let prompts = instructions::prompts();
        let row = |number: usize| {
            let prompt = &prompts[number % prompts.len()];
            json!({ "id": format!("{number}"), "prompt": prompt, "length": self.words }).to_string()
        };
        (0..self.documents as usize).map(row).collect::<Vec<_>>().join("\n")
    }

    fn command(&self, input: &Path, output: &Path, mode: TraceMode, endpoints: &Endpoints) -> Result<Command> {
        let mut command = Command::new(this_program()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.arg("run").arg(input).arg("--output").arg(output).args(["--json", "--http", "off"]);
        // The texts depend on the run id: all modes write the same.
        command.args(["--run-id", "bench"]);
        match &self.model {
            Some(model) => command.arg("--model").arg(model),
            None => command.args(["--engine", "mock"]),
        };
        match mode {
            TraceMode::Off => {}
            TraceMode::Collector => drop(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoints.collector)),
            TraceMode::Hanging => drop(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoints.hanging)),
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }
}

/// Runs the command to its end and measures it by its events.
fn run(mut command: Command, mode: TraceMode) -> Result<Measured> {
    let mut child = command.spawn().map_err(|e| Failure::stopped(format!("the process cannot be started: {e}")))?;
    let failed = |what: String| Failure::stopped(format!("{what}; to see its output, run: {command:?}"));
    let (mut started, mut finished, mut tokens) = (None, None, 0);
    if let Some(out) = child.stdout.take() {
        for line in BufReader::new(out).lines().map_while(std::result::Result::ok) {
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            match event["event"].as_str() {
                Some("started") => started = Some(clock::now()),
                Some("finished") => {
                    finished = Some(clock::now());
                    tokens = event["stats"]["tokens"]["generated"].as_u64().unwrap_or(0);
                }
                _ => {}
            }
        }
    }
    let Exited { status, processor_seconds, .. } = wait(&child).map_err(|e| failed(e.to_string()))?;
    let (Some(started), Some(finished)) = (started, finished) else {
        return Err(failed(format!("a run ended with status {status} before it was complete")));
    };
    let (seconds, exit_seconds) = (finished.duration_since(started).as_secs_f64(), finished.elapsed().as_secs_f64());
    Ok(Measured { mode, tokens, seconds, processor_seconds, exit_seconds, spans: 0 })
}

impl Report {
    fn table(&self) -> String {
        let of = |mode, what: fn(&Measured) -> f64| {
            self.rounds.iter().flatten().filter(move |one| one.mode == mode).map(what).collect::<Vec<_>>()
        };
        let ratio = |mode, what: fn(&Measured) -> f64| {
            median(of(mode, what).into_iter().zip(of(TraceMode::Off, what)).map(|(one, off)| one / off))
        };
        let speed = |one: &Measured| one.tokens as f64 / one.seconds;
        let cost = |one: &Measured| one.processor_seconds / one.tokens as f64;
        let head = ["tracing", "tok/s", "ratio to off", "cpu s", "ratio to off", "spans", "max exit s"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for mode in MODES {
            let exit = of(mode, |one| one.exit_seconds).into_iter().fold(0.0, f64::max);
            rows.push(vec![
                format!("{mode:?}").to_lowercase(),
                format!("{:.0}", median(of(mode, speed).into_iter())),
                format!("{:.3}", ratio(mode, speed)),
                format!("{:.2}", median(of(mode, |one| one.processor_seconds).into_iter())),
                format!("{:.3}", ratio(mode, cost)),
                format!("{:.0}", median(of(mode, |one| one.spans as f64).into_iter())),
                format!("{exit:.1}"),
            ]);
        }
        table(&rows)
    }
}
