//! The HTTP server of a process: dashboard, API, health and metrics.

use std::sync::Arc;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::http::{self, HttpConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::listen::ListenConfig;
use crate::telemetry::span_queue::DROP_COUNTERS;

/// A running HTTP server.
#[derive(Debug)]
pub(crate) struct HttpServer {
    pub(crate) url: String,
    /// What a person opens: with the token, where the port has one of its own.
    pub(crate) page: String,
    server: JoinHandle<()>,
    stop: CancellationToken,
}

impl HttpServer {
    /// Serves `site` with the certificate and tokens of `config`, and adds the process's own metrics to it.
    pub(crate) fn start(listener: TcpListener, config: ListenConfig, mut site: HttpConfig) -> Result<Self> {
        let address = listener.local_addr().map_err(|e| Failure::refused(format!("--http: {e}")))?;
        let url = format!("{}://{address}", config.scheme());
        let page = match &config.local_token {
            Some(token) => format!("{url}/?token={token}"),
            None => url.clone(),
        };
        site.tokens = config.tokens;
        site.metric_sources.push(Arc::new(|| DROP_COUNTERS.gather()));
        let stop = CancellationToken::new();
        let server = tokio::spawn(http::serve(listener, site, config.tls, stop.clone()));
        Ok(Self { url, page, server, stop })
    }

    /// Stops the server and waits for it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the HTTP server crashed");
        }
    }
}
