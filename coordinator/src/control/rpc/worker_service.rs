//! The gRPC service of workers: validates requests, calls the coordinator, converts the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use longhand_proto::task::{Failure, ModelInfo, Output, TaskKind};
use longhand_proto::v1::complete_request::Result as WireResult;
use longhand_proto::v1::coordinator_server;
use longhand_proto::{LeaseId, PROTOCOL, WireError, WorkerId, clock, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::admission::protocol_mismatch;
use super::apply_result::Report;
use super::bounds;
use super::caller::Caller;
use super::complete::Completed;
use super::coordinator::Coordinator;
use super::status::status;
use crate::lifecycle::Outcome;
use crate::store::{LeaseQuery, Renewal, Renewed};

/// Most leases that one call may renew.
const MAX_RENEWALS: usize = 4_096;
/// Most documents that one call may lease; a worker with more slots calls again. All prompts are in one reply, which
/// must stay below the message limit.
const MAX_LEASES: u32 = 64;
/// Most characters of an error class, which is a metric label, and of an error message, which is stored for ever.
const MAX_CLASS: usize = 64;
const MAX_MESSAGE: usize = 2_000;
/// Most bytes of a request id.
const MAX_REQUEST_ID: usize = 64;

/// See `coordinator.proto`.
#[derive(Debug)]
pub(super) struct WorkerService {
    coordinator: Coordinator,
    closing: CancellationToken,
}

impl WorkerService {
    /// Requests that wait for work are answered empty once `closing` is cancelled.
    pub(super) fn new(coordinator: Coordinator, closing: CancellationToken) -> Self {
        Self { coordinator, closing }
    }

    /// Rejects a worker that would wait for ever, because every unfinished run requires another model to write and to judge.
    ///
    /// # Errors
    /// The rejection, or the store failed.
    async fn expect_work(&self, model: &str, weights_hash: &str) -> Result<(), Status> {
        let store = self.coordinator.store();
        let mut wanted = Vec::new();
        for run in store.active_runs().await.map_err(status)? {
            if store.counts(&run.id).await.map_err(status)?.unfinished() > 0 {
                let policy = &run.policy;
                if policy.can_write(model, weights_hash) || policy.can_judge(model, weights_hash) {
                    return Ok(());
                }
                let judge = if policy.judge.is_empty() { String::new() } else { format!(" (judge: {})", policy.judge) };
                wanted.push(format!("run {} requires model {}{judge}", run.id, policy.model));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "{}, and this worker has {model} (weights {weights_hash}); start the worker with that model, or submit a run \
             without --require-model",
            wanted.join("; ")
        )))
    }
}

