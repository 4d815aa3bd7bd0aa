//! `longhand health`: asks a coordinator or a worker whether it is well, for whoever must act on the answer.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Certificate, Client};

use crate::exit::{Code, Failure, Result};
use crate::{link, output};

const HELP: &str = "\
Examples:
  longhand health
  longhand health --http http://127.0.0.1:7081
  longhand health --http https://head:7080 --tls-ca ca.pem

Asks for /readyz of the port that `longhand coordinator` and `longhand run` open with --http, and `longhand worker` too.

Exit codes:
  0    it is ready: the store answers, the model is loaded, and it was not asked to stop
  1    it is not, or nobody answers";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct HealthArgs {
    /// Address of the dashboard or of a worker's /metrics
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7080", env = "LONGHAND_HEALTH")]
    http: String,

    /// CA that signed its certificate (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CA")]
    tls_ca: Option<PathBuf>,
}

/// Longer than the store may take to answer.
const PATIENCE: Duration = Duration::from_secs(6);

pub(crate) async fn health(args: &HealthArgs) -> Result<Code> {
    let mut client = Client::builder().timeout(PATIENCE);
    if let Some(path) = &args.tls_ca {
        let ca = Certificate::from_pem(link::read(path)?.as_bytes());
        let ca = ca.map_err(|e| Failure::refused(format!("{}: {e}; want a PEM certificate", path.display())))?;
        client = client.add_root_certificate(ca);
    }
    let client = client.build().map_err(Failure::refused)?;
    let url = format!("{}/readyz", args.http.trim_end_matches('/'));
    let unwell = |why: String| Failure::stopped(format!("{url}: {why}"));
    let answer = client.get(&url).send().await.map_err(|e| unwell(format!("no answer: {}", chain(&e))))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        return Err(unwell(format!("{status}: {}", text.trim())));
    }
    output::line("ready")?;
    Ok(Code::Ok)
}

/// An error and what caused it: reqwest's own words leave the cause out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
