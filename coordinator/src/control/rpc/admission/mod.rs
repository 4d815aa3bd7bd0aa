//! Admission control, before a call is processed: protocol version, token, rate limit, memory for its message, and the number
//! of calls in progress.
//!
//! Health calls need no token, so they take nothing of all this: see [`Policy::health`].

mod capacity;
mod entries;
mod message;

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use http_body_util::BodyExt;
use longhand_proto::{PROTOCOL, PROTOCOL_HEADER, VERSION, clock};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};

use self::capacity::{CallKind, Capacity, acquire, retry_after};
use self::entries::Entries;
use super::auth::{Role, Tokens};
use super::caller::{Caller, refused};
use super::rate_limit::RateLimiter;
use crate::net::Peer;

const MESSAGE_HEADER: &str = "grpc-message";
/// Most bytes of an error message as it is encoded.
const MAX_ERROR_MESSAGE: usize = 4 << 10;
/// Time for a message to arrive: 16 MiB at 5 Mbit/s.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request for work: a few names and the kinds of task.
const LEASE_BYTES: usize = 4 << 10;

/// gRPC health checks need no token: a kubelet or load balancer has none.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Bytes of a health call's message, which is the name of a service.
const HEALTH_BYTES: usize = 1 << 10;
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The admission policy, shared by all connections.
#[derive(Debug)]
pub(super) struct Policy {
    tokens: Option<Tokens>,
    capacity: Capacity,
    rate_limit: RateLimiter,
    receive_timeout: Duration,
}

impl Policy {
    /// Without tokens every caller is admitted.
    pub(super) fn new(tokens: Option<Tokens>, max_calls: usize, calls_per_second: u32, call_timeout: Duration) -> Self {
        Self {
            tokens,
            capacity: Capacity::new(max_calls),
            rate_limit: RateLimiter::new(calls_per_second),
            receive_timeout: RECEIVE_TIMEOUT.min(call_timeout),
        }
    }

    /// Who calls, if tokens are required. `roles` are those that may.
    fn authenticate(&self, roles: &[Role], headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller, Status> {
        check_protocol(headers)?;
        let mut identity = None;
        if let Some(tokens) = &self.tokens {
            let header = headers.get("authorization").and_then(|value| value.to_str().ok());
            identity = Some((tokens.clone(), tokens.check(header, roles, peer).map_err(refused)?));
        }
        let caller = peer.and_then(Peer::address);
        if let Some(Err(wait)) = caller.map(|caller| self.rate_limit.admit(caller, clock::now())) {
            return Err(retry_after("rate limit exceeded; retry after the time in the metadata", wait));
        }
        Ok(Caller::new(identity, peer.cloned()))
    }

    /// Processes a call once its caller is known, its message is read, and it is its turn.
    async fn call<S: Inner>(&self, mut inner: S, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (mut head, body) = request.into_parts();
        let kind = match head.uri.path() {
            path if path.starts_with("/longhand.v1.Operator/") => CallKind::Operator,
            path if path.ends_with("/Lease") => CallKind::Lease,
            _ => CallKind::Worker,
        };
        let peer = peer(&head.extensions);
        let caller = self.authenticate(allowed(kind, head.uri.path()), &head.headers, peer.as_ref())?;
        if let Some(peer) = &peer {
            peer.mark_known();
        }
        let (body, _held) = match kind {
            // It waits long: how many there are is bounded, and their memory with that, or they would hold what others need.
            CallKind::Lease => {
                let admitted = self.capacity.admit(kind).await?;
                (message::receive_small(body, LEASE_BYTES, self.receive_timeout).await?, (None, admitted))
            }
            CallKind::Worker | CallKind::Operator => {
                let entries = Entries::of(head.uri.path());
                let reserve = |bytes| self.capacity.reserve(peer.as_ref(), bytes);
                let (body, reserved) = message::receive(body, entries, reserve, self.receive_timeout).await?;
                (body, (Some(reserved), self.capacity.admit(kind).await?))
            }
        };
        // The message may have come slowly, or others first.
        caller.check()?;
        head.extensions.insert(caller);
        Ok(inner.call(Request::from_parts(head, body)).await.unwrap_or_else(|never| match never {}))
    }

    /// Processes a health call. Callers need no token, so each connection has a few permits of its own, the time is short,
    /// and nothing is taken that other callers need.
    async fn health<S: Inner>(&self, mut inner: S, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let permit = peer(&head.extensions).map(|peer| acquire(peer.health_calls(), 1)).transpose()?;
        let watch = head.uri.path().ends_with("/Watch").then(|| self.capacity.watch()).transpose()?;
        let body = message::receive_small(body, HEALTH_BYTES, HEALTH_TIMEOUT).await?;
        let answer = inner.call(Request::from_parts(head, body)).await.unwrap_or_else(|never| match never {});
        Ok(answer.map(|body| hold(body, (permit, watch))))
    }
}

/// Calls of operators that change nothing.
const READS: [&str; 5] = ["ListRuns", "GetRun", "GetFigures", "ListDocuments", "GetDocument"];

/// The roles that may make a call.
fn allowed(kind: CallKind, path: &str) -> &'static [Role] {
    match kind {
        CallKind::Operator if READS.iter().any(|call| path.ends_with(&format!("/{call}"))) => {
            &[Role::Operator, Role::Reader]
        }
        CallKind::Operator => &[Role::Operator],
        CallKind::Lease | CallKind::Worker => &[Role::Worker],
    }
}

