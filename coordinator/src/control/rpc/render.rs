//! Makes the task of a stored document. A document of which no task can be made is ended with the reason: it must not
//! block others, nor be leased for ever.

use longhand_proto::task::{Failure, Lease, Task};
use longhand_proto::trace::Context;
use longhand_proto::{LeaseId, MAX_MESSAGE_BYTES};
use serde_json::{Value, json};

use super::coordinator::Coordinator;
use crate::control::trace::AttemptSpan;
use crate::domain::document::Document;
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::{Outcome, Transition};
use crate::store::{AttemptEnd, Commit, Next, Record, Result, StoreError};

/// Most bytes of leases in one reply. Half of a message, as sizes are estimates.
pub(super) const MAX_REPLY_BYTES: usize = MAX_MESSAGE_BYTES / 2;

impl Coordinator {
    /// The lease of a record that was just leased; none if the document turned out to have no task.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn render(&self, record: Record) -> Result<Option<Lease>> {
        let Some(grant) = record.lease.clone() else {
            return Err(StoreError::Other(format!("document {} was leased without a lease", record.id)));
        };
        let context = match self.run_context(&record.run).await {
            Ok(context) => context,
            Err(error @ (StoreError::Refused(_) | StoreError::NotFound { .. })) => {
                tracing::error!(run = %record.run, %error, "the recipe of a run cannot be read: no document of it is leased here");
                self.inner.refusals.recipe(record.run.clone(), error.to_string());
                // Another replica may read it.
                self.end_attempt(grant.id, None, Next::Release, json!({ "error": error.to_string() })).await?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let document = match read(&record) {
            Ok(document) => document,
            Err(failure) => {
                tracing::error!(run = %record.run, document = %record.id, error = failure.message, "document cannot be read");
                let next = Next::End { state: State::Failed, reason: failure.class.clone() };
                self.end_attempt(grant.id, None, next, json!({ "error": failure })).await?;
                return Ok(None);
            }
        };
        let mut task = match document.next_task(&context.recipe).map_err(Failure::from) {
            Ok(Some(task)) => task,
            // The body has ended and the envelope has not: the body is right.
            Ok(None) => {
                if let Some((state, reason)) = document.ended() {
                    self.end_attempt(grant.id, None, Next::End { state, reason }, json!({})).await?;
                }
                return Ok(None);
            }
            Err(failure) => {
                tracing::error!(
                    run = %record.run, document = %record.id, trace_id = document.trace_id(), error = failure.message,
                    "prompt cannot be rendered"
                );
                self.fail(&record, grant.id, &context.recipe, document, failure).await?;
                return Ok(None);
            }
        };
        if let Some(failure) = too_large(&task) {
            self.fail(&record, grant.id, &context.recipe, document, failure).await?;
            return Ok(None);
        }
        task.attempt += record.counters.losses;
        if let Some(context) = Context::parse(&task.traceparent) {
            task.traceparent = context.attempt(grant.id).to_string();
        }
        let ttl_ms = grant.expires_ms.saturating_sub(grant.granted_ms);
        Ok(Some(Lease { id: grant.id, ttl_ms, task, checkpoint: record.checkpoint }))
    }

    /// Fails a document permanently whose task cannot be sent to any worker.
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
        let content = self.inner.options.trace_content;
        let span = AttemptSpan::of_result(self.store().as_ref(), record, &document, recipe, &outcome, content).await?;
        if let Transition::Ended { state, reason } = document.apply(recipe, outcome) {
            if let Some(span) = &span {
                document.traceparent = span.traceparent();
            }
            let next = Next::End { state, reason: reason.clone() };
            self.end_attempt(lease, Some(write(&document)?), next, detail).await?;
            if let Some(span) = span {
                span.committed(AttemptEnd::Error, Some((state, &reason)));
            }
        }
        Ok(())
    }

    /// Ends an attempt that no worker received.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn end_attempt(
        &self,
        lease: LeaseId,
        body: Option<String>,
        next: Next,
        detail: Value,
    ) -> Result<()> {
        let commit = Commit { lease, body, checkpoint: None, next, detail, ttl_ms: 0 };
        self.track_health(self.inner.store.commit(&commit).await)?;
        self.notify_change();
        Ok(())
    }
}

/// Approximate bytes of a lease in a reply.
pub(super) fn lease_bytes(lease: &Lease) -> usize {
    prompt_bytes(&lease.task) + lease.checkpoint.as_ref().map_or(0, |checkpoint| 5 * checkpoint.tokens.len())
}

fn prompt_bytes(task: &Task) -> usize {
    task.messages.iter().map(|message| message.content.len()).sum()
}

/// A prompt that does not fit into a message would fail every call that leases it, and every worker with it.
fn too_large(task: &Task) -> Option<Failure> {
    let bytes = prompt_bytes(task);
    (bytes > MAX_REPLY_BYTES).then(|| Failure {
        class: "prompt_too_large".into(),
        message: format!(
            "the prompt has {bytes} bytes, and at most {MAX_REPLY_BYTES} can be sent to a worker; shorten the \
             instruction, its context or the template"
        ),
        permanent: true,
    })
}

/// The document of a record; the failure to record if this version cannot read it.
pub(super) fn read(record: &Record) -> Result<Document, Failure> {
    record.document().map_err(|error| Failure {
        class: "unreadable_document".into(),
        message: error.to_string(),
        permanent: true,
    })
}

/// The body of a record.
pub(super) fn write(document: &Document) -> Result<String> {
    serde_json::to_string(document)
        .map_err(|error| StoreError::Other(format!("document {} cannot be written: {error}", document.id)))
}
