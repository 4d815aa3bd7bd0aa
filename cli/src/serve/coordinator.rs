//! `longhand coordinator`: assigns tasks to workers, and keeps the state of all runs in a store.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::store_url::redact;
use longhand_coordinator::control::rpc::{self, Coordinator, ServiceOptions};
use longhand_coordinator::control::sweeper::{self, SweeperOptions};
use longhand_coordinator::corpus::{Archive, StorageLocation};
use longhand_coordinator::http::HttpConfig;
use longhand_coordinator::net;
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::http::HttpServer;
use crate::args::lease::LEASE_SECONDS;
use crate::args::listen::{AccessArgs, HttpArgs, ListenConfig};
use crate::args::local_token::{self, Port, Published};
use crate::args::store::StoreArgs;
use crate::display::Display;
use crate::signals::{self, Signals};

const HELP: &str = "\
Examples:
  longhand coordinator --store redis://127.0.0.1/0
  longhand coordinator --store sqlite:longhand.sqlite --listen 127.0.0.1:7071
  longhand coordinator --store rediss://db/0 --listen 0.0.0.0:7070 \\
    --token-file tokens --tls-cert cert.pem --tls-key key.pem

Any number of coordinators may share one store; each may be stopped or killed at any time. Use Redis 7 or Valkey 8 for a \
fleet, and SQLite for one machine. Redis URLs, of one server, of Sentinels and the service they monitor, and of some nodes of a \
cluster:
  redis://USER:PASSWORD@HOST:PORT/DB
  redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB
  redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT

USER:PASSWORD@ and /DB are optional; use rediss instead of redis for TLS, without which a Redis beyond this machine is refused, \
unless --insecure-store is given. Set a URL with a password in LONGHAND_STORE: \
command lines are visible to other users of the machine.

Each line of the token file is `worker TOKEN` or `operator TOKEN`, optionally followed by an expiry time such as \
2027-01-31T00:00:00Z and by the name of the holder, which the audit log shows. Workers and operators use a file with their \
own token only.

Without a token file a token is made at each start and kept in ~/.local/state/longhand while the coordinator runs, where commands \
of the same user on this machine find it. A terminal shows it as part of the dashboard's address; elsewhere the file is named \
(token_file with --json). With --insecure all users of the machine are let in.

SIGHUP reads token file and certificates again: sessions and streams of tokens that are gone end.

Addresses beyond this machine need TLS and tokens, or --insecure.

Exit codes:
  0    stopped by a signal
  1    the listener failed
  2    nothing was started: invalid arguments, unusable store, address in use,
       invalid certificate or token file";

/// Store, port and limits of a coordinator.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CoordinatorArgs {
    /// Store for runs and documents: redis://HOST:PORT/DB, redis+sentinel://, redis+cluster:// or sqlite:PATH
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    store: String,

    /// Address to listen on; port 0 for a free port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070", env = "LONGHAND_LISTEN")]
    listen: String,

    /// Time after which the documents of an unresponsive worker are reassigned
    #[arg(long, value_name = "SECONDS", default_value_t = LEASE_SECONDS, env = "LONGHAND_LEASE_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    lease_seconds: u64,

    /// Time after which a document is reassigned if its worker renews the lease but generates no token
    #[arg(long, value_name = "SECONDS", default_value_t = 600, env = "LONGHAND_NO_PROGRESS_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    no_progress_seconds: u64,

    /// Number of lost leases on one task after which a document fails as poison, instead of retry.max_losses in each run's recipe
    #[arg(long, value_name = "N", env = "LONGHAND_MAX_LOSSES", value_parser = clap::value_parser!(u32).range(1..))]
    max_losses: Option<u32>,

    /// Concurrent calls; four times as many may wait, further calls are rejected with retry-after
    #[arg(long, value_name = "N", default_value_t = 256, env = "LONGHAND_MAX_CALLS",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    max_calls: u32,

    /// Average calls per second of one connection; further calls are rejected with retry-after
    #[arg(long, value_name = "N", default_value_t = 1_000, env = "LONGHAND_CALLS_PER_SECOND",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls_per_second: u32,

    /// Also archive accepted documents outside the store: in a folder, or at s3://BUCKET/PREFIX, gs:// or az://.
    /// Coordinators may share one archive
    #[arg(long, value_name = "LOCATION", env = "LONGHAND_ARCHIVE")]
    archive: Option<String>,

    /// Time between two shards of the archive: what is at most lost if the store loses its data
    #[arg(long, value_name = "SECONDS", default_value_t = 15, env = "LONGHAND_ARCHIVE_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    archive_seconds: u64,

    /// Include prompts and texts in traces
    #[arg(long, env = "LONGHAND_TRACE_CONTENT")]
    trace_content: bool,

    /// Print events to stdout, one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    store_access: StoreArgs,

    #[command(flatten)]
    access: AccessArgs,
}

