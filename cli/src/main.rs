//! The `longhand` program.

mod args;
mod cli;
mod config;
mod data;
mod display;
mod doctor;
mod engine;
mod eval;
mod gpus;
mod help_groups;
mod hub;
mod model;
mod operate;
mod package;
mod plan_capacity;
mod preview;
mod run;
mod selftest;
mod serve;
mod signals;
mod telemetry;
mod version;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use serde_json::json;
use tokio::runtime::Builder;

use cli::Cli;
use telemetry::Telemetry;

/// glibc's allocator takes a fifth of the time of a coordinator that serves a thousand workers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for calls, the store and the display; the engine has its own.
const RUNTIME_THREADS: usize = 2;

fn main() -> ExitCode {
    version::set_build();
    let args: Vec<OsString> = std::env::args_os().collect();
    let command = match config::configured(Cli::command(), &args) {
        Ok(command) => command,
        Err(failure) => {
            output::note(&format!("error: {failure}"));
            return failure.code.into();
        }
    };
    for unknown in config::unknown_variables(&command, &args) {
        output::note(&format!("warning: {unknown}"));
    }
    let matches = help_groups::grouped(command).get_matches_from(args);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let json = cli.command.json();
    let code = start(cli).unwrap_or_else(|failure| {
        output::note(&format!("error: {failure}"));
        if json {
            let event = json!({ "event": "error", "message": failure.message, "exit_code": failure.code as u8 });
            // The message is on stderr already; a failing stdout changes nothing.
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
        let service = cli.command.service_name();
        let telemetry = Telemetry::start(cli.log_format, service).map_err(Failure::refused)?;
        let result = cli.command.run().await;
        // It waits for the collector, so not on a thread that the exporter needs.
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
            tracing::warn!(%error, "the last traces could not be sent");
        }
        result
    });
    // A DNS lookup that hangs must not keep a finished program alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
