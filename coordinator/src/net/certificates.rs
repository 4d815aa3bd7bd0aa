//! Certificates of the ports. They can be replaced while the ports are open: a certificate expires, the process goes on.

use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// Certificate, key and CA of a server, as PEM texts.
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
#[error("invalid {what} for TLS: {reason}")]
pub struct PemError {
    what: &'static str,
    reason: String,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, over HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// Certificates of the ports of a process. A handle: clones share one state.
#[derive(Debug, Clone)]
pub struct Certificates(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificates {
    /// Reads certificate, key and CA.
    ///
    /// # Errors
    /// One of them is invalid.
    pub fn new(pem: &Pem) -> Result<Self, PemError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(config(pem)?)))))
    }

    /// New connections get these; open ones keep theirs.
    ///
    /// # Errors
    /// One of them is invalid: nothing changes.
    pub fn replace(&self, pem: &Pem) -> Result<(), PemError> {
        let config = Arc::new(config(pem)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// The other end of a handshake.
    pub(super) fn acceptor(&self, protocol: Protocol) -> TlsAcceptor {
        let config = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let name = match protocol {
            Protocol::Grpc => "h2",
            Protocol::Http => "http/1.1",
        };
        let mut config = ServerConfig::clone(&config);
        config.alpn_protocols = vec![name.into()];
        TlsAcceptor::from(Arc::new(config))
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
    let chain = certificates("certificate", &pem.certificate)?;
    builder.with_single_cert(chain, key).map_err(invalid("certificate"))
}
