//! The gRPC service of operators: validates requests, calls the coordinator, converts the answers.

use longhand_proto::v1::operator_server;
use longhand_proto::{DocumentId, RunId, WireError, clock, v1};
use tonic::{Request, Response, Status};

use super::auth::Principal;
use super::caller::Caller;
use super::coordinator::Coordinator;
use super::status::status;
use crate::control::admin::{self, RewriteScope, Selector};
use crate::control::stall::StallFinder;
use crate::control::submit::{self, RunSpec, SubmitError, SubmitReport};
use crate::control::wire;
use crate::domain::recipe::Recipe;
use crate::domain::state::{State, UnknownWord};
use crate::run_stats::current_figures;
use crate::store::{Filter, Record, Run, RunPolicy, StoreError};

/// Most documents of one page, and bytes after which a page ends early.
const PAGE: u32 = 256;
const PAGE_BYTES: usize = 8 << 20;
/// Most rows and candidates of one call.
const MAX_ROWS: usize = 1_024;
const MAX_CANDIDATES: u32 = 64;

/// See `operator.proto`.
#[derive(Debug)]
pub(super) struct OperatorService {
    coordinator: Coordinator,
}

type Answer<T> = Result<Response<T>, Status>;

/// Who makes this call.
fn principal<T>(request: &Request<T>) -> Principal {
    Caller::of(request).principal()
}

impl OperatorService {
    pub(super) fn new(coordinator: Coordinator) -> Self {
        Self { coordinator }
    }

    async fn run(&self, id: &RunId) -> Result<Run, Status> {
        let run = self.coordinator.store().run(id).await.map_err(status)?;
        run.ok_or_else(|| {
            if self.coordinator.has_lost(id) {
                return Status::not_found(format!(
                    "run {id} is no longer in the store: the store was emptied or restored to an older state; submit the \
                     file again under the same run id (documents in the coordinator's --archive are not written again)"
                ));
            }
            status(StoreError::NotFound { kind: "run", name: id.to_string() })
        })
    }

    async fn describe(&self, run: Run) -> Result<v1::Run, Status> {
        self.describe_with(&mut self.coordinator.stall_finder(), run).await
    }

    async fn describe_with(&self, finder: &mut StallFinder<'_>, run: Run) -> Result<v1::Run, Status> {
        let (counts, stall) = finder.counts(&run).await.map_err(status)?;
        Ok(wire::run_to_wire(run, counts, stall.as_ref()))
    }

    /// As [`Coordinator::track_health`].
    fn track_submit<T>(&self, result: Result<T, SubmitError>) -> Result<T, SubmitError> {
        match result {
            Err(SubmitError::Store(error)) => self.coordinator.track_health(Err(error)).map_err(SubmitError::Store),
            other => other,
        }
    }

    /// A document with body and attempts.
    async fn with_attempts(&self, record: Record) -> Result<v1::Document, Status> {
        let attempts = self.coordinator.store().attempts(record.id).await.map_err(status)?;
        let mut document = wire::document_to_wire(&record);
        wire::add_body_and_attempts(&mut document, record.body, &attempts, PAGE_BYTES)?;
        Ok(document)
    }
}

#[tonic::async_trait]
impl operator_server::Operator for OperatorService {
    async fn create_run(&self, request: Request<v1::CreateRunRequest>) -> Answer<v1::Run> {
        let v1::CreateRunRequest { run, recipe, seed, terms } = request.into_inner();
        // Its templates are programs, which are run once to check them.
        let recipe = match clock::is_simulated() {
            true => Ok(Recipe::from_toml(&recipe)),
            false => tokio::task::spawn_blocking(move || Recipe::from_toml(&recipe)).await,
        };
        let recipe = recipe.map_err(|error| Status::internal(format!("the recipe cannot be checked: {error}")))?;
        let recipe = recipe.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let v1::Terms { priority, model, max_open, judge } = terms.unwrap_or_default();
        let policy = RunPolicy { priority, model, judge, max_open };
        let spec = RunSpec { id: run_id(&run)?, recipe, seed, candidates: 1, policy };
        let run = submit::create(self.coordinator.store().as_ref(), &spec).await.map_err(refused)?;
        submit::expect_policy(&run, &spec.policy).map_err(refused)?;
        tracing::info!(run = %run.id, recipe = run.recipe_hash, "run created or continued");
        Ok(Response::new(self.describe(run).await?))
    }

