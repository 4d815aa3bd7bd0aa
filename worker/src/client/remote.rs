//! The calls of a worker, each repeated over its [`Link`] until it is answered.

use std::time::Duration;

use longhand_proto::task::{Checkpoint, Failure, Lease, ModelInfo, Output, WorkerStatus};
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::{LeaseId, MAX_MESSAGE_BYTES, PROTOCOL, WorkerId, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::link::{CallError, Link, Patience, Wire};
use super::{WorkerError, WorkerOptions};

/// Even where leases are short, a coordinator may need so long for one disk's write.
const SHORTEST_CALL: Duration = Duration::from_secs(1);

/// Most bytes of renewals in one call. Half of what a message may hold: the sizes below are close, not exact.
const CALL_BYTES: usize = MAX_MESSAGE_BYTES / 2;

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
    link: Link,
    worker: WorkerId,
    model: String,
    weights_hash: String,
    wait: Duration,
    call_timeout: Duration,
    give_up: Duration,
}

impl Remote {
    pub(super) fn new(link: Link, model: &ModelInfo, options: &WorkerOptions) -> Self {
        Self {
            link,
            worker: options.worker.clone(),
            model: model.name.clone(),
            weights_hash: model.weights_hash.clone(),
            wait: options.wait,
            call_timeout: options.call_timeout,
            give_up: options.give_up,
        }
    }

    /// A replica that is silent must be left for the next one while leases live.
    pub(super) fn hurry(&mut self, lease: Duration) {
        self.wait = self.wait.min(lease);
        self.call_timeout = self.call_timeout.min((lease / 3).max(SHORTEST_CALL));
    }

    pub(super) async fn hello(&self, model: &ModelInfo) -> Result<v1::HelloReply, WorkerError> {
        let request = v1::HelloRequest {
            protocol: PROTOCOL,
            version: longhand_proto::build().to_owned(),
            worker: self.worker.to_string(),
            model: Some(model.clone().into()),
        };
        let call = |wire| {
            let request = request.clone();
            async move { client(wire).hello(request).await }
        };
        let reply = self.repeat("hello", self.call_timeout, call).await;
        let reply = reply.map_err(|error| error.into_worker_error(self.give_up))?;
        if reply.protocol != PROTOCOL {
            let older = if reply.protocol < PROTOCOL { "coordinator" } else { "worker" };
            return Err(WorkerError::Refused(format!(
                "coordinator {} speaks protocol {} and worker {} speaks protocol {PROTOCOL}; update the {older}",
                reply.version,
                reply.protocol,
                longhand_proto::build()
            )));
        }
        Ok(reply)
    }

    /// Waits for up to `slots` documents. Once `drain` is cancelled it asks for no more, and returns what this request
    /// was given so far: those leases must be handed back, not left to run out.
    pub(super) async fn lease(&self, slots: u32, drain: CancellationToken) -> Result<Leased, CallError> {
        let id = LeaseId::mint().to_string();
        let waiting = self.lease_call(&id, slots, self.wait);
        let reply = tokio::select! {
            biased;
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
            model: self.model.clone(),
            weights_hash: self.weights_hash.clone(),
            kinds: v1::TaskKind::known(),
        };
        let call = |wire| {
            let request = request.clone();
            async move { client(wire).lease(request).await }
        };
        self.repeat("lease", wait + self.call_timeout, call).await
    }

