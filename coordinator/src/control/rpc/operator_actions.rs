//! What operators do, by gRPC or on the dashboard: done, counted, announced to waiting workers, and written to the audit
//! log with name and time.

use std::time::Duration;

use longhand_proto::number::plural;
use longhand_proto::task::WorkerStatus;
use longhand_proto::{DocumentId, RunId, WorkerId};
use tokio::time::Instant;

use super::auth::Principal;
use super::coordinator::Coordinator;
use crate::control::admin::{self, Requeued, RewriteScope, Selector};
use crate::control::cancel;
use crate::domain::document::Document;
use crate::store::{Action, ActionKind, EndedDocument, Result, Run, StoreError};

/// How long a call that cancels a run ends documents itself. A small run is then done when it returns.
const CANCEL_INLINE: Duration = Duration::from_millis(250);
/// Documents that one call deletes.
const DELETE_PAGE: u32 = 256;

impl Coordinator {
    /// Pauses or resumes a run; returns it as it is now.
    ///
    /// # Errors
    /// There is no such run, or the store failed.
    pub(crate) async fn pause(&self, who: &Principal, run: &RunId, paused: bool) -> Result<Run> {
        let run = self.store().pause(run, paused).await?;
        let kind = if paused { ActionKind::Pause } else { ActionKind::Resume };
        self.append_audit(who, Some(&run.id), kind, 0, String::new()).await;
        let waiting = self.store().counts(&run.id).await?.ready;
        self.wake(waiting as usize);
        Ok(run)
    }

    /// Cancels a document. The inner error says why it cannot be cancelled.
    ///
    /// # Errors
    /// There is no such document, or the store failed.
    pub(crate) async fn cancel(&self, who: &Principal, run: &RunId, id: DocumentId) -> Result<Result<(), String>> {
        if let Err(reason) = cancel::cancel(self.store().as_ref(), run, id).await? {
            return Ok(Err(reason));
        }
        self.append_audit(who, Some(run), ActionKind::Cancel, 1, id.to_string()).await;
        self.notify_change();
        Ok(Ok(()))
    }

    /// Cancels a run: once this returns, nothing of it is leased and no result of it is accepted. Documents are ended for a moment
    /// here, and then by the sweeper. Returns how many were ended, and how many are left.
    ///
    /// # Errors
    /// There is no such run, or the store failed.
    pub(crate) async fn cancel_run(&self, who: &Principal, run: &RunId) -> Result<(u64, u64)> {
        let store = self.store();
        let before = store.run(run).await?.is_some_and(|run| run.cancelling);
        store.cancel(run).await?;
        let unfinished = store.counts(run).await?.unfinished();
        if !before && unfinished > 0 {
            self.append_audit(who, Some(run), ActionKind::Cancel, unfinished, "all unfinished".into()).await;
        }
        self.notify_change();
        self.end_cancelled(run, Some(Instant::now() + CANCEL_INLINE)).await?;
        let remaining = store.counts(run).await?.unfinished();
        if remaining > 0 {
            self.request_sweep();
        }
        // Workers end some, too.
        Ok((unfinished.saturating_sub(remaining), remaining))
    }

    /// Ends documents of a run that is being cancelled, all that can be or until a time. Leased ones are left for half a lease, in
    /// which their workers hear of it and say how much they wrote.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn end_cancelled(&self, run: &RunId, until: Option<Instant>) -> Result<()> {
        loop {
            let ended = cancel::cancel_page(self.store().as_ref(), run, self.lease_ms() / 2).await?;
            self.notify_change();
            if ended == 0 || until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        if self.store().finish_cancel(run).await? {
            tracing::info!(%run, "all documents of the cancelled run have ended");
        }
        Ok(())
    }

    /// See [`admin::requeue`].
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn requeue(
        &self,
        who: &Principal,
        run: &RunId,
        selector: &Selector,
        scope: RewriteScope,
        after: Option<u64>,
        dry_run: bool,
    ) -> Result<Requeued> {
        let done = admin::requeue(self.store().as_ref(), run, selector, scope, after, dry_run).await?;
        if !dry_run && done.documents > 0 {
            self.append_audit(who, Some(run), ActionKind::Requeue, done.documents, selector.to_string()).await;
            self.metrics().requeued(done.documents);
            self.wake(done.documents as usize);
        }
        Ok(done)
    }

