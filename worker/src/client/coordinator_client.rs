//! The calls of a worker, each retried over its [`FailoverChannel`] until there is a reply.

use std::time::Duration;

use longhand_proto::task::{Checkpoint, Failure, Lease, ModelInfo, Output, WorkerStatus};
use longhand_proto::v1::coordinator_client::CoordinatorClient as GrpcClient;
use longhand_proto::{LeaseId, MAX_MESSAGE_BYTES, PROTOCOL, WorkerId, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::active_lease::Unsaved;
use super::error::WorkerError;
use super::failover_channel::{AuthenticatedChannel, CallError, FailoverChannel, RetryPolicy};
use super::options::WorkerOptions;

/// However short the leases: a coordinator may need this long for one write to its disk.
const MIN_CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Most bytes of renewals in one call. Half of the message limit: the sizes below are estimates.
const BATCH_BYTES: usize = MAX_MESSAGE_BYTES / 2;

/// One lease's renewal.
#[derive(Debug)]
pub(super) struct Renewal {
    pub(super) lease: LeaseId,
    pub(super) progress: u64,
    pub(super) unsaved: Option<Unsaved>,
}

#[derive(Debug)]
pub(super) struct Leased {
    pub(super) leases: Vec<Lease>,
    /// Why there are none.
    pub(super) waiting: String,
}

#[derive(Debug, Default)]
pub(super) struct Renewed {
    pub(super) lost: Vec<LeaseId>,
    /// Those whose run or document was cancelled.
    pub(super) cancelled: Vec<LeaseId>,
    /// Those whose text was not stored, because the coordinator has not the tokens before those sent.
    pub(super) unsaved: Vec<LeaseId>,
    /// The coordinator takes tokens without those before them.
    pub(super) appends: bool,
    pub(super) drain: bool,
}

/// The reply to a completed attempt.
#[derive(Debug)]
pub(super) enum Completed {
    Recorded(Option<Box<Lease>>),
    Stale,
    /// The run or the document was cancelled.
    Cancelled,
}

/// The coordinator as a worker sees it.
#[derive(Debug, Clone)]
pub(super) struct CoordinatorClient {
    channel: FailoverChannel,
    worker: WorkerId,
    model: String,
    weights_hash: String,
    wait: Duration,
    call_timeout: Duration,
    give_up: Duration,
}

impl CoordinatorClient {
    pub(super) fn new(channel: FailoverChannel, model: &ModelInfo, options: &WorkerOptions) -> Self {
        Self {
            channel,
            worker: options.worker.clone(),
            model: model.name.clone(),
            weights_hash: model.weights_hash.clone(),
            wait: options.wait,
            call_timeout: options.call_timeout,
            give_up: options.give_up,
        }
    }

    /// Shortens the timeouts so that a replica that does not reply is left for the next one before `lease` expires.
    pub(super) fn clamp_timeouts(&mut self, lease: Duration) {
        self.wait = self.wait.min(lease);
        self.call_timeout = self.call_timeout.min((lease / 3).max(MIN_CALL_TIMEOUT));
    }

    pub(super) async fn hello(&self, model: &ModelInfo) -> Result<v1::HelloReply, WorkerError> {
        let request = v1::HelloRequest {
            protocol: PROTOCOL,
            version: longhand_proto::build().to_owned(),
            worker: self.worker.to_string(),
            model: Some(model.clone().into()),
        };
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).hello(request).await }
        };
        let reply = self.call("hello", self.call_timeout, call).await;
        let reply = reply.map_err(|error| WorkerError::from_call(error, self.give_up))?;
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
    /// was granted so far: those leases must be released, not left to expire.
    pub(super) async fn lease(&self, slots: u32, drain: CancellationToken) -> Result<Leased, CallError> {
        let id = LeaseId::mint().to_string();
        let waiting = self.lease_call(&id, slots, self.wait);
        let reply = tokio::select! {
            biased;
            reply = waiting => reply?,
            () = drain.cancelled() => self.lease_call(&id, 0, Duration::ZERO).await?,
        };
        let leases = reply.leases.into_iter().filter_map(parse_lease).collect();
        Ok(Leased { leases, waiting: reply.waiting })
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
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).lease(request).await }
        };
        self.call("lease", wait + self.call_timeout, call).await
    }

    /// Renews, in as many calls as the size of the checkpoints requires.
    pub(super) async fn renew(&self, renewals: Vec<Renewal>, status: WorkerStatus) -> Result<Renewed, CallError> {
        let mut renewed = Renewed { appends: true, ..Renewed::default() };
        for renewals in batches(renewals) {
            let appended = |it: &&v1::Renewal| it.appended.is_some();
            let appended: Vec<String> = renewals.iter().filter(appended).map(|it| it.lease_id.clone()).collect();
            let vitals = Some(status.clone().into());
            let request = v1::RenewRequest { worker: self.worker.to_string(), renewals, vitals };
            let call = |channel| {
                let request = request.clone();
                async move { client(channel).renew(request).await }
            };
            let reply = self.call("renew", self.call_timeout, call).await?;
            let cancelled: Vec<LeaseId> = reply.cancelled.iter().filter_map(|id| id.parse().ok()).collect();
            let lost = reply.lost.iter().filter_map(|id| id.parse().ok());
            renewed.lost.extend(lost.filter(|id| !cancelled.contains(id)));
            renewed.cancelled.extend(cancelled);
            // An older coordinator has passed over what was appended.
            let unsaved = if reply.appends { reply.unsaved } else { appended };
            renewed.unsaved.extend(unsaved.iter().filter_map(|id| id.parse::<LeaseId>().ok()));
            renewed.appends &= reply.appends;
            renewed.drain |= reply.drain;
        }
        Ok(renewed)
    }

    /// Delivers a result. `traceparent` is that of the attempt; it is sent as metadata.
    pub(super) async fn complete(
        &self,
        lease: LeaseId,
        result: Result<Output, Failure>,
        model: ModelInfo,
        want_next: bool,
        traceparent: String,
        cost: f64,
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
            cost,
        };
        let call = |channel| {
            let mut request = Request::new(request.clone());
            if let Ok(value) = traceparent.parse() {
                request.metadata_mut().insert("traceparent", value);
            }
            async move { client(channel).complete(request).await }
        };
        let reply = self.call("complete", self.call_timeout, call).await?;
        match reply.outcome() {
            v1::Outcome::Recorded => Ok(Completed::Recorded(reply.next.and_then(parse_lease).map(Box::new))),
            v1::Outcome::Stale if reply.cancelled => Ok(Completed::Cancelled),
            v1::Outcome::Stale => Ok(Completed::Stale),
            v1::Outcome::Unspecified => {
                Err(CallError::Refused(Status::internal(format!("unknown outcome {}", reply.outcome))))
            }
        }
    }

    async fn call<T, F>(
        &self,
        name: &str,
        timeout: Duration,
        call: impl Fn(AuthenticatedChannel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let give_up = self.give_up;
        let policy = RetryPolicy { attempt_timeout: timeout, total_timeout: give_up, refused_timeout: give_up };
        self.channel.call_with_retry(name, policy, call).await
    }

    /// Releases a document; a stored checkpoint stays if `checkpoint` is none. `generated` are the tokens of its unfinished text.
    /// False if the lease was lost before.
    pub(super) async fn release(
        &self,
        lease: LeaseId,
        checkpoint: Option<Checkpoint>,
        cost: f64,
        generated: u32,
    ) -> Result<bool, CallError> {
        let request = v1::ReleaseRequest {
            worker: self.worker.to_string(),
            lease_id: lease.to_string(),
            checkpoint: checkpoint.map(Into::into),
            cost,
            generated,
        };
        let call = |channel| {
            let request = request.clone();
            async move { client(channel).release(request).await }
        };
        let reply = self.call("release", self.call_timeout, call).await?;
        Ok(reply.outcome() == v1::Outcome::Recorded)
    }
}

