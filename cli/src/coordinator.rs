//! `longhand coordinator`: decides over a store what each worker does next.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longhand_coordinator::control::rpc::{self, Coordinator, ServiceOptions};
use longhand_coordinator::control::sweeper::{self, SweeperOptions};
use longhand_coordinator::corpus::{Archive, StorageLocation};
use longhand_coordinator::http::HttpConfig;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::display::Display;
use crate::exit::{Code, Failure, Result};
use crate::folder::redact;
use crate::interrupt::Signals;
use crate::port::{AccessArgs, Http, HttpArgs};
use crate::store::StoreArgs;

const HELP: &str = "\
Examples:
  longhand coordinator --store redis://127.0.0.1/0
  longhand coordinator --store sqlite:longhand.sqlite --listen 127.0.0.1:7071
  longhand coordinator --store redis://db/0 --listen 0.0.0.0:7070 --token-file tokens --tls-cert cert.pem --tls-key key.pem

Any number of coordinators may serve one store; each may be stopped or killed at any time. Redis 7 or Valkey 8 is for
fleets; SQLite serves one machine. A Redis is named by one of
  redis://USER:PASSWORD@HOST:PORT/DB
  redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB     Sentinels and the service that they watch
  redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT                 some nodes of a cluster
USER:PASSWORD@ and /DB may be left out; rediss in place of redis is TLS. Put a URL with a password into LONGHAND_STORE:
a command line can be read by others on the machine.

The token file holds lines of `worker TOKEN` and `operator TOKEN`, and after a token the time at which it expires, such
as 2027-01-31T00:00:00Z, if it does, and the name of who has it, if what is done by hand shall be known by it. Workers and
operators give a file with their one token.

Beyond this machine it listens only with TLS and tokens, or with --insecure.

Exit codes:
  0    stopped by a signal
  1    the listener failed
  2    nothing was started: wrong usage, store refused, address taken, certificate or token file of no use";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CoordinatorArgs {
    /// Where documents live: redis://HOST:PORT/DB, redis+sentinel://, redis+cluster:// or sqlite:PATH
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    store: String,

    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7070", env = "LONGHAND_LISTEN")]
    listen: String,

    #[command(flatten)]
    access_to_store: StoreArgs,

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

    /// Calls a second that one connection may make, on average; it is told to wait if it makes more
    #[arg(long, value_name = "N", default_value_t = 1_000, env = "LONGHAND_CALLS_PER_SECOND",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    calls_per_second: u32,

    /// Keep accepted documents beside the store too: in a folder, or at s3://BUCKET/PREFIX, gs:// or az://. Coordinators
    /// may share one place
    #[arg(long, value_name = "PLACE", env = "LONGHAND_ARCHIVE")]
    archive: Option<String>,

    /// Time between two shards of the archive: what an emptied store may cost
    #[arg(long, value_name = "SECONDS", default_value_t = 15, env = "LONGHAND_ARCHIVE_SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    archive_seconds: u64,

    #[command(flatten)]
    http: HttpArgs,

    /// Put prompts and texts into traces
    #[arg(long, env = "LONGHAND_TRACE_CONTENT")]
    trace_content: bool,

    #[command(flatten)]
    access: AccessArgs,

    /// Print events to stdout, one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Serves until a signal.
pub(crate) async fn coordinator(args: &CoordinatorArgs) -> Result<Code> {
    let door = args.access.door()?;
    let listener = door.open("--listen", &args.listen).await?;
    let http = door.open_http(args.http.address.as_deref()).await?;
    let address = listener.local_addr().map_err(|e| Failure::refused(format!("{}: {e}", args.listen)))?;
    let store = args.access_to_store.open(&args.store).await?;

    let archive = args.archive.as_deref().map(StorageLocation::open).transpose().map_err(Failure::refused)?;
    let archive = archive.map(|place| Arc::new(Archive::open(place)));
    let lease = Duration::from_secs(args.lease_seconds);
    let options = ServiceOptions {
        lease,
        max_calls: args.max_calls as usize,
        trace_content: args.trace_content,
        archive: archive.clone(),
        calls_per_second: args.calls_per_second,
        ..ServiceOptions::default()
    };
    let sweep = SweeperOptions {
        every: SweeperOptions::default().every.min(lease / 3),
        max_losses: args.max_losses,
        no_progress: Duration::from_secs(args.no_progress_seconds),
        ..SweeperOptions::default()
    };
    let coordinator = Coordinator::new(store, options);
    let stop = CancellationToken::new();
    let mut signals = Signals::listen()?;
    let sweeper = tokio::spawn(sweeper::run(coordinator.clone(), sweep, stop.clone()));
    let keeper = archive.map(|archive| {
        let (store, every) = (Arc::clone(coordinator.store()), Duration::from_secs(args.archive_seconds));
        let stop = stop.clone();
        tokio::spawn(async move { archive.run(store.as_ref(), every, stop).await })
    });

    let display = Display::new(args.json, false);
    let url = format!("{}://{address}", door.scheme());
    let access = door.access();
    let stopping = CancellationToken::new();
    let trace_url = args.http.trace_url.clone();
    let site = HttpConfig {
        coordinator: Some(coordinator.clone()),
        stopping: stopping.clone(),
        trace_url,
        ..HttpConfig::default()
    };
    let http = http.map(|listener| Http::start(listener, door, site)).transpose()?;
    let dashboard = http.as_ref().map(|http| http.url.clone());
    let mut text = format!("coordinator at {url}, store {}", redact(&args.store));
    if let Some(dashboard) = &dashboard {
        text.push_str(&format!("\ndashboard at {dashboard}"));
    }
    let fields = json!({
        "address": address, "url": url, "store": redact(&args.store), "lease_s": args.lease_seconds,
        "dashboard": dashboard,
    });
    display.event("listening", &text, fields)?;

    let asked = async {
        signals.next().await;
        signals.end_at_next();
        stopping.cancel();
    };
    let served = service::serve_with(listener, coordinator, access, asked).await;
    stop.cancel();
    if let Some(http) = http {
        http.stop().await;
    }
    if let Err(error) = sweeper.await {
        tracing::warn!(%error, "the sweeper crashed");
    }
    if let Some(keeper) = keeper
        && let Err(error) = keeper.await
    {
        tracing::warn!(%error, "the archive's keeper crashed");
    }
    served.map_err(|e| Failure::stopped(format!("the coordinator failed: {e}")))?;
    display.event("stopped", "stopped; workers go on with another replica, or when one is back", json!({}))?;
    Ok(Code::Ok)
}
