//! How a command comes to its store.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use longhand_coordinator::store::{self, RedisOptions, RedisTls, Store};

use crate::exit::{Failure, Result};
use crate::folder::redact;
use crate::link::read;

/// What a Redis must be, and how it is known.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArgs {
    /// Accept a Redis that may lose what it was told: no append-only file, or keys that it may evict
    #[arg(long, env = "LONGHAND_ALLOW_VOLATILE")]
    allow_volatile: bool,

    /// CA that signed the certificate of a rediss:// server (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "LONGHAND_STORE_TLS_CA")]
    store_tls_ca: Option<PathBuf>,

    /// Own certificate (PEM), where the server asks for one
    #[arg(long, value_name = "FILE", env = "LONGHAND_STORE_TLS_CERT", requires = "store_tls_key")]
    store_tls_cert: Option<PathBuf>,

    /// Key of the own certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_STORE_TLS_KEY", requires = "store_tls_cert")]
    store_tls_key: Option<PathBuf>,
}

impl StoreArgs {
    pub(crate) async fn open(&self, url: &str) -> Result<Arc<dyn Store>> {
        let identity = match (&self.store_tls_cert, &self.store_tls_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        let tls = RedisTls { ca: self.store_tls_ca.as_deref().map(read).transpose()?, identity };
        let options = RedisOptions { allow_volatile: self.allow_volatile, tls, ..RedisOptions::default() };
        store::open(url, options).await.map_err(|e| Failure::refused(format!("{}: {e}", redact(url))))
    }
}
