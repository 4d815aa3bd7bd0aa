//! TLS for the HTTP port. Handshakes run concurrently: a silent client does not block others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

/// Longest time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most concurrent handshakes; further clients wait in the kernel's backlog.
const MAX_HANDSHAKES: usize = 256;
/// Wait after an error of accept itself, such as no file descriptors left.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// Files of the HTTPS port, as PEM texts.
#[derive(Clone)]
pub struct Pem {
    /// Certificate chain of the server.
    pub certificate: String,
    /// Private key of the certificate.
    pub key: String,
    /// CA that must have signed the certificates of clients; none to ask clients for no certificate.
    pub client_ca: Option<String>,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pem").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

/// Certificate, key or CA is invalid.
#[derive(Debug, thiserror::Error)]
#[error("invalid {what} for HTTPS: {reason}")]
pub struct PemError {
    what: &'static str,
    reason: String,
}

/// Address of a client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(*stream.remote_addr())
    }
}

pub(super) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, pem: &Pem) -> Result<Self, PemError> {
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config(pem)?)), handshakes: JoinSet::new() })
    }
}

fn config(pem: &Pem) -> Result<ServerConfig, PemError> {
    fn invalid<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> PemError {
        move |error| PemError { what, reason: error.to_string() }
    }
    let certificates = |what, text: &str| {
        CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(invalid(what))
    };
    let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(invalid("key"))?;
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(invalid("TLS library"))?;
    let builder = match &pem.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("client CA", ca)? {
                roots.add(certificate).map_err(invalid("client CA"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(invalid("client CA"))?)
        }
    };
    let mut config = builder
        .with_single_cert(certificates("certificate", &pem.certificate)?, key)
        .map_err(invalid("certificate"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                biased;
                Some(done) = self.handshakes.join_next() => match done {
                    Ok(Some(connection)) => return connection,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "TLS handshake task panicked"),
                },
                accepted = self.listener.accept(), if self.handshakes.len() < MAX_HANDSHAKES => match accepted {
                    Ok((stream, peer)) => {
                        let handshake = self.acceptor.accept(stream);
                        self.handshakes.spawn(async move {
                            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                                Ok(Ok(stream)) => Some((stream, peer)),
                                Ok(Err(error)) => {
                                    tracing::debug!(%peer, %error, "TLS handshake failed");
                                    None
                                }
                                Err(_) => None,
                            }
                        });
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
