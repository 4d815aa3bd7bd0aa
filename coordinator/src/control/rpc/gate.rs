//! What every call passes before its message is read: it must speak our protocol, show a token where tokens are asked
//! for, come from a caller that keeps to the pace, and there must be room for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use longhand_proto::{PROTOCOL, PROTOCOL_HEADER, RETRY_HEADER, VERSION, clock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::codegen::{Body as HttpBody, Service};
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

use super::auth::{Holder, Role, Tokens};
use super::pace::Pace;

/// Requests for work that wait at the same time; each costs some kilobytes.
const MAX_WAITING: usize = 16_384;
/// When to come again where there is no room: long enough for some calls to end.
const COME_AGAIN: Duration = Duration::from_millis(100);

/// gRPC's own health checks: who asks (a kubelet, a load balancer) has no token and learns nothing else.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The rules, shared by all connections.
#[derive(Debug)]
pub(super) struct Rules {
    tokens: Option<Tokens>,
    /// Other calls at the same time: bounds the memory that their messages take.
    calls: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    pace: Pace,
}

impl Rules {
    pub(super) fn new(tokens: Option<Tokens>, max_calls: usize, calls_per_second: u32) -> Self {
        let (calls, waiting) = (Semaphore::new(max_calls.max(1)), Semaphore::new(MAX_WAITING));
        Self { tokens, calls: Arc::new(calls), waiting: Arc::new(waiting), pace: Pace::new(calls_per_second) }
    }

    fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        caller: Option<SocketAddr>,
    ) -> Result<(OwnedSemaphorePermit, Option<Holder>), Status> {
        if path.starts_with(HEALTH) {
            return Ok((self.enter(&self.calls)?, None));
        }
        check_protocol(headers)?;
        let role = if path.starts_with("/longhand.v1.Operator/") { Role::Operator } else { Role::Worker };
        let mut holder = None;
        if let Some(tokens) = &self.tokens {
            let header = headers.get("authorization").and_then(|value| value.to_str().ok());
            let known = tokens.check(header, role).map_err(|denied| Status::unauthenticated(denied.to_string()))?;
            holder = Some(known);
        }
        if let Some(Err(wait)) = caller.map(|caller| self.pace.admit(caller, clock::now())) {
            return Err(later("this caller makes more calls than one may: wait as long as told", wait));
        }
        let permit = self.enter(if path.ends_with("/Lease") { &self.waiting } else { &self.calls })?;
        Ok((permit, holder))
    }

    fn enter(&self, room: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
        let full = "this coordinator has as many calls as it can hold: ask again in a moment";
        Arc::clone(room).try_acquire_owned().map_err(|_| later(full, COME_AGAIN))
    }
}

/// Not now, but after some time, which is told in the metadata.
fn later(why: &str, wait: Duration) -> Status {
    let mut status = Status::resource_exhausted(why);
    status.metadata_mut().insert(RETRY_HEADER, (wait.as_millis() as u64).max(1).into());
    status
}

/// The other end of the connection, where connections have ends.
fn caller<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(TlsConnectInfo::get_ref);
    tls.or_else(|| extensions.get::<TcpConnectInfo>())?.remote_addr
}

/// A caller that says nothing is taken at its word's meaning: it was made by hand.
fn check_protocol(headers: &HeaderMap) -> Result<(), Status> {
    let Some(value) = headers.get(PROTOCOL_HEADER) else { return Ok(()) };
    match value.to_str().ok().and_then(|text| text.parse::<u32>().ok()) {
        Some(PROTOCOL) => Ok(()),
        Some(theirs) => Err(other_protocol("caller", theirs, "another version")),
        None => Err(Status::invalid_argument(format!("the metadata {PROTOCOL_HEADER} is no number"))),
    }
}

/// The refusal of one that speaks another protocol: it would misread us.
pub(super) fn other_protocol(who: &str, theirs: u32, version: &str) -> Status {
    let older = if theirs < PROTOCOL { who } else { "coordinator" };
    Status::failed_precondition(format!(
        "{who} {version} speaks protocol {theirs} and coordinator {VERSION} speaks protocol {PROTOCOL}; update the {older}"
    ))
}

#[derive(Debug, Clone)]
pub(super) struct GateLayer(pub(super) Arc<Rules>);

impl<S> tower_layer::Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, rules: Arc::clone(&self.0) }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Gate<S> {
    inner: S,
    rules: Arc<Rules>,
}

impl<S, B, R> Service<Request<B>> for Gate<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: HttpBody + Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<R>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.rules.admit(request.uri().path(), request.headers(), caller(&request)) {
            Err(status) => {
                tracing::debug!(code = ?status.code(), reason = status.message(), "turned away");
                std::future::ready(Ok(status.into_http())).boxed()
            }
            Ok((permit, holder)) => {
                if let Some(holder) = holder {
                    request.extensions_mut().insert(holder);
                }
                let answer = self.inner.call(request);
                async move {
                    let answer = answer.await;
                    drop(permit);
                    answer
                }
                .boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_call_without_room_is_asked_to_come_again_and_waiting_for_work_takes_no_room() {
        let rules = Rules::new(None, 1, 1_000);
        let admit = |path: &str| rules.admit(path, &HeaderMap::new(), None);
        let first = admit("/longhand.v1.Coordinator/Complete").unwrap();
        let refused = admit("/longhand.v1.Operator/Counts").unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("ask again"), "{}", refused.message());
        assert_eq!(refused.metadata().get(RETRY_HEADER).unwrap(), "100");
        let _waits = admit("/longhand.v1.Coordinator/Lease").unwrap();
        drop(first);
        let _second = admit("/longhand.v1.Coordinator/Complete").unwrap();
    }
}
