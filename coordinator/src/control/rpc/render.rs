//! A stored document as a task. One that cannot be turned into a task is ended with its reason: it must not stop the
//! others, nor come back for ever.

use std::sync::Arc;

use longhand_proto::task::{Failure, Lease, Task};
use longhand_proto::trace::Context;
use longhand_proto::{LeaseId, MAX_MESSAGE_BYTES};
use serde_json::{Value, json};

use super::Coordinator;
use super::recipes::Known;
use crate::domain::document::Document;
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::{Applied, Outcome};
use crate::store::{AttemptEnd, Commit, Next, Record, Result, StoreError};

/// Wait before a document is looked at again whose run's recipe this replica cannot read.
const FOREIGN_RECIPE_MS: u64 = 60_000;
/// Most bytes of leases in one answer. Half of what a message may hold: the sizes below are close, not exact.
pub(super) const ANSWER_BYTES: usize = MAX_MESSAGE_BYTES / 2;

impl Coordinator {
    /// The lease of a record that was just leased; none if the document turned out to have no task.
    pub(super) async fn render(&self, record: Record) -> Result<Option<Lease>> {
        let Some(grant) = record.lease.clone() else {
            return Err(StoreError::Other(format!("document {} was leased without a lease", record.id)));
        };
        let recipe = match self.recipe(&record).await {
            Ok(recipe) => recipe,
            Err(error @ (StoreError::Refused(_) | StoreError::NotFound { .. })) => {
                // Another replica may know it; its documents did nothing wrong.
                tracing::error!(run = %record.run, %error, "a run cannot be worked on");
                let next = Next::Retry { delay_ms: FOREIGN_RECIPE_MS };
                self.end(grant.id, None, next, json!({ "error": error.to_string() })).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let document = match read(&record) {
            Ok(document) => document,
            Err(failure) => {
                tracing::error!(run = %record.run, document = %record.id, error = failure.message, "document cannot be read");
                let next = Next::End { state: State::Failed, reason: failure.class.clone() };
                self.end(grant.id, None, next, json!({ "error": failure })).await?;
                return Ok(None);
            }
        };
        let task = match document.next_task(&recipe) {
            Ok(Some(mut task)) => {
                if let Some(failure) = too_large(&task) {
                    self.fail(&record, grant.id, &recipe, document, failure).await?;
                    return Ok(None);
                }
                task.attempt += record.counters.losses;
                if let Some(context) = Context::parse(&task.traceparent) {
                    task.traceparent = context.attempt(grant.id).to_string();
                }
                task
            }
            // The body is at an end and the envelope is not: the body is right.
            Ok(None) => {
                if let Some((state, reason)) = document.ended() {
                    self.end(grant.id, None, Next::End { state, reason }, json!({})).await?;
                }
                return Ok(None);
            }
            Err(error) => {
                let failure = Failure::from(error);
                tracing::error!(
                    run = %record.run, document = %record.id, trace_id = document.trace_id(), error = failure.message,
                    "prompt cannot be rendered"
                );
                self.fail(&record, grant.id, &recipe, document, failure).await?;
                return Ok(None);
            }
        };
        let ttl_ms = grant.expires_ms.saturating_sub(grant.granted_ms);
        Ok(Some(Lease { id: grant.id, ttl_ms, task, checkpoint: record.checkpoint }))
    }

    pub(super) async fn recipe(&self, record: &Record) -> Result<Arc<Recipe>> {
        Ok(Arc::clone(&self.known(record).await?.recipe))
    }

    pub(super) async fn known(&self, record: &Record) -> Result<Arc<Known>> {
        self.inner.recipes.of(self.inner.store.as_ref(), &record.run).await
    }

    /// Ends a document that no worker could be given, for good.
    async fn fail(
        &self,
        record: &Record,
        lease: LeaseId,
        recipe: &Recipe,
        mut document: Document,
        failure: Failure,
    ) -> Result<()> {
        let detail = json!({ "error": failure });
        let outcome = Outcome::Error(failure);
        let trail = self.trail(record, &document, recipe, &outcome).await?;
        if let Applied::Ended { state, reason } = document.apply(recipe, outcome) {
            if let Some(trail) = &trail {
                document.traceparent = trail.traceparent();
            }
            let next = Next::End { state, reason: reason.clone() };
            self.end(lease, Some(write(&document)?), next, detail).await?;
            if let Some(trail) = trail {
                trail.committed(AttemptEnd::Error, Some((state, &reason)));
            }
        }
        Ok(())
    }

    /// Ends an attempt that no worker was given.
    pub(super) async fn end(&self, lease: LeaseId, body: Option<String>, next: Next, detail: Value) -> Result<()> {
        let commit = Commit { lease, body, checkpoint: None, next, detail, ttl_ms: 0 };
        self.note(self.inner.store.commit(&commit).await)?;
        self.changed();
        Ok(())
    }
}

/// About what a lease takes in an answer.
pub(super) fn bytes(lease: &Lease) -> usize {
    prompt_bytes(&lease.task) + lease.checkpoint.as_ref().map_or(0, |checkpoint| 5 * checkpoint.tokens.len())
}

fn prompt_bytes(task: &Task) -> usize {
    task.messages.iter().map(|message| message.content.len()).sum()
}

/// A prompt that no message can carry would fail every call that leases it, and every worker with it.
fn too_large(task: &Task) -> Option<Failure> {
    let bytes = prompt_bytes(task);
    (bytes > ANSWER_BYTES).then(|| Failure {
        class: "prompt_too_large".into(),
        message: format!(
            "the prompt has {bytes} bytes and a worker can be sent {ANSWER_BYTES}: shorten the instruction or its \
             context, or the template"
        ),
        permanent: true,
    })
}

pub(super) fn read(record: &Record) -> Result<Document, Failure> {
    record.document().map_err(|error| Failure {
        class: "unreadable_document".into(),
        message: error.to_string(),
        permanent: true,
    })
}

pub(super) fn write(document: &Document) -> Result<String> {
    serde_json::to_string(document)
        .map_err(|error| StoreError::Other(format!("document {} cannot be written: {error}", document.id)))
}
