//! The operator's calls: what is sent is checked, handed on, and the answer converted back.

use longhand_proto::v1::operator_server;
use longhand_proto::{DocumentId, RunId, WireError, v1};
use tonic::{Request, Response, Status};

use super::error::status;
use super::{Coordinator, Holder, Who};
use crate::control::admin::{self, Extent, Which};
use crate::control::submit::{self, RunSpec, SubmitError};
use crate::domain::document::Document;
use crate::domain::instruction::{BadRow, Instruction};
use crate::domain::recipe::Recipe;
use crate::domain::state::{State, UnknownWord};
use crate::run_stats::status_summary;
use crate::store::{Counts, Filter, Record, Run, StoreError, Terms};

/// Most documents of one page, and bytes after which a page ends early.
const PAGE: u32 = 256;
const PAGE_BYTES: usize = 8 << 20;
/// Most rows and candidates of one call.
const MAX_ROWS: usize = 1_024;
const MAX_CANDIDATES: u32 = 64;

pub(super) struct Operate {
    coordinator: Coordinator,
}

type Answer<T> = Result<Response<T>, Status>;

fn who<T>(request: &Request<T>) -> Who {
    let name = request.extensions().get::<Holder>().map(|holder| holder.name.clone()).unwrap_or_default();
    Who { name, address: request.remote_addr().map(|address| address.ip()) }
}

impl Operate {
    pub(super) fn new(coordinator: Coordinator) -> Self {
        Self { coordinator }
    }

    async fn run(&self, id: &RunId) -> Result<Run, Status> {
        let run = self.coordinator.store().run(id).await.map_err(status)?;
        run.ok_or_else(|| {
            if self.coordinator.has_lost(id) {
                return Status::not_found(format!(
                    "run {id} is gone: the store was emptied or set back; submit its file again under the same run id, \
                     and documents that the coordinator's --archive holds are not written again"
                ));
            }
            status(StoreError::NotFound { kind: "run", name: id.to_string() })
        })
    }

    async fn describe(&self, run: Run) -> Result<v1::Run, Status> {
        let counts = self.coordinator.store().counts(&run.id).await.map_err(status)?;
        Ok(wire_run(run, counts))
    }

    /// One document with all that is known of it but its history; of its attempts the latest, if there is no room for
    /// all.
    async fn whole(&self, record: Record) -> Result<v1::Document, Status> {
        let store = self.coordinator.store();
        let attempts = store.attempts(record.id).await.map_err(status)?;
        let mut document = wire_document(&record);
        document.body = record.body;
        let room = PAGE_BYTES.saturating_sub(document.body.len());
        (document.attempts, document.left_out) = latest(&attempts, room)?;
        Ok(document)
    }
}

#[tonic::async_trait]
impl operator_server::Operator for Operate {
    async fn create_run(&self, request: Request<v1::CreateRunRequest>) -> Answer<v1::Run> {
        let v1::CreateRunRequest { run, recipe, seed, terms } = request.into_inner();
        let recipe = Recipe::from_toml(&recipe).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let v1::Terms { priority, model, max_open, judge } = terms.unwrap_or_default();
        let terms = Terms { priority, model, judge, max_open };
        let spec = RunSpec { id: run_id(&run)?, recipe, seed, candidates: 1, terms };
        let run = submit::create(self.coordinator.store().as_ref(), &spec).await.map_err(refused)?;
        tracing::info!(run = %run.id, recipe = run.recipe_hash, "run created or continued");
        Ok(Response::new(self.describe(run).await?))
    }

    async fn add_rows(&self, request: Request<v1::AddRowsRequest>) -> Answer<v1::AddRowsReply> {
        let v1::AddRowsRequest { run, candidates, rows } = request.into_inner();
        let run = run_id(&run)?;
        if rows.len() > MAX_ROWS || !(1..=MAX_CANDIDATES).contains(&candidates) {
            return Err(Status::invalid_argument(format!(
                "want at most {MAX_ROWS} rows and 1 to {MAX_CANDIDATES} candidates in one call"
            )));
        }
        let rows = rows.into_iter().map(row).collect::<Result<Vec<_>, Status>>()?;
        let submitted =
            submit::add_rows(self.coordinator.store().as_ref(), &run, candidates, rows, self.coordinator.archive())
                .await;
        let submitted = self.coordinator.note_submit(submitted).map_err(refused)?;
        self.coordinator.wake(submitted.inserted as usize);
        Ok(Response::new(v1::AddRowsReply { inserted: submitted.inserted, existing: submitted.existing }))
    }

