//! Serves the gRPC services on a listener until it is asked to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use longhand_proto::MAX_MESSAGE_BYTES;
use longhand_proto::v1::coordinator_server::CoordinatorServer;
use longhand_proto::v1::operator_server::OperatorServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tonic::transport::{Error, Server};

use super::admission::{AdmissionLayer, Policy};
use super::auth::Tokens;
use super::coordinator::{Coordinator, ServiceOptions};
use super::operator_service::OperatorService;
use super::worker_service::WorkerService;
use crate::net::{Certificates, Connection, Connections, Limits, Listener, Peer, Protocol};

/// Time that calls in progress get when the server is asked to stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Concurrent calls of one connection: a worker makes one per ending slot, one to lease and one to renew.
const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Longest silence of a peer: it is pinged, and answers while it is alive.
const IDLE: Duration = Duration::from_secs(30);

/// Authentication and encryption of a server.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// None admits every caller.
    pub tokens: Option<Tokens>,
    /// None serves without TLS.
    pub tls: Option<Certificates>,
}

/// Serves every caller that reaches `listener`, without tokens or TLS: for a process that talks to itself, and for tests.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    coordinator: Coordinator,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    serve_with(listener, coordinator, Access::default(), shutdown).await
}

/// Serves workers and operators on `listener` until `shutdown` resolves. Then requests that wait for work are answered
/// empty, and calls in progress get a few seconds.
///
/// # Errors
/// The listener failed.
pub async fn serve_with(
    listener: TcpListener,
    coordinator: Coordinator,
    access: Access,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let Access { tokens, tls } = access;
    let listener = Listener::new(listener, tls, Protocol::Grpc, Some(IDLE), Limits::default());
    let incoming = futures::stream::unfold(listener, |mut listener| async {
        let accepted = listener.accept().await;
        Some((Ok::<_, io::Error>(accepted), listener))
    });
    serve_admitted(incoming, coordinator, tokens, shutdown).await
}

/// As [`serve_with`], over a stream of accepted connections and the addresses of their peers.
///
/// # Errors
/// As [`serve_with`].
pub async fn serve_on<I, C>(
    incoming: I,
    coordinator: Coordinator,
    tokens: Option<Tokens>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error>
where
    I: futures::Stream<Item = io::Result<(C, Option<SocketAddr>)>>,
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connections = Connections::new(Limits::default());
    let incoming = incoming.filter_map(move |accepted| {
        let connections = connections.clone();
        std::future::ready(accepted.map(|(io, address)| admit(&connections, io, address)).transpose())
    });
    serve_admitted(incoming, coordinator, tokens, shutdown).await
}

async fn serve_admitted<I, C>(
    incoming: I,
    coordinator: Coordinator,
    tokens: Option<Tokens>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error>
where
    I: futures::Stream<Item = io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected<ConnectInfo = Peer> + Unpin + Send + 'static,
{
    let closing = CancellationToken::new();
    let ServiceOptions { max_calls, calls_per_second, call_timeout, .. } = *coordinator.options();
    let policy = Arc::new(Policy::new(tokens, max_calls, calls_per_second, call_timeout));
    let workers = CoordinatorServer::new(WorkerService::new(coordinator.clone(), closing.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let operators = OperatorServer::new(OperatorService::new(coordinator))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CoordinatorServer<WorkerService>>().await;
    health.set_serving::<OperatorServer<OperatorService>>().await;
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .timeout(call_timeout)
        .layer(AdmissionLayer(policy))
        .add_service(workers)
        .add_service(operators)
        .add_service(health_service)
        .serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        biased;
        ended = &mut server => return ended,
        () = shutdown => {}
    }
    health.set_not_serving::<CoordinatorServer<WorkerService>>().await;
    health.set_not_serving::<OperatorServer<OperatorService>>().await;
    closing.cancel();
    match tokio::time::timeout(SHUTDOWN_GRACE, server).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("calls in progress did not end within {} s", SHUTDOWN_GRACE.as_secs());
            Ok(())
        }
    }
}

/// None if the port is full.
fn admit<C>(connections: &Connections, io: C, address: Option<SocketAddr>) -> Option<Connection<C>> {
    Some(Connection::new(io, connections.admit(address)?, Some(IDLE)))
}
