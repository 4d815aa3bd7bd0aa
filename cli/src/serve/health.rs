//! `longhand health`: checks whether a coordinator or a worker is ready.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result, with_causes};
use longhand_command::output;
use longhand_worker::http_body;
use reqwest::{Certificate, Client};

use crate::args::file;

const HELP: &str = "\
Examples:
  longhand health
  longhand health --http http://127.0.0.1:7081
  longhand health --http https://head:7080 --tls-ca ca.pem

Requests /readyz from the port that `longhand coordinator`, `longhand run` and `longhand worker` open with --http.

Exit codes:
  0    ready: the store answers, the model is loaded, and the process is not
       stopping
  1    not ready, or no answer";

/// The process to check.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct HealthArgs {
    /// Base URL of the process's HTTP port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7080", env = "LONGHAND_HEALTH")]
    http: String,

    /// CA certificate (PEM) to verify it with [default: the system's]
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CA")]
    tls_ca: Option<PathBuf>,
}

/// Longer than the server waits for its store.
const PATIENCE: Duration = Duration::from_secs(6);

/// Prints `ready`, or fails with the reason.
pub(crate) async fn health(args: &HealthArgs) -> Result<Code> {
    let mut client = Client::builder().timeout(PATIENCE);
    if let Some(path) = &args.tls_ca {
        let ca = Certificate::from_pem(file::read(path)?.as_bytes());
        let ca = ca.map_err(|e| Failure::refused(format!("{}: {e}; expected a PEM certificate", path.display())))?;
        client = client.add_root_certificate(ca);
    }
    let client = client.build().map_err(Failure::refused)?;
    let url = format!("{}/readyz", args.http.trim_end_matches('/'));
    let not_ready = |why: String| Failure::stopped(format!("{url}: {why}"));
    let answer = client.get(&url).send().await.map_err(|e| not_ready(format!("no answer: {}", with_causes(&e))))?;
    let status = answer.status();
    let text = http_body::error_text(answer).await;
    if !status.is_success() {
        return Err(not_ready(format!("{status}: {}", text.trim())));
    }
    output::line("ready")?;
    Ok(Code::Ok)
}
