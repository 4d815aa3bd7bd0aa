//! Calls to the server, each retried when its connection breaks: every call of a store is idempotent.

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
use super::connection::{Connection, ConnectionManager, at};
use super::error::is_denied;
use super::options::RedisOptions;
use crate::store::{Result, StoreError};

/// Raised with every change of what the keys mean; a server with a higher one is refused.
const SCHEMA: u64 = 2;
const SCHEMA_KEY: &str = "lh:schema";
/// How long a call whose connection breaks is retried: a server that restarts at once is back by then.
const RETRY_FOR: Duration = Duration::from_secs(2);
/// Mean pause before the first retry; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Client {
    connections: ConnectionManager,
    clock_offset_ms: Arc<AtomicI64>,
}

impl Client {
    pub(super) async fn open(url: &str, options: RedisOptions) -> Result<Self> {
        let connections = ConnectionManager::new(Address::parse(url, &options)?, &options);
        let client = Self { connections, clock_offset_ms: options.clock_offset_ms };
        client.check_schema().await?;
        client.connections.set_served();
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
            self.connections.address()
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

    /// The same for a step on the workers, which belong to no run.
    pub(super) fn step_of_workers<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        call.key("lh:{*}:run").arg(self.clock_offset_ms());
        call
    }

    pub(super) async fn invoke<T: FromRedisValue>(&self, call: &ScriptInvocation<'_>) -> Result<T> {
        self.retry(|mut connection| async move { call.invoke_async(&mut connection).await }).await
    }

    pub(super) async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        self.retry(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Commands on keys of different runs, side by side.
    pub(super) async fn commands<T: FromRedisValue>(&self, commands: &[Cmd]) -> Result<Vec<T>> {
        try_join_all(commands.iter().map(|command| self.command(command))).await
    }

    /// A command without a key, sent to the server that holds the run.
    pub(super) async fn command_at<T: FromRedisValue>(&self, run: &RunId, command: &Cmd) -> Result<T> {
        let route = Route::with_key(key(run, "run"), SlotAddr::Master);
        let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(route));
        let send = |connection| {
            let routing = routing.clone();
            async move {
                match connection {
                    Connection::Server(mut server) => command.query_async(&mut server).await,
                    Connection::Cluster(mut cluster) => {
                        Ok(T::from_redis_value(cluster.route_command(command.clone(), routing).await?)?)
                    }
                }
            }
        };
        self.retry(send).await
    }

    async fn retry<T, F: Future<Output = RedisResult<T>>>(&self, call: impl Fn(Connection) -> F) -> Result<T> {
        // The runtime's clock, not the machine's: a simulation can own it.
        let (begin, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let error = match self.connections.get().await {
                Ok((generation, connection)) => match call(connection).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => {
                        let decision = self.decide(&error);
                        if decision.invalidate {
                            self.connections.invalidate(generation);
                        }
                        let explained = at(self.connections.address(), &error);
                        if !decision.retry {
                            return Err(explained);
                        }
                        self.connections.for_now(explained)
                    }
                },
                Err(error @ StoreError::Unreachable(_)) => error,
                Err(error) => return Err(error),
            };
            if begin.elapsed() >= RETRY_FOR {
                return Err(error);
            }
            tokio::time::sleep(rng::around(pause)).await;
            pause *= 2;
        }
    }

    fn decide(&self, error: &RedisError) -> RetryDecision {
        let kind = &self.connections.address().kind;
        if error.is_timeout() {
            // The server is slow, or the connection is dead without notice: the next call takes a new connection, this
            // one has waited long enough.
            return RetryDecision { invalidate: *kind != Kind::Cluster, retry: false };
        }
        let broken = error.is_io_error() || error.is_connection_dropped();
        // The connection worked before, so this is a fail-over, or an operator changes users: a new connection finds the new
        // primary, or logs in anew. The cluster library follows a fail-over itself.
        let served = self.connections.has_served();
        let demoted = error.code() == Some("READONLY") && *kind != Kind::Cluster && served;
        let denied = is_denied(error) && served;
        let soon = matches!(error.code(), Some("LOADING" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN"));
        RetryDecision {
            invalidate: denied || (broken || demoted) && *kind != Kind::Cluster,
            retry: broken || demoted || denied || soon,
        }
    }
}

/// What an error means for the connection and for the call.
struct RetryDecision {
    invalidate: bool,
    retry: bool,
}

/// A key of the run. The braces make it one hash slot.
pub(super) fn key(run: &RunId, name: &str) -> String {
    format!("lh:{{{run}}}:{name}")
}
