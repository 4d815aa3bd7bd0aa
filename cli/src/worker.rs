//! `longhand worker`: writes documents for a coordinator.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longhand_coordinator::http::HttpConfig;
use longhand_proto::WorkerId;
use longhand_worker::client::{Metrics, Worker, WorkerError, WorkerOptions, WorkerReport};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::EngineArgs;
use crate::display::Display;
use crate::exit::{Code, Failure, Result};
use crate::interrupt::Signals;
use crate::link::LinkArgs;
use crate::port::{Door, Http};
use crate::{pod, writer};

const HELP: &str = "\
Examples:
  longhand worker --model SmolLM2-135M-Instruct.Q4_1.gguf
  longhand worker --model Qwen3-8B/ --coordinator https://a:7070,https://b:7070 --token-file token --tls-ca ca.pem

It may be started, stopped and killed at any time. A first SIGTERM or Ctrl-C makes it hand its unfinished texts back and
end within --grace seconds; a second one ends it at once, and then other workers go on from the last checkpoint.

Exit codes:
  0    stopped by a signal or by --exit-idle, everything handed back
  1    the engine died, or the coordinator was gone for too long
  2    nothing was started: wrong usage, model of no use, or the coordinator refused this worker
  130  stopped at once by a second signal";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct WorkerArgs {
    #[command(flatten)]
    pub(crate) link: LinkArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// Time for handing texts back when asked to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 20, env = "LONGHAND_GRACE",
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    grace: u64,

    /// Time between two checkpoints: what a worker that is killed may lose
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, env = "LONGHAND_CHECKPOINT_SECONDS")]
    checkpoint_seconds: f64,

    /// Time without any coordinator after which the worker gives up
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = "LONGHAND_GIVE_UP_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    give_up_seconds: u64,

    /// Time without a document after which the worker ends, for jobs that a cluster waits for [default: never]
    #[arg(long, value_name = "SECONDS", env = "LONGHAND_EXIT_IDLE",
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    exit_idle: Option<u64>,

    /// Address of /metrics; beyond this machine it asks for this worker's token and uses its certificate [default: none]
    #[arg(long, value_name = "HOST:PORT", env = "LONGHAND_WORKER_HTTP")]
    http: Option<String>,

    /// Serve /metrics beyond this machine without TLS or without a token
    #[arg(long, env = "LONGHAND_INSECURE", requires = "http")]
    insecure: bool,

    /// Print events to stdout, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Works until a signal, or until it cannot.
pub(crate) async fn worker(args: &WorkerArgs) -> Result<Code> {
    let checkpoint_every = Duration::try_from_secs_f64(args.checkpoint_seconds)
        .map_err(|e| Failure::refused(format!("--checkpoint-seconds {}: {e}", args.checkpoint_seconds)))?;
    let link = args.link.open()?;
    let door = Door { tokens: args.link.own_token()?, pem: args.link.own_pem()?, insecure: args.insecure };
    let http = match args.http.as_deref() {
        Some(_) => door.open_http(args.http.as_deref()).await?,
        None => None,
    };
    let engine = writer::open(&args.engine).await?;
    let worker = WorkerId::mint(&host());
    let options = WorkerOptions {
        slots: args.engine.max_sequences,
        checkpoint_every,
        grace: Duration::from_secs(args.grace),
        give_up: Duration::from_secs(args.give_up_seconds),
        exit_idle: args.exit_idle.map(Duration::from_secs),
        ..WorkerOptions::new(worker.clone())
    };
    let mut signals = Signals::listen()?;
    let display = Display::new(args.json, false);
    let (model, slots) = (engine.model().clone(), engine.slots());
    let text = format!(
        "worker {worker}: model {} on {}, {slots} documents at a time, coordinator {}",
        model.name,
        model.device,
        args.link.coordinator.join(", ")
    );
    let worker_loop = Worker::new(link, engine, options);
    let stop = CancellationToken::new();
    let site = site(worker_loop.metrics(), stop.clone());
    let http = http.map(|listener| Http::start(listener, door, site)).transpose()?;
    drop(tokio::spawn(pod::tell(worker_loop.metrics(), stop.clone())));
    let metrics = http.as_ref().map(|http| format!("{}/metrics", http.url));
    let fields = json!({ "worker": worker, "model": model, "slots": slots, "metrics": metrics });
    display.event("started", &text, fields)?;

    let mut work = tokio::spawn(worker_loop.run(stop.clone()));
    let ended = tokio::select! {
        ended = &mut work => ended,
        () = signals.next() => {
            stop.cancel();
            signals.end_at_next();
            let text = "stopping: unfinished texts are handed back (a second signal stops at once)";
            display.event("stopping", text, json!({}))?;
            work.await
        }
    };
    if let Some(http) = http {
        http.stop().await;
    }
    let report = match ended {
        Ok(Ok(report)) => report,
        Ok(Err(error @ WorkerError::Refused(_))) => return Err(Failure::refused(error)),
        Ok(Err(error @ (WorkerError::Unreachable { .. } | WorkerError::EngineDead(_)))) => {
            return Err(Failure::stopped(error));
        }
        Err(error) => return Err(Failure::stopped(format!("the worker crashed: {error}"))),
    };
    let WorkerReport { completed, failed, released, lost, continued } = report;
    let text = format!("stopped: {completed} texts handed in, {released} given back, {lost} lost, {failed} failed");
    let fields = json!({
        "completed": completed, "failed": failed, "released": released, "lost": lost, "continued": continued,
    });
    display.event("stopped", &text, fields)?;
    Ok(Code::Ok)
}

/// Numbers only: what a worker writes is shown by its coordinator.
fn site(metrics: Metrics, stopping: CancellationToken) -> HttpConfig {
    HttpConfig { metric_sources: vec![Arc::new(move || metrics.gather())], stopping, ..HttpConfig::default() }
}

/// For the name of the worker; only people read it.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "local".to_owned(), |n| n.trim().to_owned())
}
