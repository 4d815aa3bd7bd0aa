//! The `longhand` program.

mod args;
mod bench;
mod capacity;
mod coordinator;
mod device;
mod display;
mod dry_run;
mod eval;
mod exit;
mod folder;
mod health;
mod import;
mod interrupt;
mod job;
mod link;
mod memory;
mod model;
mod operator;
mod otlp;
mod output;
mod pipeline;
mod pod;
mod port;
mod progress;
mod report;
mod run;
mod select;
mod selftest;
mod spans;
mod store;
mod summary;
mod telemetry;
mod tokens;
mod validate;
mod version;
mod worker;
mod writer;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tokio::runtime::Builder;

use args::{Cli, Command};
use exit::{Code, Failure, Result};
use telemetry::Telemetry;

/// A coordinator that serves a thousand workers spends a fifth of its time in glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The engine has threads of its own; these two carry calls, the store and the display.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    version::state();
    let cli = Cli::parse();
    let json = match &cli.command {
        Command::Run(args) => args.json,
        Command::Validate(args) => args.json,
        Command::Import(args) => args.json,
        Command::Select(args) => args.json,
        Command::Report(args) => args.json,
        Command::Coordinator(args) => args.json,
        Command::Worker(args) => args.json,
        Command::Selftest(args) => args.json,
        Command::Bench(command) => command.json(),
        Command::Health(_) => false,
        Command::Model(command) => command.json(),
        Command::PlanCapacity(args) => args.json,
        Command::Eval(command) => command.json(),
        Command::Operate(command) => command.json(),
    };
    let code = start(cli).unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        if json {
            let event = json!({ "event": "error", "message": failure.message, "exit_code": failure.code as u8 });
            // It has been said on stderr; a stdout that is gone changes nothing.
            drop(output::json(&event));
        }
        failure.code
    });
    code.into()
}

fn start(cli: Cli) -> Result<Code> {
    let runtime = Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::refused(format!("threads cannot be started: {e}")))?;
    let result = runtime.block_on(async {
        let telemetry = Telemetry::start(cli.log_format, service(&cli.command)).map_err(Failure::refused)?;
        let result = command(cli).await;
        // It waits for the collector, so not on a thread that the exporter needs.
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
            tracing::warn!(%error, "traces could not be sent");
        }
        result
    });
    // A look-up that hangs must not keep a finished program alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The name under which a collector shows the process.
fn service(command: &Command) -> &'static str {
    if matches!(command, Command::Coordinator(_)) {
        "longhand-coordinator"
    } else if matches!(command, Command::Worker(_)) {
        "longhand-worker"
    } else {
        "longhand"
    }
}

async fn command(cli: Cli) -> Result<Code> {
    match cli.command {
        Command::Run(args) => run::run(&args).await,
        Command::Validate(args) => validate::validate(&args),
        Command::Import(args) => import::import(&args),
        Command::Select(args) => select::select(&args).await,
        Command::Report(args) => report::report(&args),
        Command::Coordinator(args) => coordinator::coordinator(&args).await,
        Command::Worker(args) => worker::worker(&args).await,
        Command::Selftest(args) => args.run().await,
        Command::Bench(command) => command.run().await,
        Command::Health(args) => health::health(&args).await,
        Command::Model(command) => command.run().await,
        Command::PlanCapacity(args) => capacity::plan(&args),
        Command::Eval(command) => command.run().await,
        Command::Operate(command) => command.run().await,
    }
}
