//! `longhand serve`: the dashboard of a finished corpus, read-only.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::control::rpc::{Coordinator, ServiceOptions};
use longhand_coordinator::http::HttpConfig;

use crate::args::listen::{AccessArgs, HttpArgs};
use crate::run::stored_corpus::StoredCorpus;
use crate::serve::http::HttpServer;
use crate::signals::Signals;

const HELP: &str = "\
Examples:
  longhand serve corpus
  longhand serve corpus --http 127.0.0.1:8080

Shows the documents of a finished folder in a browser: read and search them, compare candidates, see what each rule saw in the \
text, try thresholds, download as JSON Lines or Markdown. Nothing can be changed. The folder is the output of `longhand run` \
or `longhand export` (format records), on this machine or downloaded. While `longhand run` uses the folder it has a dashboard of \
its own.

Exit codes:
  0    stopped by a signal
  2    nothing was served: the folder has no whole records, or the port cannot
       be opened";

/// The corpus, and where to serve it.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ServeArgs {
    /// Output folder of `longhand run` or `longhand export`
    dir: PathBuf,

    /// Store with the state of that folder's run, if it is not in the folder
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    store: Option<String>,

    #[command(flatten)]
    http: HttpArgs,

    #[command(flatten)]
    access: AccessArgs,
}

/// Serves until a signal.
pub(crate) async fn serve(args: &ServeArgs) -> Result<Code> {
    let listen = args.access.config()?;
    let Some(listener) = listen.open_http(args.http.address.as_deref()).await? else {
        return Err(Failure::refused("--http off leaves nothing to serve; give it an address"));
    };
    let corpus = StoredCorpus::open(&args.dir, args.store.as_deref()).await?;
    let site = HttpConfig {
        coordinator: Some(Coordinator::new(corpus.store.clone(), ServiceOptions::default())),
        trace_url: args.http.trace_url.clone(),
        read_only: true,
        ..HttpConfig::default()
    };
    let mut signals = Signals::listen()?;
    let server = HttpServer::start(listener, listen, site)?;
    let page = server.page(std::io::stdout().is_terminal());
    output::line(&format!("corpus {} at {page}\nCtrl-C stops", args.dir.display()))?;
    signals.next().await;
    server.stop().await;
    Ok(Code::Ok)
}
