//! Calls to the coordinator. Each may be repeated with the same arguments, so each is, until it is answered: a lost
//! reply, a time-out and a coordinator that restarts all look the same, and none of them is an outcome.

use std::time::Duration;

use longhand_proto::task::{Checkpoint, Failure, Lease, ModelInfo, Output};
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::{LeaseId, MAX_MESSAGE_BYTES, PROTOCOL, VERSION, WorkerId, v1};
use rand::Rng;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::{WorkerError, WorkerOptions};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// A coordinator that is back is noticed within this time.
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// A call that ended without an answer that can be used.
#[derive(Debug)]
pub(super) enum CallError {
    /// The coordinator will not do it, however often it is asked.
    Refused(Status),
    /// Nobody answered for as long as the options allow.
    Unanswered(Status),
}

/// One lease's renewal.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) lease: LeaseId,
    pub(super) progress: u64,
    pub(super) checkpoint: Option<Checkpoint>,
}

#[derive(Debug)]
pub(super) struct Leased {
    pub(super) leases: Vec<Lease>,
    pub(super) drain: bool,
}

#[derive(Debug)]
pub(super) struct Renewed {
    pub(super) lost: Vec<LeaseId>,
    pub(super) drain: bool,
}

/// The answer to a completed attempt.
#[derive(Debug)]
pub(super) enum Completed {
    Recorded(Option<Box<Lease>>),
    Stale,
}

/// The coordinator as a worker sees it.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    client: CoordinatorClient<Channel>,
    worker: WorkerId,
    wait: Duration,
    call_timeout: Duration,
    give_up: Duration,
}

impl Remote {
    pub(super) fn new(channel: Channel, options: &WorkerOptions) -> Self {
        Self {
            client: CoordinatorClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            worker: options.worker.clone(),
            wait: options.wait,
            call_timeout: options.call_timeout,
            give_up: options.give_up,
        }
    }

