//! The connection to the server: one for all calls, replaced when it breaks. With Sentinels each new one goes to the
//! primary of that time; the cluster library keeps its own connections and follows fail-overs itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, select_ok};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, Pipeline, RedisConnectionInfo, RedisError,
    RedisFuture, RedisResult, Value,
};

use super::address::{Address, Kind, certificates, with_tls_and_timeouts};
use super::error::explain;
use super::options::RedisOptions;
use super::server_check::ServerInfo;
use crate::store::{Result, StoreError};

/// Commands waiting to be written, over all callers; further callers wait.
const PIPELINE: usize = 1024;
/// Redirections and retries inside one call to a cluster, with pauses of up to [`CLUSTER_PAUSE_MS`].
const CLUSTER_TRIES: u32 = 5;
const CLUSTER_PAUSE_MS: u64 = 1_000;

/// A connection that many callers share.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

type Dialled = Shared<BoxFuture<'static, Result<Connection>>>;

/// Hands out the connection. Callers that need it while it is down wait for one attempt that is made for all.
pub(super) struct ConnectionManager {
    dialer: Arc<Dialer>,
    /// Generation of the connection, and the connection. Locked to read or replace it, never across an await.
    current: Mutex<(u64, Dialled)>,
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionManager").field("address", &self.dialer.address).finish_non_exhaustive()
    }
}

impl ConnectionManager {
    /// Connects at the first call, not before.
    pub(super) fn new(address: Address, options: &RedisOptions) -> Self {
        let dialer = Arc::new(Dialer { address, options: options.clone(), served: AtomicBool::new(false) });
        let current = Mutex::new((0, dialer.clone().dialled()));
        Self { dialer, current }
    }

    pub(super) fn address(&self) -> &Address {
        &self.dialer.address
    }

    /// A server at this address took a write. From now on what it refuses is a state that passes, such as a fail-over: a
    /// coordinator that serves a fleet does not stop for it, and an operator can fix it meanwhile.
    pub(super) fn set_served(&self) {
        self.dialer.served.store(true, Ordering::Relaxed);
    }

    /// True after [`Self::set_served`].
    pub(super) fn has_served(&self) -> bool {
        self.dialer.served.load(Ordering::Relaxed)
    }

    /// The connection and its generation.
    pub(super) async fn get(&self) -> Result<(u64, Connection)> {
        let (generation, dialled) = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match dialled.await {
            Ok(connection) => Ok((generation, connection)),
            Err(error) => {
                self.invalidate(generation);
                Err(self.for_now(error))
            }
        }
    }

    /// A refusal of a server that served before, as one that passes.
    pub(super) fn for_now(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Refused(why) if self.has_served() => StoreError::Unreachable(why),
            other @ (StoreError::Refused(_)
            | StoreError::Unreachable(_)
            | StoreError::Full(_)
            | StoreError::NotFound { .. }
            | StoreError::Other(_)) => other,
        }
    }

    /// Replaces the connection of this generation. Calls that wait for a reply on it keep it until then.
    pub(super) fn invalidate(&self, generation: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == generation {
            *current = (generation + 1, Arc::clone(&self.dialer).dialled());
        }
    }
}

/// Makes connections.
struct Dialer {
    address: Address,
    options: RedisOptions,
    /// See [`ConnectionManager::set_served`].
    served: AtomicBool,
}

impl Dialer {
    fn dialled(self: Arc<Self>) -> Dialled {
        async move { self.dial().await }.boxed().shared()
    }

    async fn dial(&self) -> Result<Connection> {
        match &self.address.kind {
            Kind::Server => {
                let mut connection = self.connect(&self.address.nodes[0]).await?;
                self.check(&mut connection, &self.address.to_string()).await?;
                Ok(Connection::Server(connection))
            }
            Kind::Sentinel { service } => {
                // All are asked: some may be down, and some may not know of a fail-over yet.
                let asked = self.address.nodes.iter().map(|sentinel| self.primary(sentinel, service).boxed());
                Ok(Connection::Server(select_ok(asked).await?.0))
            }
            Kind::Cluster => Ok(Connection::Cluster(self.cluster().await?)),
        }
    }

