//! `longhand bench queue`: tasks per second that a coordinator leases and completes, over real gRPC and a real Redis,
//! compared with the raw Redis scripts on the same server.

mod fleet;
mod load;
mod raw_scripts;

use std::time::Duration;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use serde::Serialize;

use crate::machine::Machine;
use crate::redis_server::RedisServer;
use crate::results::publish;
use crate::statistics::median;
use fleet::Fleet;
use load::Load;

const HELP: &str = "\
Each document is leased, its plan is completed (which returns the lease of its one section), and its section is completed: \
two cycles of lease and complete. The workers are simulated, with one connection and one call at a time each, and generate \
nothing; the coordinator, gRPC and Redis (AOF everysec) are real, and all of them share this machine. Each text is rejected \
by an early filter, as the time of the other filters is not part of the queue. The raw scripts are the same EVALSHA commands \
with the same documents, sent directly to Redis: one call at a time on each of 50 connections, the default of \
redis-benchmark, and pipelines of 32 on 8 connections. All are measured in turn, --rounds times; medians are printed.

Examples:
  longhand bench queue --workers 1000 --slots 32
  longhand bench queue --store redis://127.0.0.1:6379/9 --documents 50000";

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct QueueBench {
    /// Number of simulated workers
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: u32,

    /// Documents that a worker leases per call
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,

    /// Documents per round
    #[arg(long, value_name = "N", default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    documents: u32,

    /// Number of times that each side processes all documents
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// Empty Redis to use [default: one is started for the benchmark]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    store: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    redis: String,
    workers: u32,
    slots: u32,
    documents: u32,
    rounds: u32,
    cycles_per_second: f64,
    #[serde(rename = "bare")]
    raw_scripts: RawScripts,
    #[serde(rename = "bare_pipelined")]
    raw_scripts_pipelined: RawScripts,
    /// At full load.
    lease_ms: Quantiles,
    /// At half of the full load.
    lease_ms_at_half_load: Quantiles,
    bytes_per_waiting_document: f64,
    /// The part of the document itself.
    body_bytes: f64,
}

/// The speed of the raw scripts.
#[derive(Debug, Clone, Copy, Serialize)]
struct RawScripts {
    cycles_per_second: f64,
    /// Speed of the fleet divided by this one: median of the rounds.
    ratio: f64,
}

/// Quantiles of the latency of lease calls, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl RawScripts {
    fn median(rounds: &[Self]) -> Self {
        Self {
            cycles_per_second: median(rounds.iter().map(|round| round.cycles_per_second)),
            ratio: median(rounds.iter().map(|round| round.ratio)),
        }
    }
}

impl Quantiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
            times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

impl QueueBench {
    /// Runs the benchmark.
    pub(crate) async fn run(self) -> Result<Code> {
        let server = RedisServer::open(self.store.as_deref()).await?;
        let load = Load::new(self.documents).await?;
        let before = server.used_memory().await?;
        load.submit(&server.store().await.map_err(Failure::refused)?).await?;
        let waiting = (server.used_memory().await?.saturating_sub(before)) as f64 / f64::from(self.documents);
        server.clear().await?;

        let (mut rates, mut raw, mut leases) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
        for round in 1..=self.rounds {
            let fleet = Fleet::start(&server, self.workers).await?;
            load.submit(fleet.store()).await?;
            let result = fleet.work(&load, self.slots, None).await?;
            fleet.stop().await;
            server.clear().await?;
            for (style, raw) in [raw_scripts::ONE_BY_ONE, raw_scripts::PIPELINED].into_iter().zip(&mut raw) {
                load.submit(&server.store().await.map_err(Failure::refused)?).await?;
                let cycles_per_second = raw_scripts::work(&server, &load, self.slots, style).await?;
                server.clear().await?;
                tracing::info!(round, rate = result.rate(), cycles_per_second, ?style, "measured");
                raw.push(RawScripts { cycles_per_second, ratio: result.rate() / cycles_per_second });
            }
            rates.push(result.rate());
            leases.extend(result.leases);
        }
        let rate = median(rates.into_iter());
        let fleet = Fleet::start(&server, self.workers).await?;
        load.submit(fleet.store()).await?;
        let half_load = fleet.work(&load, self.slots, Some(rate / 2.0)).await?;
        fleet.stop().await;
        let report = Report {
            machine: Machine::here(),
            redis: server.info("redis_version").await?,
            workers: self.workers,
            slots: self.slots,
            documents: self.documents,
            rounds: self.rounds,
            cycles_per_second: rate,
            raw_scripts: RawScripts::median(&raw[0]),
            raw_scripts_pipelined: RawScripts::median(&raw[1]),
            lease_ms: Quantiles::of(leases),
            lease_ms_at_half_load: Quantiles::of(half_load.leases),
            bytes_per_waiting_document: waiting,
            body_bytes: load.body_bytes()?,
        };
        server.clear().await?;
        publish(self.json, None, &report, || report.text())
    }
}

impl Report {
    fn text(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let raw = |it: RawScripts| format!("{:.0} /s, ratio {:.2}", it.cycles_per_second, it.ratio);
        let quantiles = |it: Quantiles| format!("{:.1} / {:.1} ms", it.p50, it.p99);
        let Self { machine, workers, slots, documents, rounds, redis, .. } = self;
        let table = output::table(&[
            row("cycles of lease and complete", format!("{:.0} /s", self.cycles_per_second)),
            row("  raw scripts", raw(self.raw_scripts)),
            row("  raw scripts, pipelined", raw(self.raw_scripts_pipelined)),
            row("lease latency, p50 / p99", quantiles(self.lease_ms)),
            row("  at half the load", quantiles(self.lease_ms_at_half_load)),
            row("memory per waiting document", format!("{:.0} B", self.bytes_per_waiting_document)),
            row("  document body", format!("{:.0} B", self.body_bytes)),
        ]);
        format!(
            "{workers} workers x {slots} slots, {documents} documents, {rounds} rounds; redis {redis}, AOF everysec; {}, {} \
             cores\n{table}",
            machine.processor, machine.cores
        )
    }
}