    async fn add_rows(&self, request: Request<v1::AddRowsRequest>) -> Answer<v1::AddRowsReply> {
        let v1::AddRowsRequest { run, candidates, rows } = request.into_inner();
        let run = run_id(&run)?;
        if rows.len() > MAX_ROWS || !(1..=MAX_CANDIDATES).contains(&candidates) {
            return Err(Status::invalid_argument(format!(
                "invalid number of rows or candidates: expected at most {MAX_ROWS} rows and 1 to {MAX_CANDIDATES} candidates per call"
            )));
        }
        let rows = rows.into_iter().map(wire::row_from_wire).collect::<Result<Vec<_>, _>>()?;
        let submitted =
            submit::add_rows(self.coordinator.store().as_ref(), &run, candidates, rows, self.coordinator.archive())
                .await;
        let submitted = self.track_submit(submitted).map_err(refused)?;
        self.coordinator.wake(submitted.inserted as usize);
        let SubmitReport { inserted, existing, changed, bad_rows: _ } = submitted;
        Ok(Response::new(v1::AddRowsReply { inserted, existing, changed }))
    }

    async fn list_runs(&self, _: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsReply> {
        let (mut runs, mut finder) = (Vec::new(), self.coordinator.stall_finder());
        for run in self.coordinator.store().runs().await.map_err(status)? {
            let mut run = self.describe_with(&mut finder, run).await?;
            run.recipe.clear();
            runs.push(run);
        }
        Ok(Response::new(v1::ListRunsReply { runs }))
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::Run> {
        let run = self.run(&run_id(&request.into_inner().run)?).await?;
        Ok(Response::new(self.describe(run).await?))
    }

    async fn get_figures(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::Figures> {
        let run = self.run(&run_id(&request.into_inner().run)?).await?;
        let figures =
            current_figures(self.coordinator.run_stats(), self.coordinator.store(), &run).await.map_err(status)?;
        Ok(Response::new(wire::figures_to_wire(&figures)?))
    }

    async fn list_documents(&self, request: Request<v1::ListDocumentsRequest>) -> Answer<v1::ListDocumentsReply> {
        let v1::ListDocumentsRequest { run, state, reason, after, limit, whole } = request.into_inner();
        let state = (!state.is_empty()).then(|| state.parse::<State>()).transpose().map_err(unknown_state)?;
        let filter = Filter { state, reason: (!reason.is_empty()).then_some(reason) };
        let limit = limit.clamp(1, PAGE);
        let page = self.coordinator.store().list(&run_id(&run)?, &filter, after, limit).await.map_err(status)?;
        let (mut documents, mut bytes, mut next) = (Vec::new(), 0, page.next);
        for record in page.records {
            if !whole {
                documents.push(wire::document_to_wire(&record));
                continue;
            }
            let seq = record.seq;
            let document = self.with_attempts(record).await?;
            bytes += wire::bytes(&document);
            if bytes > PAGE_BYTES && !documents.is_empty() {
                next = seq.checked_sub(1);
                break;
            }
            documents.push(document);
        }
        Ok(Response::new(v1::ListDocumentsReply { documents, next }))
    }

    async fn get_document(&self, request: Request<v1::GetDocumentRequest>) -> Answer<v1::Document> {
        let v1::GetDocumentRequest { run, document } = request.into_inner();
        let store = self.coordinator.store();
        let record = admin::find(store.as_ref(), &run_id(&run)?, document_id(&document)?).await.map_err(status)?;
        let history = store.history(record.id).await.map_err(status)?;
        let mut document = self.with_attempts(record).await?;
        wire::add_history(&mut document, &history, PAGE_BYTES)?;
        Ok(Response::new(document))
    }

    async fn requeue(&self, request: Request<v1::RequeueRequest>) -> Answer<v1::RequeueReply> {
        let who = principal(&request);
        let v1::RequeueRequest { run, which, from_section, only, dry_run, after } = request.into_inner();
        let run = run_id(&run)?;
        let selector = match which.ok_or(WireError::Missing("which"))? {
            v1::requeue_request::Which::Failed(_) => Selector::Failed,
            v1::requeue_request::Which::Cancelled(_) => Selector::Cancelled,
            v1::requeue_request::Which::Rejected(rule) => Selector::Rejected { rule },
            v1::requeue_request::Which::Document(id) => Selector::Document(document_id(&id)?),
        };
        let scope = match (from_section.map(|section| (section as usize).checked_sub(1)), only) {
            (Some(Some(index)), true) => RewriteScope::Only(index),
            (Some(Some(index)), false) => RewriteScope::From(index),
            (None, false) => RewriteScope::AsNeeded,
            (Some(None), _) => return Err(Status::invalid_argument("invalid section 0: sections are counted from 1")),
            (None, true) => return Err(Status::invalid_argument("`only` requires `from_section`")),
        };
        let done = self.coordinator.requeue(&who, &run, &selector, scope, after, dry_run).await.map_err(status)?;
        if let (Selector::Document(id), Some((_, reason))) = (&selector, done.skipped.first()) {
            return Err(Status::failed_precondition(format!("document {id} cannot be requeued: {reason}")));
        }
        let skipped = done.skipped.into_iter();
        Ok(Response::new(v1::RequeueReply {
            documents: done.documents,
            kept: done.kept,
            redone: done.redone,
            skipped: skipped.map(|(id, reason)| v1::Skipped { document: id.to_string(), reason }).collect(),
            next: done.next,
        }))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Answer<v1::CancelReply> {
        let who = principal(&request);
        let v1::CancelRequest { run, document } = request.into_inner();
        let run = run_id(&run)?;
        if document.is_empty() {
            self.run(&run).await?;
            let (documents, remaining) = self.coordinator.cancel_run(&who, &run).await.map_err(status)?;
            return Ok(Response::new(v1::CancelReply { documents, more: remaining > 0, remaining }));
        }
        let id = document_id(&document)?;
        self.coordinator
            .cancel(&who, &run, id)
            .await
            .map_err(status)?
            .map_err(|reason| Status::failed_precondition(format!("document {id} cannot be cancelled: {reason}")))?;
        Ok(Response::new(v1::CancelReply { documents: 1, more: false, remaining: 0 }))
    }

    async fn delete_run(&self, request: Request<v1::DeleteRunRequest>) -> Answer<v1::DeleteRunReply> {
        let who = principal(&request);
        let v1::DeleteRunRequest { run, discard } = request.into_inner();
        let run = run_id(&run)?;
        let deleted = self.coordinator.delete_run(&who, &run, discard).await.map_err(status)?;
        let more =
            deleted.map_err(|reason| Status::failed_precondition(format!("run {run} is not deleted: {reason}")))?;
        Ok(Response::new(v1::DeleteRunReply { more }))
    }

    async fn load_run(&self, request: Request<v1::LoadRunRequest>) -> Answer<v1::LoadRunReply> {
        let who = principal(&request);
        let v1::LoadRunRequest { run, documents, format_version } = request.into_inner();
        let run = wire::run_from_wire(run.ok_or(WireError::Missing("run"))?)?;
        let documents = wire::ended_from_wire(&documents, format_version)?;
        let loaded = self.coordinator.load_run(&who, &run, &documents).await.map_err(status)?;
        let loaded = loaded.map_err(Status::failed_precondition)?;
        Ok(Response::new(v1::LoadRunReply { loaded }))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Answer<v1::Run> {
        let who = principal(&request);
        let v1::PauseRequest { run, paused } = request.into_inner();
        let run = self.coordinator.pause(&who, &run_id(&run)?, paused).await.map_err(status)?;
        Ok(Response::new(self.describe(run).await?))
    }
}

fn run_id(text: &str) -> Result<RunId, WireError> {
    Ok(text.parse()?)
}

fn document_id(text: &str) -> Result<DocumentId, WireError> {
    Ok(text.parse()?)
}

fn unknown_state(error: UnknownWord) -> Status {
    let words = State::ALL.map(State::as_str).join(", ");
    Status::invalid_argument(format!("{error}; expected one of {words}"))
}

fn refused(error: SubmitError) -> Status {
    match error {
        SubmitError::Store(error) => status(error),
        SubmitError::Differs { .. } | SubmitError::Paused(_) | SubmitError::Cancelling(_) => {
            Status::failed_precondition(error.to_string())
        }
        // To be retried: what was added stays, and the archive may be available again.
        SubmitError::Archive(error) => Status::unavailable(error.to_string()),
        SubmitError::Document { .. } => Status::invalid_argument(error.to_string()),
    }
}
