//! How to connect to the server.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

/// How a [`RedisStore`](crate::store::RedisStore) talks to its server.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Accept a server that may lose documents: without an append-only file, or with an eviction policy.
    pub allow_volatile: bool,
    /// Certificates, for a server with TLS.
    pub tls: RedisTls,
    /// How long a reply may take. The library's default of 500 ms would fail a call while the server writes to its disk.
    pub response_timeout: Duration,
    /// How long a new connection may take.
    pub connect_timeout: Duration,
    /// Added to the server's clock in every step, milliseconds: for tests that span hours.
    pub clock_offset_ms: Arc<AtomicI64>,
}

/// What a server's certificate is verified with, and the client certificate. PEM texts.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// CA of the server's certificate; the system's CAs if none.
    pub ca: Option<String>,
    /// Client certificate and its key.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for RedisTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTls").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            allow_volatile: false,
            tls: RedisTls::default(),
            response_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            clock_offset_ms: Arc::default(),
        }
    }
}