    /// Deletes a page of a run whose documents have ended; true while some are left. Accepted documents that no archive holds are
    /// deleted only with `discard`. The inner error says why the run is not deleted.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn delete_run(&self, who: &Principal, run: &RunId, discard: bool) -> Result<Result<bool, String>> {
        let store = self.store();
        let unfinished = match store.counts(run).await {
            Ok(counts) => counts.unfinished(),
            // Deleted before, as after a lost reply.
            Err(StoreError::NotFound { .. }) if self.is_deleted(run) => return Ok(Ok(false)),
            Err(error) => return Err(error),
        };
        if unfinished > 0 {
            return Ok(Err(format!(
                "{} not ended yet; run `longhand cancel {run}` first",
                plural(unfinished, "document")
            )));
        }
        if !discard && !store.unflushed(run, 1).await?.is_empty() {
            return Ok(Err(
                "accepted documents of it are in no archive; export it and name the folder with --exported, or \
                           add --discard"
                    .into(),
            ));
        }
        self.note_deleted(run.clone());
        let more = store.delete_run(run, DELETE_PAGE).await?;
        if !more {
            tracing::info!(%run, %who, "run deleted");
            self.forget(run);
            self.notify_change();
        }
        Ok(Ok(more))
    }

    /// Creates an archived run unless it exists, and adds documents to it; returns how many were added. The inner error says why
    /// not.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn load_run(
        &self,
        who: &Principal,
        run: &Run,
        documents: &[EndedDocument],
    ) -> Result<Result<u64, String>> {
        let stored = self.store().create_run(run).await?;
        if (stored.created_ms, &stored.recipe_hash, stored.seed) != (run.created_ms, &run.recipe_hash, run.seed) {
            return Ok(Err(format!("another run {} exists: delete or archive it first", run.id)));
        }
        let foreign = documents.iter().find(|document| {
            let parsed = serde_json::from_str::<Document>(&document.body);
            !document.state.is_terminal() || parsed.is_ok_and(|parsed| parsed.id != document.id)
        });
        if let Some(document) = foreign {
            return Ok(Err(format!("document {} is not one that ended", document.id)));
        }
        let loaded = self.store().load(&run.id, documents).await?;
        tracing::info!(run = %run.id, %who, loaded, "archived documents restored");
        self.forget(&run.id);
        self.notify_change();
        Ok(Ok(loaded))
    }

    /// Asks a worker to hand back its leases and exit. It learns of it with its next heartbeat.
    ///
    /// # Errors
    /// There is no such worker, or the store failed.
    pub(crate) async fn drain(&self, who: &Principal, worker: &WorkerId) -> Result<()> {
        self.store().drain(worker).await?;
        self.append_audit(who, None, ActionKind::Drain, 0, worker.to_string()).await;
        self.notify_change();
        Ok(())
    }

    /// Stores a worker's status; true if the worker is asked to drain. A failure is logged only: it must not cost the
    /// worker its leases.
    pub(super) async fn record_heartbeat(&self, worker: &WorkerId, status: &WorkerStatus) -> bool {
        self.store().heartbeat(worker, status).await.unwrap_or_else(|error| {
            tracing::warn!(%worker, %error, "the status of a worker could not be stored");
            false
        })
    }

    /// Appends an action to the audit log. The action is done: a failure to log it is no failure of the action.
    async fn append_audit(
        &self,
        who: &Principal,
        run: Option<&RunId>,
        what: ActionKind,
        documents: u64,
        about: String,
    ) {
        let run_name = run.map_or("", RunId::as_str);
        tracing::info!(run = run_name, %who, ?what, documents, about, "operator action");
        let appended = async {
            let action = Action { at_ms: self.store().now_ms().await?, who: who.to_string(), what, documents, about };
            self.store().append_audit(run, &action).await
        };
        if let Err(error) = appended.await {
            tracing::error!(run = run_name, %error, "an operator action is missing in the audit log");
        }
    }
}
