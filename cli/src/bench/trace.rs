//! `longhand bench trace`: what tracing costs. The same run three ways in turn: not traced, traced to a collector, and
//! traced to one that takes the connection and never answers.

use std::io::{BufRead, BufReader};
use std::net::TcpListener as Silent;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use longhand_proto::clock;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use super::compare::{Ended, median, save, wait};
use super::machine::Machine;
use crate::exit::{Code, Failure, Result};
use crate::output::{self, table};

const HELP: &str = "\
Each round writes the same documents three times, each time in a process of its own. A ratio is that of two neighbours in
one round; the median of the rounds is shown. Time on the processors is steadier than time on the clock where other
programs run beside this one.

Without --model the test double writes at once: then the coordinator is all there is to slow down.

Examples:
  longhand bench trace --model model.gguf --documents 2 --rounds 9
  longhand bench trace --documents 200";

/// Real instructions: those of the demo.
const INSTRUCTIONS: &str = include_str!("../../../examples/instructions.jsonl");

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct TraceBench {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors [default: the test double]
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: Option<PathBuf>,

    /// Documents of a run
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    documents: u32,

    /// Words of a document
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(100..=32_000))]
    words: u32,

    /// Times that each way is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// Write all single measurements to this file (JSON)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// How a run is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Off,
    Collector,
    Hanging,
}

const WAYS: [Way; 3] = [Way::Off, Way::Collector, Way::Hanging];

/// One run.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    way: Way,
    tokens: u64,
    /// From its start to its last document.
    seconds: f64,
    /// Of all its threads, model loading included.
    processor_seconds: f64,
    /// From its last document to the end of the process.
    exit_seconds: f64,
    /// That the collector took.
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

/// Counts what it is sent.
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

/// Where each way sends its spans, and what the collector got.
struct Ends {
    collector: String,
    hanging: String,
    spans: Collector,
    /// Listens, and takes nothing.
    _silent: Silent,
}

impl Ends {
    async fn open() -> std::io::Result<Self> {
        let (listener, silent) = (TcpListener::bind("127.0.0.1:0").await?, Silent::bind("127.0.0.1:0")?);
        let spans = Collector::default();
        let collector = format!("http://{}", listener.local_addr()?);
        let hanging = format!("http://{}", silent.local_addr()?);
        let server = Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        Ok(Self { collector, hanging, spans, _silent: silent })
    }
}

