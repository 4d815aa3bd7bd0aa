//! Accepts the connections of a port. Handshakes run concurrently and are bounded in time: a silent client delays nobody.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::certificates::{Certificates, Protocol};
use super::connection::Connection;
use super::connections::{Connections, Limits, Peer};

/// Longest time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time and bytes that a client gets to read why its handshake failed.
const LINGER: Duration = Duration::from_secs(1);
const MAX_REST: u64 = 64 << 10;
/// Wait after an error of accept itself, such as no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// A bounded port.
#[derive(Debug)]
pub(crate) struct Listener {
    tcp: TcpListener,
    tls: Option<Certificates>,
    protocol: Protocol,
    idle: Option<Duration>,
    connections: Connections,
    handshakes: JoinSet<Option<Accepted>>,
    /// Whether the port is out of room or the system out of file descriptors: logged once until it is over.
    is_full: bool,
}

impl Listener {
    /// With TLS if there are certificates. For `idle` see [`Connection::new`].
    pub(crate) fn new(
        tcp: TcpListener,
        tls: Option<Certificates>,
        protocol: Protocol,
        idle: Option<Duration>,
        limits: Limits,
    ) -> Self {
        let connections = Connections::new(limits);
        Self { tcp, tls, protocol, idle, connections, handshakes: JoinSet::new(), is_full: false }
    }

    /// The next connection that is ready to be served.
    pub(crate) async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(accepted)) => return accepted,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "TLS handshake task panicked"),
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, address)) => {
                        let Some(peer) = self.connections.admit(Some(address)) else {
                            self.warn("the port is full of authenticated connections");
                            continue;
                        };
                        self.is_full = false;
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%error, "TCP_NODELAY was not set");
                        }
                        let connection = Connection::new(stream, peer, self.idle);
                        let Some(tls) = &self.tls else { return Accepted::Plain(connection) };
                        self.handshakes.spawn(handshake(tls.acceptor(self.protocol), connection));
                    }
                    Err(error) => {
                        self.warn(&error.to_string());
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    }

    fn warn(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_full, true) {
            tracing::warn!(reason, "new connections are not accepted for now");
        }
    }
}

async fn handshake(acceptor: tokio_rustls::TlsAcceptor, connection: Connection<TcpStream>) -> Option<Accepted> {
    let address = connection.peer().address();
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection).into_fallible()).await {
        Ok(Ok(stream)) => {
            let (connection, session) = stream.get_ref();
            if let Some([certificate, ..]) = session.peer_certificates() {
                connection.peer().set_certificate(certificate.clone());
            }
            Some(Accepted::Tls(Box::new(stream)))
        }
        Ok(Err((error, connection))) => {
            tracing::debug!(?address, %error, "TLS handshake failed");
            linger(connection).await;
            None
        }
        Err(_) => None,
    }
}

/// Closes a connection after what was sent last. If it were closed with bytes that are not read, the client would be told of a
/// reset instead of the reason: that it needs a certificate.
async fn linger(mut connection: Connection<TcpStream>) {
    let rest = async {
        connection.shutdown().await?;
        tokio::io::copy(&mut connection.take(MAX_REST), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, rest).await {
        tracing::debug!(%error, "connection closed");
    }
}

/// An accepted connection, decrypted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Plain(Connection<TcpStream>),
    Tls(Box<TlsStream<Connection<TcpStream>>>),
}

impl Accepted {
    /// The other end.
    pub(crate) fn peer(&self) -> &Peer {
        match self {
            Self::Plain(connection) => connection.peer(),
            Self::Tls(stream) => stream.get_ref().0.peer(),
        }
    }
}

impl Connected for Accepted {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer().clone()
    }
}

/// Passes a call on to the connection within.
macro_rules! within {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($io) => {
                let $io = Pin::new($io);
                $call
            }
            Self::Tls($io) => {
                let $io = Pin::new($io.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Accepted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        within!(self, io => io.poll_read(cx, buffer))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        within!(self, io => io.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        within!(self, io => io.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        within!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        within!(self, io => io.poll_shutdown(cx))
    }
}