    async fn list_runs(&self, _: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsReply> {
        let mut runs = Vec::new();
        for run in self.coordinator.store().runs().await.map_err(status)? {
            let mut run = self.describe(run).await?;
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
        let told =
            status_summary(self.coordinator.run_stats(), self.coordinator.store(), &run).await.map_err(status)?;
        Ok(Response::new(v1::Figures { json: told.to_string() }))
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
                documents.push(wire_document(&record));
                continue;
            }
            let seq = record.seq;
            let document = self.whole(record).await?;
            bytes += document.body.len() + document.attempts.iter().map(String::len).sum::<usize>();
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
        let mut document = self.whole(record).await?;
        let told = document.body.len() + document.attempts.iter().map(String::len).sum::<usize>();
        let (history, left_out) = latest(&history, PAGE_BYTES.saturating_sub(told))?;
        document.history = history;
        document.left_out += left_out;
        Ok(Response::new(document))
    }

    async fn requeue(&self, request: Request<v1::RequeueRequest>) -> Answer<v1::RequeueReply> {
        let who = who(&request);
        let v1::RequeueRequest { run, which, from_section, only, dry_run, after } = request.into_inner();
        let run = run_id(&run)?;
        let which = match which.ok_or(WireError::Missing("which"))? {
            v1::requeue_request::Which::Failed(_) => Which::Failed,
            v1::requeue_request::Which::Rejected(rule) => Which::Rejected { rule },
            v1::requeue_request::Which::Document(id) => Which::One(document_id(&id)?),
        };
        let extent = match (from_section.map(|section| (section as usize).checked_sub(1)), only) {
            (Some(Some(index)), true) => Extent::Only(index),
            (Some(Some(index)), false) => Extent::From(index),
            (None, false) => Extent::AsNeeded,
            (Some(None), _) => return Err(Status::invalid_argument("sections are counted from 1")),
            (None, true) => return Err(Status::invalid_argument("`only` needs the section that it means")),
        };
        let done = self.coordinator.requeue(&who, &run, &which, extent, after, dry_run).await.map_err(status)?;
        if let (Which::One(id), Some((_, reason))) = (&which, done.skipped.first()) {
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
        let who = who(&request);
        let v1::CancelRequest { run, document } = request.into_inner();
        let run = run_id(&run)?;
        if document.is_empty() {
            self.run(&run).await?;
            let (documents, more) = self.coordinator.cancel_page(&who, &run).await.map_err(status)?;
            return Ok(Response::new(v1::CancelReply { documents, more }));
        }
        let id = document_id(&document)?;
        self.coordinator
            .cancel(&who, &run, id)
            .await
            .map_err(status)?
            .map_err(|reason| Status::failed_precondition(format!("document {id} cannot be cancelled: {reason}")))?;
        Ok(Response::new(v1::CancelReply { documents: 1, more: false }))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Answer<v1::Run> {
        let who = who(&request);
        let v1::PauseRequest { run, paused } = request.into_inner();
        let run = self.coordinator.pause(&who, &run_id(&run)?, paused).await.map_err(status)?;
        Ok(Response::new(self.describe(run).await?))
    }
}

impl Coordinator {
    /// Refuses a worker that could only wait for ever: every run that is not at its end asks for another model.
    pub(super) async fn expect_work(&self, model: &str, weights_hash: &str) -> Result<(), Status> {
        let mut wanted = Vec::new();
        for run in self.store().runs().await.map_err(status)? {
            if self.store().counts(&run.id).await.map_err(status)?.unfinished() > 0 {
                if run.terms.fits(model, weights_hash) {
                    return Ok(());
                }
                wanted.push(format!("run {} asks for model {}", run.id, run.terms.model));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "{}, and this worker has {model} (weights {weights_hash}): start the worker with that model, or submit a run \
             without --require-model",
            wanted.join("; ")
        )))
    }

    fn note_submit<T>(&self, result: Result<T, SubmitError>) -> Result<T, SubmitError> {
        match result {
            Err(SubmitError::Store(error)) => self.note(Err(error)).map_err(SubmitError::Store),
            other => other,
        }
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
    Status::invalid_argument(format!("{error}; want one of {words}"))
}

fn refused(error: SubmitError) -> Status {
    match error {
        SubmitError::Store(error) => status(error),
        SubmitError::Differs { .. } | SubmitError::Paused(_) => Status::failed_precondition(error.to_string()),
        // The caller asks again: what was added stays, and the archive may be back.
        SubmitError::Archive(error) => Status::unavailable(error.to_string()),
        SubmitError::Document { .. } => Status::invalid_argument(error.to_string()),
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Status> {
    serde_json::to_string(value).map_err(|error| Status::internal(format!("cannot be written as JSON: {error}")))
}

/// The last of these as JSON, as many as there is room for, in their order; and how many are left out.
fn latest<T: serde::Serialize>(entries: &[T], mut room: usize) -> Result<(Vec<String>, u32), Status> {
    let mut told = Vec::new();
    for entry in entries.iter().rev() {
        let entry = json(entry)?;
        let Some(left) = room.checked_sub(entry.len()) else { break };
        room = left;
        told.push(entry);
    }
    told.reverse();
    let left_out = (entries.len() - told.len()) as u32;
    Ok((told, left_out))
}

fn row(row: v1::Row) -> Result<Result<Instruction, BadRow>, Status> {
    match row.kind.ok_or(WireError::Missing("row.kind"))? {
        v1::row::Kind::Instruction(json) => serde_json::from_str(&json)
            .map(Ok)
            .map_err(|error| Status::invalid_argument(format!("field `row.instruction` is none: {error}"))),
        v1::row::Kind::Bad(v1::BadRow { file, line, key, problem, remedy, content_hash }) => {
            Ok(Err(BadRow { file: file.into(), line, key, problem, remedy, content_hash }))
        }
    }
}

fn wire_run(run: Run, counts: Counts) -> v1::Run {
    let Run { id, recipe, recipe_hash, seed, created_ms, terms, paused } = run;
    let Terms { priority, model, judge, max_open } = terms;
    let Counts { ready, leased, delayed, accepted, rejected, failed, cancelled } = counts;
    v1::Run {
        id: id.into(),
        recipe,
        recipe_hash,
        seed,
        created_ms,
        terms: Some(v1::Terms { priority, model, max_open, judge }),
        paused,
        counts: Some(v1::Counts { ready, leased, delayed, accepted, rejected, failed, cancelled }),
    }
}

/// The envelope, and of the body what a listing shows. Lease ids stay here: whoever knows one may complete.
fn wire_document(record: &Record) -> v1::Document {
    let document: Option<Document> = serde_json::from_str(&record.body).ok();
    let sections = document.as_ref().map_or(&[][..], Document::sections);
    v1::Document {
        id: record.id.to_string(),
        run: record.run.to_string(),
        state: record.state.as_str().into(),
        reason: record.reason.clone(),
        version: record.version,
        seq: record.seq,
        errors: record.counters.errors,
        losses: record.counters.losses,
        releases: record.counters.releases,
        worker: record.lease.as_ref().map(|lease| lease.worker.to_string()).unwrap_or_default(),
        checkpoint_tokens: record.checkpoint.as_ref().map_or(0, |it| it.tokens.len() as u32),
        flushed: record.flushed,
        open: record.open,
        due_ms: record.due_ms,
        body: String::new(),
        attempts: Vec::new(),
        history: Vec::new(),
        left_out: 0,
        instruction_id: document.as_ref().and_then(|it| it.instruction.id.clone()).unwrap_or_default(),
        sections: sections.len() as u32,
        steps: document.as_ref().and_then(Document::plan).map_or(0, |plan| plan.steps.len() as u32),
        words: sections.iter().map(|section| u64::from(section.words)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_too_much_for_one_answer_the_latest_is_told() {
        let entries = ["first", "second", "third"];
        let told = |room| latest(&entries, room).unwrap();
        assert_eq!(told(16), (vec![r#""second""#.to_owned(), r#""third""#.to_owned()], 1));
        assert_eq!(told(6), (Vec::new(), 3));
        assert_eq!(told(100).1, 0);
    }
}