/// Splits renewals by the bytes of a call. At least one batch: a worker without leases sends its status too.
fn batches(renewals: Vec<Renewal>) -> Vec<Vec<v1::Renewal>> {
    let (mut batches, mut batch, mut room) = (Vec::new(), Vec::new(), BATCH_BYTES);
    for Renewal { lease, progress, unsaved } in renewals {
        // A token takes five bytes at most, the rest less than a hundred.
        let size = |it: &Checkpoint| 5 * it.tokens.len() + 32 * it.backtracks.len() + it.tokenizer_hash.len();
        let bytes = 100 + unsaved.as_ref().map_or(0, |it| size(&it.text));
        if bytes > room && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            room = BATCH_BYTES;
        }
        room = room.saturating_sub(bytes);
        let mut renewal = v1::Renewal { lease_id: lease.to_string(), progress, ..v1::Renewal::default() };
        if let Some(Unsaved { from, text }) = unsaved {
            let field = if from == 0 { &mut renewal.checkpoint } else { &mut renewal.appended };
            *field = Some(text.into());
            renewal.from = from;
        }
        batch.push(renewal);
    }
    batches.push(batch);
    batches
}

fn client(channel: AuthenticatedChannel) -> GrpcClient<AuthenticatedChannel> {
    GrpcClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A lease that cannot be parsed is left to expire; the handshake makes it all but impossible.
fn parse_lease(lease: v1::Lease) -> Option<Lease> {
    Lease::try_from(lease)
        .inspect_err(|error| tracing::error!(%error, "ignoring an invalid lease from the coordinator"))
        .ok()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn checkpoints_of_any_size_are_sent_in_calls_below_the_message_limit() {
        let tokens = vec![u32::MAX; 300_000];
        let renewal = |progress| Renewal {
            lease: LeaseId::mint(),
            progress,
            unsaved: Some(Unsaved {
                from: 0,
                text: Checkpoint { tokens: tokens.clone(), tokenizer_hash: "hash".into(), ..Checkpoint::default() },
            }),
        };
        let batches = batches((0..13).map(renewal).collect());
        let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
        assert_eq!(sizes, [5, 5, 3]);
        for renewals in &batches {
            let call = v1::RenewRequest { renewals: renewals.clone(), ..Default::default() };
            assert!(call.encoded_len() < MAX_MESSAGE_BYTES);
        }
        assert!(batches.iter().flatten().map(|it| it.progress).eq(0..13), "all of them, in order");
    }

    #[test]
    fn a_worker_without_leases_still_sends_its_status() {
        assert_eq!(batches(Vec::new()), [Vec::new()]);
    }
}
