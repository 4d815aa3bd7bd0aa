//! The store of a command.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use longhand_command::exit::{Failure, Result};
use longhand_command::store_url::redact;
use longhand_coordinator::store::{self, RedisOptions, RedisTls, Store};

use super::file::{pair, read};
use super::loopback::is_this_machine;

/// How to connect to Redis, and what to accept of it.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArgs {
    /// Accept a Redis that may lose data: without an append-only file, or with an eviction policy
    #[arg(long, env = "LONGHAND_ALLOW_VOLATILE")]
    allow_volatile: bool,

    /// Accept a Redis beyond this machine without TLS
    #[arg(long, env = "LONGHAND_INSECURE_STORE")]
    insecure_store: bool,

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
    /// Opens the store at `url`; `insecure` accepts it without TLS wherever it is.
    pub(crate) async fn open(&self, url: &str, insecure: bool) -> Result<Arc<dyn Store>> {
        if !insecure && !self.insecure_store && is_open(url) {
            return Err(Failure::refused(format!(
                "{}: texts and password would be sent in the clear: use rediss://, or add --insecure-store if the network is \
                 trusted",
                redact(url)
            )));
        }
        let identity = pair(self.store_tls_cert.as_deref(), self.store_tls_key.as_deref())?;
        let tls = RedisTls { ca: self.store_tls_ca.as_deref().map(read).transpose()?, identity };
        let options = RedisOptions { allow_volatile: self.allow_volatile, tls, ..RedisOptions::default() };
        store::open(url, options).await.map_err(|e| Failure::refused(format!("{}: {e}", redact(url))))
    }
}

/// Whether others can listen on the way to one of the servers.
fn is_open(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
    let hosts = address.split(['/', '?']).next().unwrap_or_default();
    let host = |server: &str| match server.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host.to_owned(),
        _ => server.to_owned(),
    };
    matches!(scheme.split('+').next(), Some("redis" | "valkey"))
        && !hosts.split(',').all(|it| is_this_machine(&host(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_of_another_machine_needs_tls() {
        for open in [
            "redis://db/0",
            "redis://me:secret@10.0.0.1:6379/0",
            "redis+sentinel://127.0.0.1:1,db:2/s/0",
            "valkey://db",
        ] {
            assert!(is_open(open), "{open}");
        }
        for closed in [
            "rediss://db/0",
            "rediss+cluster://db:1,dc:2",
            "redis://127.0.0.1/0",
            "redis://me:p@ss@localhost:6379/0",
            "redis+cluster://127.0.0.1:1,[::1]:2",
            "sqlite:x",
            "x.sqlite",
        ] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