    pub(super) async fn hello(&self, model: &ModelInfo) -> Result<v1::HelloReply, WorkerError> {
        let request = v1::HelloRequest {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            worker: self.worker.to_string(),
            model: Some(model.clone().into()),
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.hello(request).await }
        };
        self.repeat("hello", self.call_timeout, call).await.map_err(|error| error.into_worker_error(self.give_up))
    }

    /// Waits for up to `slots` documents. Once `drain` is cancelled it asks for no more, and returns what this request
    /// was given so far: those leases must be handed back, not left to run out.
    pub(super) async fn lease(&self, slots: u32, drain: CancellationToken) -> Result<Leased, CallError> {
        let id = LeaseId::mint().to_string();
        let waiting = self.lease_call(&id, slots, self.wait);
        let reply = tokio::select! {
            reply = waiting => reply?,
            () = drain.cancelled() => self.lease_call(&id, 0, Duration::ZERO).await?,
        };
        let leases = reply.leases.into_iter().filter_map(checked).collect();
        Ok(Leased { leases, drain: reply.drain })
    }

    async fn lease_call(&self, id: &str, slots: u32, wait: Duration) -> Result<v1::LeaseReply, CallError> {
        let request = v1::LeaseRequest {
            worker: self.worker.to_string(),
            request_id: id.to_owned(),
            slots,
            wait_ms: wait.as_millis() as u64,
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.lease(request).await }
        };
        self.repeat("lease", wait + self.call_timeout, call).await
    }

    pub(super) async fn renew(&self, renewals: Vec<Renewal>) -> Result<Renewed, CallError> {
        let renewals = renewals
            .into_iter()
            .map(|Renewal { lease, progress, checkpoint }| v1::Renewal {
                lease_id: lease.to_string(),
                progress,
                checkpoint: checkpoint.map(Into::into),
            })
            .collect();
        let request = v1::RenewRequest { worker: self.worker.to_string(), renewals };
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.renew(request).await }
        };
        let reply = self.repeat("renew", self.call_timeout, call).await?;
        Ok(Renewed { lost: reply.lost.iter().filter_map(|id| id.parse().ok()).collect(), drain: reply.drain })
    }

    /// `traceparent` is that of the attempt, and goes along as metadata.
    pub(super) async fn complete(
        &self,
        lease: LeaseId,
        result: Result<Output, Failure>,
        model: ModelInfo,
        want_next: bool,
        traceparent: String,
    ) -> Result<Completed, CallError> {
        let request = v1::CompleteRequest {
            worker: self.worker.to_string(),
            lease_id: lease.to_string(),
            result: Some(match result {
                Ok(output) => v1::complete_request::Result::Output(output.into()),
                Err(failure) => v1::complete_request::Result::Failure(failure.into()),
            }),
            want_next,
            model: Some(model.into()),
        };
        let call = || {
            let (mut client, mut request) = (self.client.clone(), Request::new(request.clone()));
            if let Ok(value) = traceparent.parse() {
                request.metadata_mut().insert("traceparent", value);
            }
            async move { client.complete(request).await }
        };
        let reply = self.repeat("complete", self.call_timeout, call).await?;
        match reply.outcome() {
            v1::Outcome::Recorded => Ok(Completed::Recorded(reply.next.and_then(checked).map(Box::new))),
            v1::Outcome::Stale => Ok(Completed::Stale),
            v1::Outcome::Unspecified => {
                Err(CallError::Refused(Status::internal(format!("unknown outcome {}", reply.outcome))))
            }
        }
    }

    /// Gives a document back; a stored checkpoint stays if `checkpoint` is none. False if the lease was lost before.
    pub(super) async fn release(&self, lease: LeaseId, checkpoint: Option<Checkpoint>) -> Result<bool, CallError> {
        let request = v1::ReleaseRequest {
            worker: self.worker.to_string(),
            lease_id: lease.to_string(),
            checkpoint: checkpoint.map(Into::into),
        };
        let call = || {
            let (mut client, request) = (self.client.clone(), request.clone());
            async move { client.release(request).await }
        };
        let reply = self.repeat("release", self.call_timeout, call).await?;
        Ok(reply.outcome() == v1::Outcome::Recorded)
    }

    /// Makes the call until it is answered, with full jitter between tries, at most for the time of `give_up`.
    async fn repeat<T, F>(&self, name: &str, timeout: Duration, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        // The runtime's clock, not the machine's: a simulation can own it.
        let begin = Instant::now();
        let mut backoff = FIRST_BACKOFF;
        loop {
            let status = match tokio::time::timeout(timeout, call()).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) if refuses(status.code()) => return Err(CallError::Refused(status)),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer within {} ms", timeout.as_millis())),
            };
            if begin.elapsed() >= self.give_up {
                return Err(CallError::Unanswered(status));
            }
            tracing::debug!(call = name, code = ?status.code(), error = status.message(), "will be repeated");
            let pause = rand::rng().random_range(Duration::ZERO..=backoff);
            tokio::time::sleep(pause).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }
}

impl CallError {
    pub(super) fn into_worker_error(self, after: Duration) -> WorkerError {
        match self {
            Self::Refused(status) => WorkerError::Refused(status.message().to_owned()),
            Self::Unanswered(status) => WorkerError::Unreachable { after, last: status.message().to_owned() },
        }
    }

    pub(super) fn status(&self) -> &Status {
        match self {
            Self::Refused(status) | Self::Unanswered(status) => status,
        }
    }
}

/// True if asking again cannot help. Everything else may be a link or a server that will be back.
fn refuses(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => false,
    }
}

/// A lease that cannot be read is left to run out; the handshake makes it all but impossible.
fn checked(lease: v1::Lease) -> Option<Lease> {
    Lease::try_from(lease).inspect_err(|error| tracing::error!(%error, "the coordinator sent a lease of no use")).ok()
}