impl TraceBench {
    pub(crate) async fn run(self) -> Result<Code> {
        let wrong = |e: std::io::Error| Failure::refused(format!("no place to measure in: {e}"));
        let ends = Ends::open().await.map_err(wrong)?;
        let folder = std::env::temp_dir().join(format!("longhand-bench-trace-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(wrong)?;
        let measured = self.measure(&folder, &ends).await;
        std::fs::remove_dir_all(&folder).map_err(wrong)?;
        let model = self.model.as_ref().map_or_else(|| "mock".to_owned(), |path| path.display().to_string());
        let Self { documents, words, .. } = self;
        let report = Report { machine: Machine::here(), model, documents, words, rounds: measured? };
        if self.json {
            output::json(&report)?;
        } else {
            output::line(report.table().trim_end())?;
        }
        if let Some(path) = &self.report {
            save(path, &report)?;
        }
        Ok(Code::Ok)
    }

    async fn measure(&self, folder: &Path, ends: &Ends) -> Result<Vec<Vec<Measured>>> {
        let input = folder.join("instructions.jsonl");
        let written = std::fs::write(&input, self.instructions());
        written.map_err(|e| Failure::refused(format!("{}: {e}", input.display())))?;
        let mut rounds = Vec::new();
        for round in 0..self.rounds as usize {
            let mut measured = Vec::new();
            // Each way comes first, in the middle and last equally often.
            for place in 0..WAYS.len() {
                let way = WAYS[(round + place) % WAYS.len()];
                eprint!("\rround {} of {}: {way:?}          ", round + 1, self.rounds);
                let output = folder.join(format!("{round}-{place}"));
                let command = self.command(&input, &output, way, ends)?;
                let before = ends.spans.0.load(Ordering::Relaxed);
                let one = tokio::task::spawn_blocking(move || run(command, way)).await;
                let one = one.map_err(Failure::stopped)??;
                measured.push(Measured { spans: ends.spans.0.load(Ordering::Relaxed) - before, ..one });
            }
            rounds.push(measured);
        }
        eprintln!();
        Ok(rounds)
    }

    /// The demo's instructions over and over, each time of the length asked for.
    fn instructions(&self) -> String {
        let texts: Vec<Value> = INSTRUCTIONS.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let row = |number: usize| {
            let prompt = &texts[number % texts.len()]["prompt"];
            json!({ "id": format!("{number}"), "prompt": prompt, "length": self.words }).to_string()
        };
        (0..self.documents as usize).map(row).collect::<Vec<_>>().join("\n")
    }

    fn command(&self, input: &Path, output: &Path, way: Way, ends: &Ends) -> Result<Command> {
        let program = std::env::current_exe();
        let program = program.map_err(|e| Failure::refused(format!("the program's own file cannot be found: {e}")))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(name);
        }
        command.arg("run").arg(input).arg("--output").arg(output).args(["--json", "--http", "off"]);
        // The name of the run decides the texts: all ways write the same.
        command.args(["--run-id", "bench"]);
        match &self.model {
            Some(model) => command.arg("--model").arg(model),
            None => command.args(["--engine", "mock"]),
        };
        match way {
            Way::Off => {}
            Way::Collector => drop(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &ends.collector)),
            Way::Hanging => drop(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &ends.hanging)),
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }
}

/// Runs it to its end and takes the times of what it says.
fn run(mut command: Command, way: Way) -> Result<Measured> {
    let mut child = command.spawn().map_err(|e| Failure::stopped(format!("no process can be started: {e}")))?;
    let failed = |what: String| Failure::stopped(format!("{what}; try it: {command:?}"));
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
    let Ended { status, processor_seconds, .. } = wait(&child).map_err(|e| failed(e.to_string()))?;
    let (Some(started), Some(finished)) = (started, finished) else {
        return Err(failed(format!("a run ended with status {status} before its documents did")));
    };
    let (seconds, exit_seconds) = (finished.duration_since(started).as_secs_f64(), finished.elapsed().as_secs_f64());
    Ok(Measured { way, tokens, seconds, processor_seconds, exit_seconds, spans: 0 })
}

impl Report {
    fn table(&self) -> String {
        let of = |way, what: fn(&Measured) -> f64| {
            self.rounds.iter().flatten().filter(move |one| one.way == way).map(what).collect::<Vec<_>>()
        };
        let ratio = |way, what: fn(&Measured) -> f64| {
            median(of(way, what).into_iter().zip(of(Way::Off, what)).map(|(one, off)| one / off))
        };
        let speed = |one: &Measured| one.tokens as f64 / one.seconds;
        let cost = |one: &Measured| one.processor_seconds / one.tokens as f64;
        let head = ["tracing", "tok/s", "of off", "cpu s", "of off", "spans", "last exit s"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for way in WAYS {
            let exit = of(way, |one| one.exit_seconds).into_iter().fold(0.0, f64::max);
            rows.push(vec![
                format!("{way:?}").to_lowercase(),
                format!("{:.0}", median(of(way, speed).into_iter())),
                format!("{:.3}", ratio(way, speed)),
                format!("{:.2}", median(of(way, |one| one.processor_seconds).into_iter())),
                format!("{:.3}", ratio(way, cost)),
                format!("{:.0}", median(of(way, |one| one.spans as f64).into_iter())),
                format!("{exit:.1}"),
            ]);
        }
        table(&rows)
    }
}