#[tonic::async_trait]
impl coordinator_server::Coordinator for WorkerService {
    async fn hello(&self, request: Request<v1::HelloRequest>) -> Result<Response<v1::HelloReply>, Status> {
        let request = request.into_inner();
        if request.protocol != PROTOCOL {
            return Err(protocol_mismatch("worker", request.protocol, &request.version));
        }
        let worker = parse_worker_id(&request.worker)?;
        let model = request.model.ok_or(WireError::Missing("model"))?;
        bounds::name("version", &request.version)?;
        bounds::model(&model)?;
        self.expect_work(&model.name, &model.weights_hash).await?;
        tracing::info!(%worker, version = request.version, model = model.name, "worker connected");
        Ok(Response::new(v1::HelloReply {
            protocol: PROTOCOL,
            version: longhand_proto::build().to_owned(),
            lease_ms: self.coordinator.lease_ms(),
        }))
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseReply>, Status> {
        let caller = Caller::of(&request);
        let v1::LeaseRequest { worker, request_id, slots, wait_ms, model, weights_hash, kinds } = request.into_inner();
        if request_id.is_empty() || request_id.len() > MAX_REQUEST_ID {
            return Err(Status::invalid_argument("field `request_id` must have 1 to 64 bytes"));
        }
        bounds::name("model", &model)?;
        bounds::name("weights_hash", &weights_hash)?;
        let query = LeaseQuery {
            worker: parse_worker_id(&worker)?,
            request_id,
            slots: slots.min(MAX_LEASES),
            ttl_ms: self.coordinator.lease_ms(),
            model,
            weights_hash,
            except: Vec::new(),
        };
        let wait = Duration::from_millis(wait_ms);
        let kinds = task_kinds(&kinds);
        if self.coordinator.inner.worker_health.is_quarantined(&caller.worker(&query.worker), clock::now()) {
            let pause = wait.min(self.coordinator.options().max_wait);
            self.closing.run_until_cancelled(tokio::time::sleep(pause)).await;
            return Ok(Response::new(v1::LeaseReply::default()));
        }
        let may_lease = || caller.check().is_ok();
        let leases = self.coordinator.lease(&query, &kinds, wait, &self.closing, &may_lease).await.map_err(status)?;
        if let Err(ended) = caller.check() {
            // The token ended while the store was asked.
            for lease in leases {
                self.coordinator.release(&query.worker, lease.id, None, 0.0, 0).await.map_err(status)?;
            }
            return Err(ended);
        }
        // A worker that did not wait asks again at once.
        let waiting = match leases.is_empty() && query.slots > 0 && !wait.is_zero() {
            true => self.coordinator.why_idle(&query).await.map_err(status)?,
            false => String::new(),
        };
        let leases = leases.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::LeaseReply { leases, waiting }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let caller = Caller::of(&request);
        let v1::RenewRequest { worker, renewals, mut vitals } = request.into_inner();
        let worker = parse_worker_id(&worker)?;
        if renewals.len() > MAX_RENEWALS {
            return Err(Status::invalid_argument(format!(
                "too many renewals in one call: at most {MAX_RENEWALS} are allowed"
            )));
        }
        vitals.as_mut().map_or(Ok(()), bounds::vitals)?;
        let renewals = renewals.into_iter().map(parse_renewal).collect::<Result<Vec<_>, Status>>()?;
        // Each rewrites a checkpoint, which may be large though what is appended is small.
        let leases: BTreeSet<LeaseId> = renewals.iter().map(|renewal| renewal.lease).collect();
        if leases.len() < renewals.len() {
            return Err(Status::invalid_argument("a lease is renewed twice in one call: send each once"));
        }
        let renewed = self.coordinator.store().renew(&renewals, self.coordinator.lease_ms()).await;
        let Renewed { mut lost, cancelled, unsaved } = self.coordinator.track_health(renewed).map_err(status)?;
        // For older workers those that were cancelled are lost like others.
        lost.extend(&cancelled);
        let [lost, cancelled, unsaved] =
            [lost, cancelled, unsaved].map(|ids| ids.iter().map(ToString::to_string).collect());
        let drain = match vitals {
            Some(vitals) if self.coordinator.inner.worker_health.admit(&caller.worker(&worker), clock::now()) => {
                self.coordinator.record_heartbeat(&worker, &vitals.into()).await
            }
            Some(_) | None => false,
        };
        Ok(Response::new(v1::RenewReply { lost, drain, cancelled, appends: true, unsaved }))
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteReply>, Status> {
        let traceparent = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
        let traceparent = traceparent.unwrap_or_default().to_owned();
        let caller = Caller::of(&request);
        let v1::CompleteRequest { worker, lease_id, result, want_next, model, kinds, cost } = request.into_inner();
        let (worker, lease) = (parse_worker_id(&worker)?, parse_lease_id(&lease_id)?);
        model.as_ref().map_or(Ok(()), bounds::model)?;
        let outcome = match result.ok_or(WireError::Missing("result"))? {
            WireResult::Output(output) => {
                bounds::output(&output)?;
                let output = Output::try_from(output)?;
                let model = ModelInfo::from(model.ok_or(WireError::Missing("model"))?);
                Outcome::Written { output, worker: worker.clone(), model }
            }
            WireResult::Failure(failure) => Outcome::Error(sanitise(failure)),
        };
        let (worker, kinds) = (caller.worker(&worker), task_kinds(&kinds));
        let report = Report { worker, lease, outcome, want_next, kinds, traceparent, cost: sound_cost(cost) };
        Ok(Response::new(match self.coordinator.complete(report).await.map_err(status)? {
            Completed::Recorded(next) => {
                let next = next.map(|lease| (*lease).into());
                v1::CompleteReply { outcome: v1::Outcome::Recorded.into(), next, cancelled: false }
            }
            Completed::Stale => v1::CompleteReply { outcome: v1::Outcome::Stale.into(), next: None, cancelled: false },
            Completed::Cancelled => {
                v1::CompleteReply { outcome: v1::Outcome::Stale.into(), next: None, cancelled: true }
            }
        }))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Result<Response<v1::ReleaseReply>, Status> {
        let v1::ReleaseRequest { worker, lease_id, checkpoint, cost, generated } = request.into_inner();
        let (worker, lease) = (parse_worker_id(&worker)?, parse_lease_id(&lease_id)?);
        checkpoint.as_ref().map_or(Ok(()), |it| bounds::checkpoint(it, 0))?;
        let checkpoint = checkpoint.map(Into::into);
        let cost = sound_cost(cost);
        let released = self.coordinator.release(&worker, lease, checkpoint, cost, generated).await.map_err(status)?;
        let outcome = if released { v1::Outcome::Recorded } else { v1::Outcome::Stale };
        Ok(Response::new(v1::ReleaseReply { outcome: outcome.into() }))
    }
}

fn parse_worker_id(text: &str) -> Result<WorkerId, WireError> {
    Ok(text.parse()?)
}

fn parse_lease_id(text: &str) -> Result<LeaseId, WireError> {
    Ok(text.parse()?)
}

fn task_kinds(stated: &[i32]) -> Vec<TaskKind> {
    if stated.is_empty() {
        return TaskKind::FIRST.to_vec();
    }
    stated.iter().filter_map(|&number| TaskKind::from_wire(number)).collect()
}

fn parse_renewal(renewal: v1::Renewal) -> Result<Renewal, Status> {
    let v1::Renewal { lease_id, progress, checkpoint, appended, from } = renewal;
    // A whole checkpoint needs no other.
    let from = if checkpoint.is_some() { 0 } else { from };
    let checkpoint = checkpoint.or(appended);
    checkpoint.as_ref().map_or(Ok(()), |it| bounds::checkpoint(it, from))?;
    Ok(Renewal { lease: parse_lease_id(&lease_id)?, progress, checkpoint: checkpoint.map(Into::into), from })
}

/// Most that one attempt may cost: sums stay finite.
const MAX_COST: f64 = 1e9;

/// A cost as a worker states it; 0 for what is none.
fn sound_cost(cost: f64) -> f64 {
    if (0.0..=MAX_COST).contains(&cost) { cost } else { 0.0 }
}

/// Bounds what is stored and counted of a failure.
fn sanitise(failure: v1::Failure) -> Failure {
    let v1::Failure { class, message, permanent } = failure;
    let is_allowed = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let class: String = class.chars().filter(is_allowed).take(MAX_CLASS).collect();
    Failure {
        class: if class.is_empty() { "unnamed".into() } else { class },
        message: message.chars().take(MAX_MESSAGE).collect(),
        permanent,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longhand_proto::DocumentId;

    use super::*;
    use crate::control::rpc::ServiceOptions;
    use crate::store::{DocumentStore, NewDocument, Run, RunPolicy, RunStore, SqliteStore};

    #[tokio::test]
    async fn the_worker_of_the_judge_is_welcome_and_any_other_is_told_what_is_required() {
        let store = SqliteStore::in_memory(|| 1).unwrap();
        let run = Run {
            id: "r".parse().unwrap(),
            recipe: String::new(),
            recipe_hash: String::new(),
            seed: 0,
            created_ms: 1,
            policy: RunPolicy { model: "writer".into(), judge: "judge".into(), ..RunPolicy::default() },
            paused: false,
            cancelling: false,
        };
        store.create_run(&run).await.unwrap();
        let id = DocumentId::derive(&run.id, "1", 0);
        store.submit(&run.id, &[NewDocument { id, body: "{}".into(), failed: None }]).await.unwrap();
        let coordinator = Coordinator::new(Arc::new(store), ServiceOptions::default());
        let service = WorkerService::new(coordinator, CancellationToken::new());
        service.expect_work("writer", "aa").await.unwrap();
        service.expect_work("judge", "bb").await.unwrap();
        let refused = service.expect_work("other", "cc").await.unwrap_err();
        assert!(refused.message().contains("requires model writer (judge: judge)"), "{}", refused.message());
    }
}
