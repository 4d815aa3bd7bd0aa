//! Calls to the server, each repeated when its connection breaks: every call of a store may be.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use longhand_proto::{RunId, rng};
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Script, ScriptInvocation};
use tokio::time::Instant;

use super::address::{Address, Kind};
use super::line::{Line, Wire, at};
use crate::store::{Result, StoreError};

/// Raised with every change of the keys' meaning; a server that holds a higher one is refused.
const SCHEMA: u64 = 2;
const SCHEMA_KEY: &str = "lh:schema";
/// A call whose connection breaks is repeated for so long: a server that is restarted on the spot is back by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// Mean pause before the first repetition; doubled for each further one.
const PAUSE: Duration = Duration::from_millis(50);

/// How a [`RedisStore`](crate::store::RedisStore) talks to its server.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Accept a server that may lose documents: without an append-only file, or with an eviction policy.
    pub allow_volatile: bool,
    pub tls: RedisTls,
    /// How long an answer may take. The library's own 500 ms would fail a call while the server writes its disk.
    pub response_timeout: Duration,
    pub connect_timeout: Duration,
    /// Added to the server's clock in every step: for tests that tell of hours.
    pub clock_offset_ms: Arc<AtomicI64>,
}

/// What a server with TLS is trusted by and shown. PEM texts.
#[derive(Clone, Default)]
pub struct RedisTls {
    /// CA of the server's certificate; the system's if none.
    pub ca: Option<String>,
    /// Own certificate and its key.
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

#[derive(Debug)]
pub(super) struct Client {
    line: Line,
    clock_offset_ms: Arc<AtomicI64>,
}

impl Client {
    pub(super) async fn open(url: &str, options: RedisOptions) -> Result<Self> {
        let line = Line::new(Address::parse(url, &options)?, &options);
        let client = Self { line, clock_offset_ms: options.clock_offset_ms };
        client.check_schema().await?;
        Ok(client)
    }

    async fn check_schema(&self) -> Result<()> {
        self.command::<()>(redis::cmd("SET").arg(SCHEMA_KEY).arg(SCHEMA).arg("NX")).await?;
        let schema: String = self.command(redis::cmd("GET").arg(SCHEMA_KEY)).await?;
        if schema == SCHEMA.to_string() {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "the server at {} holds documents in schema {schema}, this build reads schema {SCHEMA}: use the build \
             that wrote them, or another database (redis://HOST:PORT/NUMBER)",
            self.line.address()
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
        self.repeat(|mut wire| async move { call.invoke_async(&mut wire).await }).await
    }

    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.repeat(|mut wire| async move { command.query_async(&mut wire).await }).await
    }

    /// Commands on keys of different runs, side by side.
    pub(super) async fn commands<T: FromRedisValue>(&self, commands: &[Cmd]) -> Result<Vec<T>> {
        try_join_all(commands.iter().map(|command| self.command(command))).await
    }

    /// A command without a key, sent to the server that holds the run.
    pub(super) async fn command_at<T: FromRedisValue>(&self, run: &RunId, command: &Cmd) -> Result<T> {
        let route = Route::with_key(key(run, "run"), SlotAddr::Master);
        let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
        let send = |wire| {
            let routing = routing.clone();
            async move {
                match wire {
                    Wire::Server(mut connection) => command.query_async(&mut connection).await,
                    Wire::Cluster(mut connection) => {
                        Ok(T::from_redis_value(connection.route_command(command.clone(), routing).await?)?)
                    }
                }
            }
        };
        self.repeat(send).await
    }

    async fn repeat<T, F: Future<Output = RedisResult<T>>>(&self, call: impl Fn(Wire) -> F) -> Result<T> {
        // The runtime's clock, not the machine's: a simulation can own it.
        let (begin, mut pause) = (Instant::now(), PAUSE);
        loop {
            let error = match self.line.wire().await {
                Ok((number, wire)) => match call(wire).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        let verdict = self.judge(&error);
                        if verdict.hang_up {
                            self.line.hang_up(number);
                        }
                        let told = at(self.line.address(), &error);
                        if !verdict.repeat {
                            return Err(told);
                        }
                        told
                    }
                },
                Err(error @ StoreError::Unreachable(_)) => error,
                Err(error) => return Err(error),
            };
            if begin.elapsed() >= PATIENCE {
                return Err(error);
            }
            tokio::time::sleep(rng::around(pause)).await;
            pause *= 2;
        }
    }

    fn judge(&self, error: &RedisError) -> Verdict {
        let kind = &self.line.address().kind;
        if error.is_timeout() {
            // The server is slow, or the link is dead and nobody said so: the next call takes a new one, this one has
            // waited long enough.
            return Verdict { hang_up: *kind != Kind::Cluster, repeat: false };
        }
        let broken = error.is_io_error() || error.is_connection_dropped();
        let deposed = error.code() == Some("READONLY") && matches!(kind, Kind::Sentinel { .. });
        let soon = matches!(error.code(), Some("LOADING" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN"));
        Verdict { hang_up: (broken || deposed) && *kind != Kind::Cluster, repeat: broken || deposed || soon }
    }
}

/// What an error means for the connection and for the call.
struct Verdict {
    hang_up: bool,
    repeat: bool,
}

/// A key of the run. The braces make it one hash slot.
pub(super) fn key(run: &RunId, name: &str) -> String {
    format!("lh:{{{run}}}:{name}")
}
