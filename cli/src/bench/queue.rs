//! `longhand bench queue`: how many tasks a second a coordinator gives out and takes back, over real gRPC and a real
//! Redis, against the bare scripts on the same server.

mod bare;
mod fleet;
mod load;

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::compare::median;
use super::machine::Machine;
use super::redis::Server;
use crate::exit::{Code, Failure, Result};
use crate::output;
use fleet::Fleet;
use load::Load;

const HELP: &str = "\
Each document is leased, its plan is completed (which brings the lease of its one section), and its section is completed:
two cycles of a lease and a completion. The workers are simulated, with a connection and a call at a time each, and write
nothing; the coordinator, gRPC and Redis (AOF everysec) are real, and all of it shares this machine. Each text is rejected
by an early filter, as the time that the others take is not the queue's. The bare scripts are the same EVALSHA commands
with the same documents, straight to the server: a call at a time on each of 50 connections, which is what redis-benchmark
does when nothing is said, and 32 in a pipeline on 8 connections. All are done in turn, --rounds times; what is printed are
medians.

Examples:
  longhand bench queue --workers 1000 --slots 32
  longhand bench queue --store redis://127.0.0.1:6379/9 --documents 50000";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct QueueBench {
    /// Simulated workers
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: u32,

    /// Documents that a worker leases at a time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: u32,

    /// Documents of each round
    #[arg(long, value_name = "N", default_value_t = 40_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    documents: u32,

    /// Times that each side does all documents
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// An empty Redis to use [default: one is started for the time of the measurement]
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
    bare: Bare,
    bare_pipelined: Bare,
    /// At full load.
    lease_ms: Quantiles,
    /// At half of it.
    lease_ms_at_half_load: Quantiles,
    bytes_per_waiting_document: f64,
    /// Of which the document itself.
    body_bytes: f64,
}

/// The bare scripts.
#[derive(Debug, Clone, Copy, Serialize)]
struct Bare {
    cycles_per_second: f64,
    /// What the fleet reached of it: median of the rounds.
    ratio: f64,
}

/// Of the time between asking for documents and having them.
#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

impl Bare {
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
    pub(crate) async fn run(self) -> Result<Code> {
        let server = Server::open(self.store.as_deref()).await?;
        let load = Load::new(self.documents).await?;
        let before = server.used_memory().await?;
        load.submit(&server.store().await.map_err(Failure::refused)?).await?;
        let waiting = (server.used_memory().await?.saturating_sub(before)) as f64 / f64::from(self.documents);
        server.clear().await?;

        let (mut rates, mut bares, mut leases) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
        for round in 1..=self.rounds {
            let fleet = Fleet::start(&server, self.workers).await?;
            load.submit(fleet.store()).await?;
            let done = fleet.work(&load, self.slots, None).await?;
            fleet.stop().await;
            server.clear().await?;
            for (style, bares) in [bare::ONE_BY_ONE, bare::PIPELINED].into_iter().zip(&mut bares) {
                load.submit(&server.store().await.map_err(Failure::refused)?).await?;
                let bare = bare::work(&server, &load, self.slots, style).await?;
                server.clear().await?;
                tracing::info!(round, rate = done.rate(), bare, ?style, "measured");
                bares.push(Bare { cycles_per_second: bare, ratio: done.rate() / bare });
            }
            rates.push(done.rate());
            leases.extend(done.leases);
        }
        let rate = median(rates.into_iter());
        let fleet = Fleet::start(&server, self.workers).await?;
        load.submit(fleet.store()).await?;
        let calm = fleet.work(&load, self.slots, Some(rate / 2.0)).await?;
        fleet.stop().await;
        let report = Report {
            machine: Machine::here(),
            redis: server.info("redis_version").await?,
            workers: self.workers,
            slots: self.slots,
            documents: self.documents,
            rounds: self.rounds,
            cycles_per_second: rate,
            bare: Bare::median(&bares[0]),
            bare_pipelined: Bare::median(&bares[1]),
            lease_ms: Quantiles::of(leases),
            lease_ms_at_half_load: Quantiles::of(calm.leases),
            bytes_per_waiting_document: waiting,
            body_bytes: load.body_bytes()?,
        };
        server.clear().await?;
        if self.json {
            output::json(&report)?
        } else {
            output::line(&report.text())?
        }
        Ok(Code::Ok)
    }
}

impl Report {
    fn text(&self) -> String {
        let row = |name: &str, value: String| vec![name.to_owned(), value];
        let bare = |it: Bare| format!("{:.0} /s, so the ratio is {:.2}", it.cycles_per_second, it.ratio);
        let quantiles = |it: Quantiles| format!("{:.1} / {:.1} ms", it.p50, it.p99);
        let Self { machine, workers, slots, documents, rounds, redis, .. } = self;
        let table = output::table(&[
            row("lease+complete cycles", format!("{:.0} /s", self.cycles_per_second)),
            row("  the bare scripts", bare(self.bare)),
            row("  the bare scripts in pipelines", bare(self.bare_pipelined)),
            row("lease, p50 / p99", quantiles(self.lease_ms)),
            row("  at half of that load", quantiles(self.lease_ms_at_half_load)),
            row("memory per waiting document", format!("{:.0} B", self.bytes_per_waiting_document)),
            row("  of which its body", format!("{:.0} B", self.body_bytes)),
        ]);
        format!(
            "{workers} workers x {slots} slots, {documents} documents, {rounds} rounds; redis {redis}, AOF everysec; {}, {} \
             cores\n{table}",
            machine.processor, machine.cores
        )
    }
}
