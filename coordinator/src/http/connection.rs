//! Serves the connections of the HTTP port. Not by `axum::serve`, which bounds neither the time for headers nor idleness.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use crate::net::{Listener, Peer};

/// Time for the headers of a request, counted from the end of the one before: so a kept connection is closed after it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);

/// Accepts connections until `shutdown` is cancelled, and then waits for the responses in progress.
pub(super) async fn serve(mut listener: Listener, router: Router, shutdown: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => {
                let peer = accepted.peer().clone();
                connections.spawn(connection(accepted, peer, router.clone(), shutdown.clone()));
            }
            Some(ended) = connections.join_next() => log_panic(ended),
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::warn!(%error, "an HTTP connection's task crashed");
    }
}

async fn connection<C>(io: C, peer: Peer, router: Router, shutdown: CancellationToken)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        biased;
        ended = served.as_mut() => ended,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}
