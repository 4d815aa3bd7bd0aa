//! The store of a command.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use longhand_command::exit::{Failure, Result};
use longhand_command::store_url::redact;
use longhand_coordinator::store::{self, RedisOptions, RedisTls, Store};

use super::file::read;

/// How to connect to Redis, and what to accept of it.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArgs {
    /// Accept a Redis that may lose data: without an append-only file, or with an eviction policy
    #[arg(long, env = "LONGHAND_ALLOW_VOLATILE")]
    allow_volatile: bool,

    /// CA certificate (PEM) to verify a rediss:// server with [default: the system's]
    #[arg(long, value_name = "FILE", env = "LONGHAND_STORE_TLS_CA")]
    store_tls_ca: Option<PathBuf>,

    /// Client certificate (PEM), if the server requires one
    #[arg(long, value_name = "FILE", env = "LONGHAND_STORE_TLS_CERT", requires = "store_tls_key")]
    store_tls_cert: Option<PathBuf>,

    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_STORE_TLS_KEY", requires = "store_tls_cert")]
    store_tls_key: Option<PathBuf>,
}

impl StoreArgs {
    /// Opens the store at `url`.
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