/// A body that holds permits until it ends: a watch is answered for as long as it lives.
fn hold(body: Body, permits: (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>)) -> Body {
    Body::new(body.map_frame(move |frame| {
        let _held = &permits;
        frame
    }))
}

/// The connection of a call.
pub(super) fn peer(extensions: &tonic::codegen::http::Extensions) -> Option<Peer> {
    extensions.get::<Peer>().cloned()
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

/// Cuts an error message that repeats too much of what the caller sent: as a header it would exceed what clients read, and end
/// their connection.
fn shorten_message(headers: &mut HeaderMap) {
    let Some(message) = headers.get(MESSAGE_HEADER).filter(|value| value.len() > MAX_ERROR_MESSAGE) else { return };
    let mut end = MAX_ERROR_MESSAGE;
    // Not inside of an escape, and all bytes of a character or none.
    let bytes = message.as_bytes();
    while end > 0 && (bytes[end - 1] == b'%' || end > 1 && bytes[end - 2] == b'%' || bytes[end] == b'%') {
        end -= 1;
    }
    if let Ok(short) = HeaderValue::from_bytes(&[&bytes[..end], b"..."].concat()) {
        headers.insert(MESSAGE_HEADER, short);
    }
}

/// The services behind the admission.
trait Inner: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Send + 'static {}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Send + 'static
{
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

impl<S: Inner + Clone> Service<Request<Body>> for Admission<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is used, and a new one takes its place.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let policy = Arc::clone(&self.policy);
        async move {
            let answer = if request.uri().path().starts_with(HEALTH) {
                policy.health(inner, request).await
            } else {
                policy.call(inner, request).await
            };
            let mut answer = answer.unwrap_or_else(|status| {
                tracing::debug!(code = ?status.code(), reason = status.message(), "call rejected");
                status.into_http()
            });
            shorten_message(answer.headers_mut());
            Ok(answer)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tonic::Code;

    use super::*;

    /// Answers all calls but those for work, which wait.
    #[derive(Debug, Clone)]
    struct NoWork;

    impl Service<Request<Body>> for NoWork {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            match request.uri().path().ends_with("/Lease") {
                true => futures::future::pending().boxed(),
                false => futures::future::ready(Ok(Response::new(Body::empty()))).boxed(),
            }
        }
    }

    fn request(call: &str, bytes: usize) -> Request<Body> {
        let message = [&[0], &(bytes as u32).to_be_bytes()[..], &vec![0x7a; bytes]].concat();
        let body = Body::new(Full::new(message.into()));
        Request::post(format!("http://coordinator/longhand.v1.Coordinator/{call}")).body(body).unwrap()
    }

    #[tokio::test]
    async fn requests_for_work_that_wait_hold_nothing_that_other_calls_need() {
        let policy = Policy::new(None, 4, 1_000_000, Duration::from_secs(60));
        let large = policy.call(NoWork, request("Lease", 62 << 10)).await.unwrap_err();
        assert_eq!(large.code(), Code::OutOfRange);
        let mut waiting: Vec<_> = (0..16_384).map(|_| Box::pin(policy.call(NoWork, request("Lease", 64)))).collect();
        assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
        let refused = policy.call(NoWork, request("Lease", 64)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        policy.call(NoWork, request("Renew", 60 << 10)).await.unwrap();
    }
}
