//! The connection: one for all calls, made anew when it breaks.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use longhand_proto::RunId;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Script, ScriptInvocation};

use super::error::explain;
use super::start::Server;
use crate::store::{Result, StoreError};

/// Raised with every change of the keys' meaning; a server that holds a higher one is refused.
const SCHEMA: u64 = 2;
const SCHEMA_KEY: &str = "lh:schema";
/// Tries of one call over a connection that breaks. Every call of a store may be repeated.
const TRIES: u32 = 4;
/// Mean pause before the first repetition; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(50);
/// Commands waiting to be written, over all callers; more callers wait for room.
const PIPELINE: usize = 1024;

/// How a [`RedisStore`](crate::store::RedisStore) talks to its server.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Accept a server that may lose documents: without an append-only file, or with an eviction policy.
    pub allow_volatile: bool,
    /// How long an answer may take. The library's own 500 ms would fail a call while the server writes its disk.
    pub response_timeout: Duration,
    pub connect_timeout: Duration,
    /// Added to the server's clock in every step: for tests that tell of hours.
    pub clock_offset_ms: Arc<AtomicI64>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            allow_volatile: false,
            response_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            clock_offset_ms: Arc::default(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Client {
    connection: ConnectionManager,
    clock_offset_ms: Arc<AtomicI64>,
    /// Without user and password.
    address: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) async fn open(url: &str, options: RedisOptions) -> Result<Self> {
        let client = redis::Client::open(url).map_err(|error| refuse_url(&error))?;
        let address = client.get_connection_info().addr().to_string();
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(options.response_timeout))
            .set_connection_timeout(Some(options.connect_timeout))
            .set_number_of_retries(4)
            .set_max_delay(Duration::from_secs(1))
            .set_pipeline_buffer_size(PIPELINE);
        let connection =
            ConnectionManager::new_with_config(client, config).await.map_err(|error| at(&address, &error))?;
        let client = Self { connection, clock_offset_ms: options.clock_offset_ms, address };
        let info: String = client.command(redis::cmd("INFO").arg("everything")).await?;
        Server::parse(&info).check(options.allow_volatile)?;
        client.check_schema().await?;
        Ok(client)
    }

    async fn check_schema(&self) -> Result<()> {
        let mut ask = redis::pipe();
        ask.cmd("SET").arg(SCHEMA_KEY).arg(SCHEMA).arg("NX").ignore().cmd("GET").arg(SCHEMA_KEY);
        let (schema,): (String,) = self.pipeline(&ask).await?;
        if schema == SCHEMA.to_string() {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "the server at {} holds documents in schema {schema}, this build reads schema {SCHEMA}: use the build \
             that wrote them, or another database (redis://HOST:PORT/NUMBER)",
            self.address
        )))
    }

    pub(super) fn clock_offset_ms(&self) -> i64 {
        self.clock_offset_ms.load(Ordering::SeqCst)
    }

    /// Begins a call of `script` on one run; the arguments after the clock offset are the caller's.
    pub(super) fn step<'a>(&self, script: &'a Script, run: &RunId) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key(key(run, "run")).arg(self.clock_offset_ms());
        call
    }

    /// The same for a step on what belongs to no run.
    pub(super) fn step_of_workers<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key("lh:{*}:run").arg(self.clock_offset_ms());
        call
    }

    pub(super) async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T> {
        self.repeat(|mut connection| async move { call.invoke_async(&mut connection).await }).await
    }

    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.repeat(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    pub(super) async fn pipeline<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T> {
        self.repeat(|mut connection| async move { pipeline.query_async(&mut connection).await }).await
    }

    /// Repeats a call whose connection broke. One that timed out is not repeated: the server is slow, not gone.
    async fn repeat<T, F: Future<Output = RedisResult<T>>>(&self, call: impl Fn(ConnectionManager) -> F) -> Result<T> {
        let mut pause = PAUSE;
        for _ in 1..TRIES {
            match call(self.connection.clone()).await {
                Err(error) if broken(&error) => tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await,
                result => return result.map_err(|error| at(&self.address, &error)),
            }
            pause *= 2;
        }
        call(self.connection.clone()).await.map_err(|error| at(&self.address, &error))
    }
}

/// A key of the run. The braces make it one hash slot.
pub(super) fn key(run: &RunId, name: &str) -> String {
    format!("lh:{{{run}}}:{name}")
}

fn broken(error: &RedisError) -> bool {
    (error.is_io_error() || error.is_connection_dropped()) && !error.is_timeout()
}

fn at(address: &str, error: &RedisError) -> StoreError {
    match explain(error) {
        StoreError::Unreachable(why) => StoreError::Unreachable(format!("{address}: {why}")),
        other @ (StoreError::Full(_) | StoreError::Refused(_) | StoreError::NotFound { .. } | StoreError::Other(_)) => {
            other
        }
    }
}

fn refuse_url(error: &RedisError) -> StoreError {
    // The URL itself may hold a password.
    let remedy = if error.kind() == ErrorKind::InvalidClientConfig {
        "want redis://[USER:PASSWORD@]HOST:PORT[/NUMBER]; rediss:// needs a build with TLS"
    } else {
        "see that the address is right"
    };
    StoreError::Refused(format!("the store's URL cannot be used: {error}; {remedy}"))
}