    /// In as many calls as the checkpoints need.
    pub(super) async fn renew(&self, renewals: Vec<Renewal>, vitals: WorkerStatus) -> Result<Renewed, CallError> {
        let mut renewed = Renewed { lost: Vec::new(), drain: false };
        for renewals in parcels(renewals) {
            let vitals = Some(vitals.clone().into());
            let request = v1::RenewRequest { worker: self.worker.to_string(), renewals, vitals };
            let call = |wire| {
                let request = request.clone();
                async move { client(wire).renew(request).await }
            };
            let reply = self.repeat("renew", self.call_timeout, call).await?;
            renewed.lost.extend(reply.lost.iter().filter_map(|id| id.parse::<LeaseId>().ok()));
            renewed.drain |= reply.drain;
        }
        Ok(renewed)
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
            kinds: v1::TaskKind::known(),
        };
        let call = |wire| {
            let mut request = Request::new(request.clone());
            if let Ok(value) = traceparent.parse() {
                request.metadata_mut().insert("traceparent", value);
            }
            async move { client(wire).complete(request).await }
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

    async fn repeat<T, F>(&self, name: &str, timeout: Duration, call: impl Fn(Wire) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.link.repeat(name, Patience { call: timeout, give_up: self.give_up }, call).await
    }

    /// Gives a document back; a stored checkpoint stays if `checkpoint` is none. False if the lease was lost before.
    pub(super) async fn release(&self, lease: LeaseId, checkpoint: Option<Checkpoint>) -> Result<bool, CallError> {
        let request = v1::ReleaseRequest {
            worker: self.worker.to_string(),
            lease_id: lease.to_string(),
            checkpoint: checkpoint.map(Into::into),
        };
        let call = |wire| {
            let request = request.clone();
            async move { client(wire).release(request).await }
        };
        let reply = self.repeat("release", self.call_timeout, call).await?;
        Ok(reply.outcome() == v1::Outcome::Recorded)
    }
}

impl CallError {
    pub(super) fn into_worker_error(self, after: Duration) -> WorkerError {
        match self {
            Self::Refused(status) => WorkerError::Refused(status.message().to_owned()),
            Self::Unanswered(status) => WorkerError::Unreachable { after, last: status.message().to_owned() },
        }
    }
}

/// What fits into one call each. One at least: a worker without work says that it lives.
fn parcels(renewals: Vec<Renewal>) -> Vec<Vec<v1::Renewal>> {
    let (mut parcels, mut parcel, mut room) = (Vec::new(), Vec::new(), CALL_BYTES);
    for Renewal { lease, progress, checkpoint } in renewals {
        // A token takes five bytes at most, the rest less than a hundred.
        let bytes = 100 + checkpoint.as_ref().map_or(0, |it| 5 * it.tokens.len() + it.tokenizer_hash.len());
        if bytes > room && !parcel.is_empty() {
            parcels.push(std::mem::take(&mut parcel));
            room = CALL_BYTES;
        }
        room = room.saturating_sub(bytes);
        parcel.push(v1::Renewal { lease_id: lease.to_string(), progress, checkpoint: checkpoint.map(Into::into) });
    }
    parcels.push(parcel);
    parcels
}

fn client(wire: Wire) -> CoordinatorClient<Wire> {
    CoordinatorClient::new(wire)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A lease that cannot be read is left to run out; the handshake makes it all but impossible.
fn checked(lease: v1::Lease) -> Option<Lease> {
    Lease::try_from(lease).inspect_err(|error| tracing::error!(%error, "the coordinator sent a lease of no use")).ok()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn checkpoints_of_any_size_are_handed_in_by_calls_that_a_coordinator_takes() {
        let tokens = vec![u32::MAX; 300_000];
        let renewal = |progress| Renewal {
            lease: LeaseId::mint(),
            progress,
            checkpoint: Some(Checkpoint { tokens: tokens.clone(), tokenizer_hash: "hash".into() }),
        };
        let parcels = parcels((0..13).map(renewal).collect());
        let sizes: Vec<usize> = parcels.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 5, 3]);
        for renewals in &parcels {
            let call = v1::RenewRequest { renewals: renewals.clone(), ..Default::default() };
            assert!(call.encoded_len() < MAX_MESSAGE_BYTES);
        }
        assert!(parcels.iter().flatten().map(|it| it.progress).eq(0..13), "all of them, in order");
    }

    #[test]
    fn a_worker_without_work_says_that_it_lives() {
        assert_eq!(parcels(Vec::new()), [Vec::new()]);
    }
}