impl CoordinatorArgs {
    fn service_options(&self, archive: Option<Arc<Archive>>) -> ServiceOptions {
        ServiceOptions {
            lease: Duration::from_secs(self.lease_seconds),
            max_calls: self.max_calls as usize,
            trace_content: self.trace_content,
            archive,
            calls_per_second: self.calls_per_second,
            ..ServiceOptions::default()
        }
    }

    fn sweeper_options(&self) -> SweeperOptions {
        SweeperOptions {
            every: SweeperOptions::default().every.min(Duration::from_secs(self.lease_seconds) / 3),
            max_losses: self.max_losses,
            no_progress: Duration::from_secs(self.no_progress_seconds),
            ..SweeperOptions::default()
        }
    }
}

/// Serves until a signal.
pub(crate) async fn coordinator(args: &CoordinatorArgs) -> Result<Code> {
    net::raise_file_limit();
    let listen = args.access.config()?;
    let listener = listen.open("--listen", &args.listen).await?;
    let http = listen.open_http(args.http.address.as_deref()).await?;
    let address = listener.local_addr().map_err(|e| Failure::refused(format!("{}: {e}", args.listen)))?;
    let store = args.store_access.open(&args.store, listen.insecure).await?;
    let published = match &listen.local_token {
        Some(token) => local_token::publish(Port::Coordinator(address.port()), token).unwrap_or_else(|error| {
            tracing::warn!(%error, "your commands will not find the token; give it to them with --token-file");
            None
        }),
        None => None,
    };

    let archive = args.archive.as_deref().map(StorageLocation::open_private).transpose().map_err(Failure::refused)?;
    let archive = archive.map(|place| Arc::new(Archive::open(place)));
    let coordinator = Coordinator::new(store, args.service_options(archive.clone()));
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let reloader = tokio::spawn(reload(signals::hang_ups()?, args.access.clone(), listen.clone()));
    let sweeper = tokio::spawn(sweeper::run(coordinator.clone(), args.sweeper_options(), stop.clone()));
    let archiver = archive.map(|archive| {
        let (store, every) = (Arc::clone(coordinator.store()), Duration::from_secs(args.archive_seconds));
        let stop = stop.clone();
        tokio::spawn(async move { archive.run(store.as_ref(), every, stop).await })
    });

    let display = Display::new(args.json, false);
    let url = format!("{}://{address}", listen.scheme());
    let access = listen.access();
    let stopping = CancellationToken::new();
    let trace_url = args.http.trace_url.clone();
    let site = HttpConfig {
        coordinator: Some(coordinator.clone()),
        stopping: stopping.clone(),
        trace_url,
        ..HttpConfig::default()
    };
    let http = http.map(|listener| HttpServer::start(listener, listen, site)).transpose()?;
    let dashboard = http.as_ref().map(|http| http.url.clone());
    let page = http.as_ref().map(|http| http.page(std::io::stderr().is_terminal()));
    let mut text = format!("coordinator at {url}, store {}", redact(&args.store));
    if let Some(page) = &page {
        text.push_str(&format!("\ndashboard at {page}"));
    }
    let fields = json!({
        "address": address, "url": url, "store": redact(&args.store), "lease_s": args.lease_seconds,
        "dashboard": dashboard, "token_file": published.as_ref().map(Published::path),
    });
    display.event("listening", &text, fields)?;

    let shutdown = async {
        signals.next().await;
        signals.exit_on_next();
        stopping.cancel();
    };
    let served = rpc::serve_with(listener, coordinator, access, shutdown).await;
    stop.cancel();
    reloader.abort();
    if let Some(http) = http {
        http.stop().await;
    }
    if let Err(error) = sweeper.await {
        tracing::warn!(%error, "the sweeper crashed");
    }
    if let Some(archiver) = archiver
        && let Err(error) = archiver.await
    {
        tracing::warn!(%error, "the archiver crashed");
    }
    served.map_err(|e| Failure::stopped(format!("the coordinator failed: {e}")))?;
    display.event("stopped", "stopped; workers continue with another replica, or when this one is back", json!({}))?;
    Ok(Code::Ok)
}

/// Reads the files of `access` again at each hang-up. If one of them is invalid, what was read before stays.
async fn reload(mut hang_ups: Signal, access: AccessArgs, listen: ListenConfig) {
    while hang_ups.recv().await.is_some() {
        match access.reload(&listen) {
            Ok(()) => tracing::info!("tokens and certificates were read again"),
            Err(error) => tracing::error!(%error, "tokens and certificates stay as they were"),
        }
    }
}
