//! A redis-server for one benchmark: on a free port, in a temporary folder, with AOF everysec.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::store::{RedisOptions, RedisStore, StoreError};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::process::die_with_parent;

/// How long the server may take to start or to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An empty server; started here unless its URL was given.
#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) url: String,
    own: Option<(Child, TempDir)>,
}

impl RedisServer {
    /// The server at `url`, or a new one; it must be empty.
    pub(crate) async fn open(url: Option<&str>) -> Result<Self> {
        let server = match url {
            Some(url) => Self { url: url.to_owned(), own: None },
            None => Self::start()?,
        };
        server.wait().await?;
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut server.connect().await?).await.map_err(store_failure)?;
        if keys > 1 {
            return Err(Failure::refused(format!(
                "the Redis at --store holds {keys} keys: use an empty one, or omit --store to start one"
            )));
        }
        Ok(server)
    }

    fn start() -> Result<Self> {
        let folder =
            tempfile::tempdir().map_err(|e| Failure::refused(format!("a temporary folder cannot be created: {e}")))?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.map_err(|e| Failure::refused(format!("127.0.0.1: {e}")))?.port();
        let program = program();
        let mut command = Command::new(&program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "everysec", "--dir"]).arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_parent(&mut command);
        let child = command.spawn().map_err(|e| {
            let program = program.display();
            Failure::refused(format!("{program}: {e}; install redis-server, or use a running one with --store"))
        })?;
        Ok(Self { url: format!("redis://127.0.0.1:{port}"), own: Some((child, folder)) })
    }

    async fn wait(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.store().await {
                Ok(_) => return Ok(()),
                Err(StoreError::Unreachable(_)) if self.own.is_some() && Instant::now() < until => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(error) => return Err(Failure::refused(error)),
            }
        }
    }

    /// The server as a store.
    pub(crate) async fn store(&self) -> Result<RedisStore, StoreError> {
        RedisStore::open(&self.url, RedisOptions::default()).await
    }

    /// A connection to the server.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.url.as_str()).map_err(store_failure)?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        client.get_multiplexed_async_connection_with_config(&config).await.map_err(store_failure)
    }

    /// Empties the server, which was empty at the start.
    pub(crate) async fn clear(&self) -> Result<()> {
        redis::cmd("FLUSHDB").exec_async(&mut self.connect().await?).await.map_err(store_failure)
    }

    /// A field of `INFO`.
    pub(crate) async fn info(&self, name: &str) -> Result<String> {
        let info: String = redis::cmd("INFO").query_async(&mut self.connect().await?).await.map_err(store_failure)?;
        let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found
            .map(|text| text.trim().to_owned())
            .ok_or_else(|| Failure::stopped(format!("the server does not report {name}")))
    }

    /// Bytes of the data: without the AOF buffer and the buffers of connections.
    pub(crate) async fn used_memory(&self) -> Result<u64> {
        let mut bytes = 0_u64;
        for (name, sign) in [("used_memory", 1), ("mem_aof_buffer", -1), ("mem_clients_normal", -1)] {
            let part: i64 = self.info(name).await?.parse().map_err(|e| Failure::stopped(format!("{name}: {e}")))?;
            bytes = bytes.saturating_add_signed(sign * part);
        }
        Ok(bytes)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.own
            && let Err(error) = child.kill().and_then(|()| child.wait())
        {
            tracing::warn!(%error, "redis-server could not be stopped");
        }
    }
}

/// A failure of the store.
pub(crate) fn store_failure(error: impl std::fmt::Display) -> Failure {
    Failure::stopped(format!("the store failed: {error}"))
}

/// The program installed by `make test-deps`, or the one on the PATH.
fn program() -> PathBuf {
    let cache = std::env::var_os("LONGHAND_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/longhand")));
    let fetched = cache.map(|cache| cache.join("bin/redis-server"));
    fetched.filter(|file| file.is_file()).unwrap_or_else(|| "redis-server".into())
}
