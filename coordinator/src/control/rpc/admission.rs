//! Admission control, before a call's message is read: protocol version, token, rate limit, and number of calls in
//! progress.

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

use super::auth::{Identity, Role, Tokens};
use super::rate_limit::RateLimiter;

/// Requests for work that may wait at the same time; each costs some kilobytes.
const MAX_WAITING: usize = 16_384;
/// When to retry if there are too many calls: long enough for some to end.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// gRPC health checks need no token: a kubelet or load balancer has none.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// The admission policy, shared by all connections.
#[derive(Debug)]
pub(super) struct Policy {
    tokens: Option<Tokens>,
    /// Permits of calls in progress, other than waiting requests for work: bounds the memory of their messages.
    calls: Arc<Semaphore>,
    /// Permits of requests for work that wait.
    waiting: Arc<Semaphore>,
    rate_limit: RateLimiter,
}

impl Policy {
    /// Without tokens every caller is admitted.
    pub(super) fn new(tokens: Option<Tokens>, max_calls: usize, calls_per_second: u32) -> Self {
        let (calls, waiting) = (Semaphore::new(max_calls.max(1)), Semaphore::new(MAX_WAITING));
        Self {
            tokens,
            calls: Arc::new(calls),
            waiting: Arc::new(waiting),
            rate_limit: RateLimiter::new(calls_per_second),
        }
    }

    /// The permit to hold while the call is in progress, and who makes it, if tokens are required.
    fn admit(
        &self,
        path: &str,
        headers: &HeaderMap,
        caller: Option<SocketAddr>,
    ) -> Result<(OwnedSemaphorePermit, Option<Identity>), Status> {
        if path.starts_with(HEALTH) {
            return Ok((self.acquire(&self.calls)?, None));
        }
        check_protocol(headers)?;
        let role = if path.starts_with("/longhand.v1.Operator/") { Role::Operator } else { Role::Worker };
        let mut identity = None;
        if let Some(tokens) = &self.tokens {
            let header = headers.get("authorization").and_then(|value| value.to_str().ok());
            let known = tokens.check(header, role).map_err(|denied| Status::unauthenticated(denied.to_string()))?;
            identity = Some(known);
        }
        if let Some(Err(wait)) = caller.map(|caller| self.rate_limit.admit(caller, clock::now())) {
            return Err(retry_after("rate limit exceeded; retry after the time in the metadata", wait));
        }
        let permit = self.acquire(if path.ends_with("/Lease") { &self.waiting } else { &self.calls })?;
        Ok((permit, identity))
    }

    fn acquire(&self, permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
        let full = "too many calls in progress; retry after the time in the metadata";
        Arc::clone(permits).try_acquire_owned().map_err(|_| retry_after(full, RETRY_AFTER))
    }
}

/// A rejection that says in its metadata when to retry.
fn retry_after(why: &str, wait: Duration) -> Status {
    let mut status = Status::resource_exhausted(why);
    status.metadata_mut().insert(RETRY_HEADER, (wait.as_millis() as u64).max(1).into());
    status
}

/// The peer's address, if the connection has one.
fn caller<B>(request: &Request<B>) -> Option<SocketAddr> {
    let extensions = request.extensions();
    let tls = extensions.get::<TlsConnectInfo<TcpConnectInfo>>().map(TlsConnectInfo::get_ref);
    tls.or_else(|| extensions.get::<TcpConnectInfo>())?.remote_addr
}

/// Calls that state no protocol are admitted: they come from generic gRPC clients.
fn check_protocol(headers: &HeaderMap) -> Result<(), Status> {
    let Some(value) = headers.get(PROTOCOL_HEADER) else { return Ok(()) };
    match value.to_str().ok().and_then(|text| text.parse::<u32>().ok()) {
        Some(PROTOCOL) => Ok(()),
        Some(theirs) => Err(protocol_mismatch("caller", theirs, "another version")),
        None => Err(Status::invalid_argument(format!("invalid metadata {PROTOCOL_HEADER}: expected a number"))),
    }
}

/// The rejection of a caller with another protocol version.
pub(super) fn protocol_mismatch(who: &str, theirs: u32, version: &str) -> Status {
    let older = if theirs < PROTOCOL { who } else { "coordinator" };
    Status::failed_precondition(format!(
        "{who} {version} speaks protocol {theirs} and coordinator {VERSION} speaks protocol {PROTOCOL}; update the {older}"
    ))
}

#[derive(Debug, Clone)]
pub(super) struct AdmissionLayer(pub(super) Arc<Policy>);

impl<S> tower_layer::Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission { inner, policy: Arc::clone(&self.0) }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Admission<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S, B, R> Service<Request<B>> for Admission<S>
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
        match self.policy.admit(request.uri().path(), request.headers(), caller(&request)) {
            Err(status) => {
                tracing::debug!(code = ?status.code(), reason = status.message(), "call rejected");
                std::future::ready(Ok(status.into_http())).boxed()
            }
            Ok((permit, identity)) => {
                if let Some(identity) = identity {
                    request.extensions_mut().insert(identity);
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
    fn a_call_too_many_is_rejected_with_retry_after_and_requests_for_work_do_not_count() {
        let policy = Policy::new(None, 1, 1_000);
        let admit = |path: &str| policy.admit(path, &HeaderMap::new(), None);
        let first = admit("/longhand.v1.Coordinator/Complete").unwrap();
        let refused = admit("/longhand.v1.Operator/Counts").unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("too many calls in progress; retry"), "{}", refused.message());
        assert_eq!(refused.metadata().get(RETRY_HEADER).unwrap(), "100");
        let _waits = admit("/longhand.v1.Coordinator/Lease").unwrap();
        drop(first);
        let _second = admit("/longhand.v1.Coordinator/Complete").unwrap();
    }
}
