//! The HTTP server of a process: dashboard, API, health and metrics.

use std::path::Path;
use std::sync::Arc;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::http::{self, HttpConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::listen::ListenConfig;
use crate::args::local_token::{self, Port, Published};
use crate::telemetry::span_queue::DROP_COUNTERS;

/// A running HTTP server.
#[derive(Debug)]
pub(crate) struct HttpServer {
    pub(crate) url: String,
    /// The token that the port has of its own, if it has one, and the file that it is kept in, if there is a place for it.
    local: Option<(String, Option<Published>)>,
    server: JoinHandle<()>,
    stop: CancellationToken,
}

impl HttpServer {
    /// Serves `site` with the certificate and tokens of `config`, and adds the process's own metrics to it.
    pub(crate) fn start(listener: TcpListener, config: ListenConfig, mut site: HttpConfig) -> Result<Self> {
        let address = listener.local_addr().map_err(|e| Failure::refused(format!("--http: {e}")))?;
        let url = format!("{}://{address}", config.scheme());
        let local = config.local_token.map(|token| {
            let published = local_token::publish(Port::Dashboard(address.port()), &token).unwrap_or_else(|error| {
                tracing::debug!(%error, "the token of the dashboard is in no file");
                None
            });
            (token, published)
        });
        site.tokens = config.tokens;
        site.metric_sources.push(Arc::new(|| DROP_COUNTERS.gather()));
        let stop = CancellationToken::new();
        let server = tokio::spawn(http::serve(listener, site, config.tls, stop.clone()));
        Ok(Self { url, local, server, stop })
    }

    /// What a person opens. Only a terminal shows the token: what goes elsewhere may be kept, and be read by others.
    pub(crate) fn page(&self, on_terminal: bool) -> String {
        let url = &self.url;
        match (&self.local, self.token_file()) {
            (None, _) => url.clone(),
            (Some((token, _)), _) if on_terminal => format!("{url}/?token={token}"),
            (Some(_), Some(file)) => format!("{url}, its token in {}", file.display()),
            (Some(_), None) => {
                format!("{url}, its token in no file: set HOME or XDG_STATE_HOME to a folder, or use --token-file")
            }
        }
    }

    /// Where the token is that the port has of its own.
    pub(crate) fn token_file(&self) -> Option<&Path> {
        self.local.as_ref().and_then(|(_, published)| published.as_ref()).map(Published::path)
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the HTTP server crashed");
        }
    }
}
