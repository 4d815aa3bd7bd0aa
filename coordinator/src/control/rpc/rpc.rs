//! The wire side: what a peer sends is checked, handed on, and the answer converted back.

use std::time::Duration;

use longhand_proto::task::{Failure, ModelInfo, Output, TaskKind};
use longhand_proto::v1::complete_request::Result as Wire;
use longhand_proto::v1::coordinator_server;
use longhand_proto::{LeaseId, PROTOCOL, WireError, WorkerId, v1};
use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Coordinator;
use super::complete::{Answer, Report};
use super::error::status;
use super::gate::other_protocol;
use crate::lifecycle::Outcome;
use crate::store::{LeaseQuery, Renewal};

/// Most leases one call may renew.
const MAX_SLOTS: u32 = 4_096;
/// Most documents one request may lease; a worker with more slots asks again. All their prompts stand in one answer,
/// which must stay below the message limit.
const MAX_LEASES: u32 = 64;
/// Error classes are counted by; messages are kept for ever. Neither is a place for a megabyte.
const MAX_CLASS: usize = 64;
const MAX_MESSAGE: usize = 2_000;
/// What a worker knows that does not say: an older build. It could not read another task and would let its lease run out.
const FIRST_KINDS: [TaskKind; 3] = [TaskKind::Plan, TaskKind::Section, TaskKind::Judge];

pub(super) struct Rpc {
    coordinator: Coordinator,
    closing: CancellationToken,
}

impl Rpc {
    pub(super) fn new(coordinator: Coordinator, closing: CancellationToken) -> Self {
        Self { coordinator, closing }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.coordinator.inner.calls.acquire().await.map_err(|_| Status::unavailable("coordinator is closing"))
    }
}

#[tonic::async_trait]
impl coordinator_server::Coordinator for Rpc {
    async fn hello(&self, request: Request<v1::HelloRequest>) -> Result<Response<v1::HelloReply>, Status> {
        let request = request.into_inner();
        if request.protocol != PROTOCOL {
            return Err(other_protocol("worker", request.protocol, &request.version));
        }
        let worker = worker_id(&request.worker)?;
        let model = request.model.ok_or(WireError::Missing("model"))?;
        self.coordinator.expect_work(&model.name, &model.weights_hash).await?;
        tracing::info!(%worker, version = request.version, model = model.name, "worker connected");
        Ok(Response::new(v1::HelloReply {
            protocol: PROTOCOL,
            version: longhand_proto::build().to_owned(),
            lease_ms: self.coordinator.lease_ms(),
        }))
    }

    async fn lease(&self, request: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseReply>, Status> {
        let v1::LeaseRequest { worker, request_id, slots, wait_ms, model, weights_hash, kinds } = request.into_inner();
        if request_id.is_empty() || request_id.len() > MAX_CLASS {
            return Err(Status::invalid_argument("field `request_id` must have 1 to 64 bytes"));
        }
        let query = LeaseQuery {
            worker: worker_id(&worker)?,
            request_id,
            slots: slots.min(MAX_LEASES),
            ttl_ms: self.coordinator.lease_ms(),
            model,
            weights_hash,
        };
        // No permit: a request that waits costs no more than its connection.
        let wait = Duration::from_millis(wait_ms);
        let leases = self.coordinator.lease(&query, &kinds_of(&kinds), wait, &self.closing).await.map_err(status)?;
        Ok(Response::new(v1::LeaseReply { leases: leases.into_iter().map(Into::into).collect(), drain: false }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        let _permit = self.permit().await?;
        let v1::RenewRequest { worker, renewals, vitals } = request.into_inner();
        let worker = worker_id(&worker)?;
        if renewals.len() > MAX_SLOTS as usize {
            return Err(Status::invalid_argument(format!("more than {MAX_SLOTS} renewals in one call")));
        }
        let renewals = renewals.into_iter().map(renewal).collect::<Result<Vec<_>, Status>>()?;
        let lost = self.coordinator.note(self.coordinator.store().renew(&renewals, self.coordinator.lease_ms()).await);
        let lost = lost.map_err(status)?.iter().map(ToString::to_string).collect();
        let drain = match vitals {
            Some(vitals) => self.coordinator.heard(&worker, &vitals.into()).await,
            None => false,
        };
        Ok(Response::new(v1::RenewReply { lost, drain }))
    }

    async fn complete(&self, request: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteReply>, Status> {
        let _permit = self.permit().await?;
        let traceparent = request.metadata().get("traceparent").and_then(|value| value.to_str().ok());
        let traceparent = traceparent.unwrap_or_default().to_owned();
        let v1::CompleteRequest { worker, lease_id, result, want_next, model, kinds } = request.into_inner();
        let worker = worker_id(&worker)?;
        let outcome = match result.ok_or(WireError::Missing("result"))? {
            Wire::Output(output) => Outcome::Written {
                output: Output::try_from(output)?,
                worker: worker.clone(),
                model: ModelInfo::from(model.ok_or(WireError::Missing("model"))?),
            },
            Wire::Failure(failure) => Outcome::Error(failure_of(failure)),
        };
        let (lease, kinds) = (lease_id_of(&lease_id)?, kinds_of(&kinds));
        let report = Report { worker, lease, outcome, want_next, kinds, traceparent };
        Ok(Response::new(match self.coordinator.complete(report).await.map_err(status)? {
            Answer::Recorded(next) => {
                v1::CompleteReply { outcome: v1::Outcome::Recorded.into(), next: next.map(|lease| (*lease).into()) }
            }
            Answer::Stale => v1::CompleteReply { outcome: v1::Outcome::Stale.into(), next: None },
        }))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Result<Response<v1::ReleaseReply>, Status> {
        let _permit = self.permit().await?;
        let v1::ReleaseRequest { worker, lease_id, checkpoint } = request.into_inner();
        let (worker, lease) = (worker_id(&worker)?, lease_id_of(&lease_id)?);
        let taken = self.coordinator.release(&worker, lease, checkpoint.map(Into::into)).await.map_err(status)?;
        let outcome = if taken { v1::Outcome::Recorded } else { v1::Outcome::Stale };
        Ok(Response::new(v1::ReleaseReply { outcome: outcome.into() }))
    }
}

fn worker_id(text: &str) -> Result<WorkerId, WireError> {
    Ok(text.parse()?)
}

fn lease_id_of(text: &str) -> Result<LeaseId, WireError> {
    Ok(text.parse()?)
}

fn kinds_of(stated: &[i32]) -> Vec<TaskKind> {
    if stated.is_empty() {
        return FIRST_KINDS.to_vec();
    }
    stated.iter().filter_map(|&number| TaskKind::from_wire(number)).collect()
}

fn renewal(renewal: v1::Renewal) -> Result<Renewal, Status> {
    let v1::Renewal { lease_id, progress, checkpoint } = renewal;
    Ok(Renewal { lease: lease_id_of(&lease_id)?, progress, checkpoint: checkpoint.map(Into::into) })
}

fn failure_of(failure: v1::Failure) -> Failure {
    let v1::Failure { class, message, permanent } = failure;
    let fits = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let class: String = class.chars().filter(fits).take(MAX_CLASS).collect();
    Failure {
        class: if class.is_empty() { "unnamed".into() } else { class },
        message: message.chars().take(MAX_MESSAGE).collect(),
        permanent,
    }
}