    fn config(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.options.response_timeout))
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_pipeline_buffer_size(PIPELINE)
    }

    async fn connect(&self, info: &ConnectionInfo) -> Result<MultiplexedConnection> {
        let client = Client::open(info.clone()).map_err(|error| at(&info.addr(), &error))?;
        let connected = client.get_multiplexed_async_connection_with_config(&self.config()).await;
        connected.map_err(|error| at(&info.addr(), &error))
    }

    /// Checked with each connection: the server may have been restarted with other settings, or replaced by another.
    async fn check(&self, connection: &mut MultiplexedConnection, name: &str) -> Result<()> {
        let info: RedisResult<String> = redis::cmd("INFO").arg("everything").query_async(connection).await;
        let info = info.map_err(|error| at(&name, &error))?;
        let server = ServerInfo::parse(&info);
        // Behind one address that served before, another server takes over: the old one answers reads until then.
        let fails_over = matches!(self.address.kind, Kind::Sentinel { .. }) || self.served.load(Ordering::Relaxed);
        if fails_over && !server.is_primary() {
            return Err(StoreError::Unreachable(format!("{name} is not the primary")));
        }
        server.check(name, &self.address.kind, self.options.allow_volatile)
    }

    /// A connection to the primary that this Sentinel names.
    async fn primary(&self, sentinel: &ConnectionInfo, service: &str) -> Result<MultiplexedConnection> {
        let (host, port) = self.ask(sentinel, service).await?;
        let address = if let ConnectionAddr::TcpTls { insecure, .. } = sentinel.addr() {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = with_tls_and_timeouts(sentinel.clone().set_addr(address), &self.options)
            .map_err(|error| at(&sentinel.addr(), &error))?;
        let mut connection = self.connect(&info).await?;
        self.check(&mut connection, &info.addr().to_string()).await?;
        Ok(connection)
    }

    /// Sentinels often need no password where the servers do; one that needs one is given the same.
    async fn ask(&self, sentinel: &ConnectionInfo, service: &str) -> Result<(String, u16)> {
        let own = sentinel.redis_settings();
        let mut login = RedisConnectionInfo::default();
        let mut answer = self.ask_as(sentinel.clone().set_redis_settings(login.clone()), service).await;
        if let Err(StoreError::Refused(_)) = &answer
            && let Some(password) = own.password()
        {
            login = login.set_password(password);
            if let Some(user) = own.username() {
                login = login.set_username(user);
            }
            answer = self.ask_as(sentinel.clone().set_redis_settings(login), service).await;
        }
        answer?.ok_or_else(|| {
            StoreError::Refused(format!(
                "unknown service {service} at the Sentinel {}: expected redis+sentinel://HOST:PORT/SERVICE with the name \
                 in its `sentinel monitor` line",
                sentinel.addr()
            ))
        })
    }

    async fn ask_as(&self, sentinel: ConnectionInfo, service: &str) -> Result<Option<(String, u16)>> {
        let mut connection = self.connect(&sentinel).await?;
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(service);
        ask.query_async(&mut connection).await.map_err(|error: RedisError| match error.code() {
            Some("ERR") => StoreError::Refused(format!(
                "{} is not a Sentinel ({error}): expected redis://HOST:PORT for a server",
                sentinel.addr()
            )),
            Some(_) | None => at(&sentinel.addr(), &error),
        })
    }

    async fn cluster(&self) -> Result<ClusterConnection> {
        let name = self.address.to_string();
        let mut builder = ClusterClientBuilder::new(self.address.nodes.clone())
            .response_timeout(self.options.response_timeout)
            .connection_timeout(self.options.connect_timeout)
            .overall_response_timeout(Some(self.options.response_timeout * 2))
            .retries(CLUSTER_TRIES)
            .max_retry_wait(CLUSTER_PAUSE_MS)
            .tcp_settings(self.address.nodes[0].tcp_settings().clone());
        if let Some(certificates) = certificates(&self.options) {
            builder = builder.certs(certificates);
        }
        let client = builder.build().map_err(|error| at(&name, &error))?;
        let mut connection = client.get_async_connection().await.map_err(|error| {
            if error.to_string().contains("cluster support disabled") {
                return StoreError::Refused(format!(
                    "{name} is not a cluster: expected redis://HOST:PORT for one server"
                ));
            }
            at(&name, &error)
        })?;
        let ask: RedisResult<Vec<(String, String)>> =
            redis::cmd("INFO").arg("everything").query_async(&mut connection).await;
        for (node, info) in ask.map_err(|error| at(&name, &error))? {
            ServerInfo::parse(&info).check(&node, &Kind::Cluster, self.options.allow_volatile)?;
        }
        Ok(connection)
    }
}

/// An error of the server at `address`, or of the connection to it.
pub(super) fn at(address: &dyn fmt::Display, error: &RedisError) -> StoreError {
    match explain(error) {
        StoreError::Unreachable(why) => StoreError::Unreachable(format!("{address}: {why}")),
        other @ (StoreError::Full(_) | StoreError::Refused(_) | StoreError::NotFound { .. } | StoreError::Other(_)) => {
            other
        }
    }
}
