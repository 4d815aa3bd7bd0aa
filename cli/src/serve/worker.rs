//! `longhand worker`: generates documents for a coordinator.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{grouped, plural};
use longhand_coordinator::http::HttpConfig;
use longhand_proto::WorkerId;
use longhand_worker::client::{Metrics, Waits, Worker, WorkerError, WorkerOptions, WorkerReport};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::http::HttpServer;
use super::pod;
use crate::args::connection::ConnectionArgs;
use crate::args::engine::EngineArgs;
use crate::args::listen::ListenConfig;
use crate::display::Display;
use crate::engine;
use crate::signals::Signals;

/// Time between two looks at what a worker waits for.
const WAITING_POLL: Duration = Duration::from_secs(1);

const HELP: &str = "\
Examples:
  longhand worker --model SmolLM2-135M-Instruct.Q4_1.gguf
  longhand worker --model Qwen3-8B/ \\
    --coordinator https://a:7070,https://b:7070 --token-file token \\
    --tls-ca ca.pem

A worker may be started, stopped and killed at any time. On the first SIGTERM or Ctrl-C it submits its unfinished texts \
and ends within --grace seconds; on the second it ends at once, and other workers continue from the last checkpoint.

Exit codes:
  0    stopped by a signal or by --exit-idle; all documents were released
  1    the engine failed, or the coordinator was unreachable for too long
  2    nothing was started: invalid arguments or model, or the coordinator
       rejected this worker
  130  stopped at once by a second signal";

/// Coordinator, engine and limits of a worker.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct WorkerArgs {
    /// Time to submit unfinished texts when stopping
    #[arg(long, value_name = "SECONDS", default_value_t = 20, env = "LONGHAND_GRACE",
          value_parser = clap::value_parser!(u64).range(0..=3_600))]
    grace: u64,

    /// Time between two checkpoints: the work that is lost if the worker is killed
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, env = "LONGHAND_CHECKPOINT_SECONDS")]
    checkpoint_seconds: f64,

    /// Time without a reachable coordinator after which the worker ends
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = "LONGHAND_GIVE_UP_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    give_up_seconds: u64,

    /// Idle time after which the worker ends, for batch jobs [default: never]
    #[arg(long, value_name = "SECONDS", env = "LONGHAND_EXIT_IDLE",
          value_parser = clap::value_parser!(u64).range(1..=604_800))]
    exit_idle: Option<u64>,

    /// Address of /metrics; beyond this machine it requires this worker's token and uses its certificate [default: none]
    #[arg(long, value_name = "HOST:PORT", env = "LONGHAND_WORKER_HTTP")]
    http: Option<String>,

    /// Print events to stdout, one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

impl WorkerArgs {
    fn options(&self, worker: &WorkerId) -> Result<WorkerOptions> {
        let checkpoint_every = Duration::try_from_secs_f64(self.checkpoint_seconds)
            .map_err(|e| Failure::refused(format!("invalid --checkpoint-seconds {}: {e}", self.checkpoint_seconds)))?;
        Ok(WorkerOptions {
            slots: self.engine.max_sequences,
            checkpoint_every,
            grace: Duration::from_secs(self.grace),
            give_up: Duration::from_secs(self.give_up_seconds),
            exit_idle: self.exit_idle.map(Duration::from_secs),
            price: self.engine.price(),
            ..WorkerOptions::new(worker.clone())
        })
    }
}

/// Works until a signal or an error.
pub(crate) async fn worker(args: &WorkerArgs) -> Result<Code> {
    let worker = WorkerId::mint(&host_name());
    let options = args.options(&worker)?;
    let link = args.connection.open()?;
    let listen = ListenConfig {
        tokens: args.connection.tokens()?,
        tls: args.connection.certificates()?,
        insecure: args.connection.insecure,
        local_token: None,
    };
    let http = match args.http.as_deref() {
        Some(_) => listen.open_http(args.http.as_deref()).await?,
        None => None,
    };
    let engine = engine::open(&args.engine).await?;
    let mut signals = Signals::listen()?;
    let display = Display::new(args.json, false);
    let (model, slots) = (engine.model().clone(), engine.slots());
    let text = format!(
        "worker {worker}: model {} on {}, {} at a time, coordinator {}",
        model.name,
        model.device,
        plural(slots.into(), "document"),
        args.connection.coordinator.join(", ")
    );
    let worker_loop = Worker::new(link, engine, options);
    let mut waiting =
        Waiting { waits: worker_loop.waits(), address: args.connection.coordinator.join(", "), said: None };
    let stop = CancellationToken::new();
    let site = site(worker_loop.metrics(), stop.clone());
    let http = http.map(|listener| HttpServer::start(listener, listen, site)).transpose()?;
    drop(tokio::spawn(pod::publish_deletion_cost(worker_loop.metrics(), stop.clone())));
    let metrics = http.as_ref().map(|http| format!("{}/metrics", http.url));
    let fields = json!({ "worker": worker, "model": model, "slots": slots, "metrics": metrics });
    display.event("started", &text, fields)?;

    let mut work = tokio::spawn(worker_loop.run(stop.clone()));
    let mut said = Ok(());
    let ended = tokio::select! {
        ended = &mut work => ended,
        never = waiting.tell(&display) => match never {},
        () = signals.next() => {
            stop.cancel();
            signals.exit_on_next();
            let text = "stopping: submitting unfinished texts (a second signal stops at once)";
            // Whoever read this may be gone; the leases are handed back all the same.
            said = display.event("stopping", text, json!({}));
            work.await
        }
    };
    if let Some(http) = http {
        http.stop().await;
    }
    let ended = ended.map_err(|error| Failure::stopped(format!("the worker crashed: {error}")))?;
    let WorkerReport { completed, failed, released, lost, continued } = ended.map_err(|error| match error {
        error @ WorkerError::Refused(_) => Failure::refused(error),
        error @ (WorkerError::Unreachable { .. } | WorkerError::EngineDead(_)) => Failure::stopped(error),
    })?;
    let text = format!(
        "stopped: {} completed, {} released, {} lost, {} failed",
        plural(completed, "text"),
        grouped(released),
        grouped(lost),
        grouped(failed)
    );
    let fields = json!({
        "completed": completed, "failed": failed, "released": released, "lost": lost, "continued": continued,
    });
    said?;
    display.event("stopped", &text, fields)?;
    Ok(Code::Ok)
}

/// Says what a worker waits for, once for each reason.
struct Waiting {
    waits: Waits,
    address: String,
    said: Option<String>,
}

impl Waiting {
    async fn tell(&mut self, display: &Display) -> Infallible {
        loop {
            tokio::time::sleep(WAITING_POLL).await;
            let reason = self.waits.reason();
            if reason == self.said {
                continue;
            }
            if let Some(reason) = &reason {
                let text = format!("waiting: {reason} (coordinator {})", self.address);
                // Nobody need be there to read it.
                drop(display.event("waiting", &text, json!({ "reason": reason, "coordinator": self.address })));
            }
            self.said = reason;
        }
    }
}

/// Metrics only: the documents are shown by the coordinator.
fn site(metrics: Metrics, stopping: CancellationToken) -> HttpConfig {
    HttpConfig { metric_sources: vec![Arc::new(move || metrics.gather())], stopping, ..HttpConfig::default() }
}

/// The host name, for the name of the worker; only people read it.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "local".to_owned(), |n| n.trim().to_owned())
}
