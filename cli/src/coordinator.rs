//! `longhand coordinator`: decides over a store what each worker does next.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use longhand_coordinator::service::{self, Access, Coordinator, ServiceOptions, Tokens};
use longhand_coordinator::store;
use longhand_coordinator::sweeper::{self, SweeperOptions};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::display::Display;
use crate::exit::{Code, Failure, Result};
use crate::folder::redact;
use crate::interrupt::Signals;
use crate::link::read;

const HELP: &str = "\
Examples:
  longhand coordinator --store redis://127.0.0.1/0
  longhand coordinator --store sqlite:longhand.sqlite --listen 127.0.0.1:7071
  longhand coordinator --store redis://db/0 --listen 0.0.0.0:7070 --token-file tokens --tls-cert cert.pem --tls-key key.pem

Any number of coordinators may serve one store; each may be stopped or killed at any time. Redis 7 or Valkey 8 is for
fleets; SQLite serves one machine.

The token file holds lines of `worker TOKEN` and `operator TOKEN`, and after a token the time at which it expires, such
as 2027-01-31T00:00:00Z, if it does. Workers and operators give a file with their one token.

Beyond this machine it listens only with TLS and tokens, or with --insecure.

Exit codes:
  0    stopped by a signal
  1    the listener failed
  2    nothing was started: wrong usage, store refused, address taken, certificate or token file of no use";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CoordinatorArgs {
    /// Where documents live: redis://HOST:PORT/DB or sqlite:PATH
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    store: String,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070", env = "LONGHAND_LISTEN")]
    listen: String,

    /// Accept a Redis that may lose what it was told: no append-only file, or keys that it may evict
    #[arg(long, env = "LONGHAND_ALLOW_VOLATILE")]
    allow_volatile: bool,

    /// Time after which a silent worker loses its documents
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "LONGHAND_LEASE_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    lease_seconds: u64,

    /// Time after which a worker that renews, but writes no token, loses its document
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = "LONGHAND_NO_PROGRESS_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    no_progress_seconds: u64,

    /// Workers that a document may cost at one task before it fails as poison
    #[arg(long, value_name = "N", default_value_t = 3, env = "LONGHAND_MAX_LOSSES",
          value_parser = clap::value_parser!(u32).range(1..))]
    max_losses: u32,

    /// Calls worked on at the same time; four times as many may wait, more are asked to come again
    #[arg(long, value_name = "N", default_value_t = 256, env = "LONGHAND_MAX_CALLS",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_calls: u32,

    /// Certificate (PEM): listen with TLS
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// CA (PEM) that must have signed the certificates of all callers
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// File of tokens, one a line: `worker TOKEN` or `operator TOKEN`
    #[arg(long, value_name = "FILE", env = "LONGHAND_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Listen beyond this machine without TLS or without tokens
    #[arg(long, env = "LONGHAND_INSECURE")]
    insecure: bool,

    /// Print events to stdout, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Serves until a signal.
pub(crate) async fn coordinator(args: &CoordinatorArgs) -> Result<Code> {
    let access = access(args)?;
    let listener = listen(args).await?;
    let address = listener.local_addr().map_err(|e| Failure::refused(format!("{}: {e}", args.listen)))?;
    let at = |e| Failure::refused(format!("{}: {e}", redact(&args.store)));
    let store = store::open(&args.store, args.allow_volatile).await.map_err(at)?;

    let lease = Duration::from_secs(args.lease_seconds);
    let options = ServiceOptions { lease, max_calls: args.max_calls as usize, ..ServiceOptions::default() };
    let sweep = SweeperOptions {
        every: SweeperOptions::default().every.min(lease / 3),
        max_losses: args.max_losses,
        no_progress: Duration::from_secs(args.no_progress_seconds),
    };
    let coordinator = Coordinator::new(store, options);
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let sweeper = tokio::spawn(sweeper::run(coordinator.clone(), sweep, stop.clone()));

    let display = Display::new(args.json, false);
    let scheme = if access.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{address}");
    let fields = json!({ "address": address, "url": url, "store": redact(&args.store), "lease_s": args.lease_seconds });
    display.event("listening", &format!("coordinator at {url}, store {}", redact(&args.store)), fields)?;

    let asked = async {
        signals.next().await;
        signals.end_at_next();
    };
    let served = service::serve_with(listener, coordinator, access, asked).await;
    stop.cancel();
    if let Err(error) = sweeper.await {
        tracing::warn!(%error, "the sweeper crashed");
    }
    served.map_err(|e| Failure::stopped(format!("the coordinator failed: {e}")))?;
    display.event("stopped", "stopped; workers go on with another replica, or when one is back", json!({}))?;
    Ok(Code::Ok)
}

fn access(args: &CoordinatorArgs) -> Result<Access> {
    let tokens = args.token_file.as_deref().map(Tokens::read).transpose().map_err(Failure::refused)?;
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(read(certificate)?, read(key)?));
            if let Some(ca) = &args.tls_client_ca {
                tls = tls.client_ca_root(Certificate::from_pem(read(ca)?));
            }
            Some(tls)
        }
        _ => None,
    };
    Ok(Access { tokens, tls })
}

/// Opens the port, unless that would let strangers in.
async fn listen(args: &CoordinatorArgs) -> Result<TcpListener> {
    let wrong = |e| Failure::refused(format!("--listen {}: {e}; want HOST:PORT, such as 127.0.0.1:7070", args.listen));
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&args.listen).await.map_err(wrong)?.collect();
    let beyond = addresses.iter().any(|address| !address.ip().is_loopback());
    if beyond && !args.insecure {
        let missing = match (args.tls_cert.is_some(), args.token_file.is_some()) {
            (true, true) => None,
            (true, false) => Some("--token-file"),
            (false, true) => Some("--tls-cert and --tls-key"),
            (false, false) => Some("--tls-cert, --tls-key and --token-file"),
        };
        if let Some(missing) = missing {
            return Err(Failure::refused(format!(
                "--listen {} can be reached from other machines: give {missing} too, listen on 127.0.0.1, or say \
                 --insecure if the network keeps strangers out",
                args.listen
            )));
        }
    }
    TcpListener::bind(addresses.as_slice()).await.map_err(wrong)
}
