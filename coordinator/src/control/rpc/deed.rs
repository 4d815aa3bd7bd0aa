//! What a person does, through whichever port: done, counted, told to workers that wait, and written down with who and when.

use longhand_proto::task::WorkerStatus;
use longhand_proto::{DocumentId, RunId, WorkerId};

use super::{Coordinator, Who};
use crate::control::admin::{self, Extent, Requeued, Which};
use crate::store::{Action, Deed, Result, Run};

impl Coordinator {
    pub(crate) async fn pause(&self, who: &Who, run: &RunId, paused: bool) -> Result<Run> {
        let run = self.store().pause(run, paused).await?;
        let deed = if paused { Deed::Pause } else { Deed::Resume };
        self.write_down(who, Some(&run.id), deed, 0, String::new()).await;
        let waiting = self.store().counts(&run.id).await?.ready;
        self.wake(waiting as usize);
        Ok(run)
    }

    /// The inner error says why this document cannot be ended.
    pub(crate) async fn cancel(&self, who: &Who, run: &RunId, id: DocumentId) -> Result<Result<(), String>> {
        if let Err(reason) = admin::cancel(self.store().as_ref(), run, id).await? {
            return Ok(Err(reason));
        }
        self.write_down(who, Some(run), Deed::Cancel, 1, id.to_string()).await;
        self.changed();
        Ok(Ok(()))
    }

    /// See [`admin::cancel_page`].
    pub(crate) async fn cancel_page(&self, who: &Who, run: &RunId) -> Result<(u64, bool)> {
        let (documents, more) = admin::cancel_page(self.store().as_ref(), run).await?;
        if documents > 0 {
            self.write_down(who, Some(run), Deed::Cancel, documents, "all that had not ended".into()).await;
        }
        self.changed();
        Ok((documents, more))
    }

    /// See [`admin::requeue`].
    pub(crate) async fn requeue(
        &self,
        who: &Who,
        run: &RunId,
        which: &Which,
        extent: Extent,
        after: Option<u64>,
        dry_run: bool,
    ) -> Result<Requeued> {
        let done = admin::requeue(self.store().as_ref(), run, which, extent, after, dry_run).await?;
        if !dry_run && done.documents > 0 {
            self.write_down(who, Some(run), Deed::Requeue, done.documents, about(which)).await;
            self.metrics().requeued(done.documents);
            self.wake(done.documents as usize);
        }
        Ok(done)
    }

    /// Asks a worker to hand its work back and end: it is told when it next speaks.
    pub(crate) async fn drain(&self, who: &Who, worker: &WorkerId) -> Result<()> {
        self.store().drain(worker).await?;
        self.write_down(who, None, Deed::Drain, 0, worker.to_string()).await;
        self.changed();
        Ok(())
    }

    /// Keeps what a worker says of itself; true if it is asked to drain. That it cannot be kept is no reason for the worker
    /// to lose its leases.
    pub(super) async fn heard(&self, worker: &WorkerId, report: &WorkerStatus) -> bool {
        self.store().report(worker, report).await.unwrap_or_else(|error| {
            tracing::warn!(%worker, %error, "what a worker says of itself could not be kept");
            false
        })
    }

    /// It is done by now: a diary that cannot be written is logged, and no error of what was done.
    async fn write_down(&self, who: &Who, run: Option<&RunId>, what: Deed, documents: u64, about: String) {
        let run_name = run.map_or("", RunId::as_str);
        tracing::info!(run = run_name, %who, ?what, documents, about, "done by hand");
        let written = async {
            let action = Action { at_ms: self.store().now_ms().await?, who: who.to_string(), what, documents, about };
            self.store().record(run, &action).await
        };
        if let Err(error) = written.await {
            tracing::error!(run = run_name, %error, "what was done by hand could not be written down");
        }
    }
}

fn about(which: &Which) -> String {
    match which {
        Which::Failed => "all that failed".into(),
        Which::Rejected { rule } => format!("all that {rule} rejected"),
        Which::One(id) => id.to_string(),
        Which::These { words, .. } => words.clone(),
    }
}
