//! The end of an attempt: a result or a release, written to the store in one atomic step.

use longhand_proto::task::{Checkpoint, Lease};
use longhand_proto::{LeaseId, WorkerId, clock};
use serde_json::{Value, json};

use super::apply_result::{AppliedResult, Report};
use super::coordinator::Coordinator;
use super::render::read;
use super::worker_health::WorkerKey;
use crate::control::cancel;
use crate::control::metrics::{AttemptCost, Stopwatch};
use crate::control::trace::AttemptSpan;
use crate::domain::state::State;
use crate::lifecycle::Outcome;
use crate::store::{AttemptEnd, Commit, Committed, Counters, LeaseGrant, Lookup, Next, Record, Result};

/// The answer to a report.
#[derive(Debug)]
pub(super) enum Completed {
    /// The result is stored. With the lease of the document's next task, if the worker gets it.
    Recorded(Option<Box<Lease>>),
    /// The lease is not live: the result was discarded.
    Stale,
    /// The same, because the run or the document was cancelled.
    Cancelled,
}

impl Coordinator {
    /// Records the result of an attempt. Idempotent: a repeated report gets the answer of the first.
    ///
    /// # Errors
    /// The store failed, or the run's recipe cannot be read.
    pub(super) async fn complete(&self, report: Report) -> Result<Completed> {
        let generated = match &report.outcome {
            Outcome::Written { output, .. } => output.usage.generated,
            Outcome::Error(_) => 0,
        };
        let (worker, lease) = (report.worker.worker.clone(), report.lease);
        // From the call: without a live lease there is no document to take it from.
        let trace_id = longhand_proto::trace::id_of(&report.traceparent);
        let found = match self.inner.recent_leases.take(lease) {
            Some(record) => Lookup::Live(Box::new(record)),
            None => self.inner.store.lookup(lease).await?,
        };
        let completed = match found {
            // A worker may complete its own leases only.
            Lookup::Live(record) if !is_held_by(&record, &worker) => Completed::Stale,
            Lookup::Live(record) => {
                if matches!(report.outcome, Outcome::Written { .. }) || self.is_charged(&report.worker).await {
                    self.record(*record, report).await?
                } else if self.release(&worker, lease, None, report.cost, 0).await? {
                    // The document goes to another worker, and is charged nothing.
                    Completed::Recorded(None)
                } else {
                    Completed::Stale
                }
            }
            Lookup::Committed(record) if record.state == State::Cancelled => Completed::Cancelled,
            Lookup::Committed(_) => self.repeat(lease).await?,
            Lookup::Stale => Completed::Stale,
        };
        if matches!(completed, Completed::Stale) {
            self.metrics().stale(generated);
            tracing::info!(%worker, %lease, trace_id, "result discarded: its lease is no longer live");
        }
        Ok(completed)
    }

    /// Counts a failure; false if the document is not to be charged with it.
    async fn is_charged(&self, worker: &WorkerKey) -> bool {
        let health = &self.inner.worker_health;
        if health.wants_reports(clock::now()) {
            let workers = self.inner.store.workers().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "the workers of other replicas are not known");
                Vec::new()
            });
            health.note_reports(&workers, 2 * self.inner.options.lease, clock::now());
        }
        health.failed(worker, clock::now())
    }

    async fn record(&self, record: Record, report: Report) -> Result<Completed> {
        let (worker, lease) = (report.worker.clone(), report.lease);
        let AppliedResult { commit, cost, span } = match read(&record) {
            Ok(document) => self.apply_result(&record, document, report).await?,
            Err(failure) => {
                let next = Next::End { state: State::Failed, reason: failure.class.clone() };
                let detail = json!({ "error": failure });
                let commit = Commit { lease, body: None, checkpoint: None, next, detail, ttl_ms: 0 };
                let cost = AttemptCost { error: Some(failure.class), ..AttemptCost::default() };
                AppliedResult { commit, cost, span: None }
            }
        };
        let stopwatch = Stopwatch::start();
        let committed = self.track_health(self.inner.store.commit(&commit).await)?;
        if matches!(committed, Committed::Done(_)) {
            self.metrics().committed(stopwatch.elapsed(), &commit.next, &cost);
            // A text that was not taken proves nothing of its worker, nor does one for a lease that is none.
            if cost.error.is_none() && cost.rejected.is_none() {
                self.inner.worker_health.finished(&worker, clock::now());
            }
            if let Some(span) = span {
                span.committed(cost.end(&commit.next), end_of(&commit.next));
            }
        }
        match committed {
            Committed::Stale => Ok(Completed::Stale),
            Committed::Cancelling => {
                self.cancel_reported(record, commit.detail).await?;
                Ok(Completed::Cancelled)
            }
            Committed::Repeated(_) => self.repeat(lease).await,
            Committed::Done(None) => {
                self.wake(usize::from(matches!(commit.next, Next::Continue { .. } | Next::Judge { .. })));
                Ok(Completed::Recorded(None))
            }
            Committed::Done(Some(grant)) => self.continue_with(record, commit, grant).await,
        }
    }

    /// The answer with the document's next task, for the worker that committed the last one. It is made of what was just
    /// written: the store need not be read.
    async fn continue_with(&self, record: Record, commit: Commit, grant: LeaseGrant) -> Result<Completed> {
        self.notify_change();
        let body = commit.body.unwrap_or_default();
        let counters = Counters { releases: record.counters.releases, ..Counters::default() };
        let judge = matches!(commit.next, Next::Judge { .. });
        let next = Record { lease: Some(grant), judge, body, checkpoint: None, counters, ..record };
        self.inner.recent_leases.insert(&next);
        Ok(Completed::Recorded(self.render(next).await?.map(Box::new)))
    }

    /// Answers a repeated call: the same outcome, with the same next lease while that is live.
    async fn repeat(&self, lease: LeaseId) -> Result<Completed> {
        // Changes nothing, as this lease is no longer live. The store answers with what it remembers of the first call.
        let probe = Commit { lease, body: None, checkpoint: None, next: Next::Release, detail: json!({}), ttl_ms: 0 };
        match self.inner.store.commit(&probe).await? {
            Committed::Repeated(Some(grant)) => match self.inner.store.lookup(grant.id).await? {
                Lookup::Live(record) => Ok(Completed::Recorded(self.render(*record).await?.map(Box::new))),
                Lookup::Committed(_) | Lookup::Stale => Ok(Completed::Recorded(None)),
            },
            // Another call may have ended the document under this lease.
            Committed::Repeated(None) => match self.inner.store.lookup(lease).await? {
                Lookup::Committed(record) if record.state == State::Cancelled => Ok(Completed::Cancelled),
                Lookup::Committed(_) | Lookup::Live(_) | Lookup::Stale => Ok(Completed::Recorded(None)),
            },
            Committed::Done(_) => Ok(Completed::Recorded(None)),
            Committed::Stale | Committed::Cancelling => Ok(Completed::Stale),
        }
    }

    /// Ends a document whose run is being cancelled, with what its worker reported of the attempt.
    async fn cancel_reported(&self, record: Record, mut detail: Value) -> Result<()> {
        detail["revoked"] = json!(State::Cancelled);
        let generated = detail.pointer("/usage/generated").and_then(Value::as_u64).unwrap_or(0);
        let kind = read(&record).ok().map(|document| document.current().0);
        if let Err(reason) = cancel::end(self.store().as_ref(), record, Some(detail)).await? {
            tracing::warn!(reason, "a document of a run that is being cancelled has not ended yet");
        }
        self.metrics().cancelled(kind, generated);
        self.notify_change();
        Ok(())
    }

    /// Returns a lease unfinished, without counting an error. False if the lease is not live. `generated` counts if the run is
    /// being cancelled: the tokens of the unfinished text.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn release(
        &self,
        worker: &WorkerId,
        lease: LeaseId,
        checkpoint: Option<Checkpoint>,
        cost: f64,
        generated: u32,
    ) -> Result<bool> {
        let (mut kind, mut span) = (None, None);
        let found = self.inner.store.lookup(lease).await?;
        let mut detail = match &found {
            Lookup::Live(record) if !is_held_by(record, worker) => return Ok(false),
            Lookup::Live(record) => match read(record) {
                Ok(document) => {
                    let (task, section) = document.current();
                    kind = Some(task);
                    if let Some(grant) = &record.lease {
                        span = AttemptSpan::of(self.store().as_ref(), record.counters, grant, &document).await?;
                    }
                    let attempt = document.failed_tries() + 1 + record.counters.losses;
                    json!({ "kind": task, "section": section, "attempt": attempt })
                }
                Err(failure) => json!({ "error": failure }),
            },
            Lookup::Committed(_) => json!({}),
            Lookup::Stale => return Ok(false),
        };
        if cost > 0.0 {
            detail["cost"] = json!(cost);
        }
        let commit = Commit { lease, body: None, checkpoint, next: Next::Release, detail, ttl_ms: 0 };
        match self.track_health(self.inner.store.commit(&commit).await)? {
            Committed::Done(_) => {
                tracing::debug!(%worker, %lease, "lease released");
                self.metrics().attempt(kind, AttemptEnd::Released);
                if let Some(span) = span {
                    span.released("released", State::Ready);
                }
                self.wake(1);
                Ok(true)
            }
            Committed::Repeated(_) => Ok(true),
            Committed::Cancelling => {
                if let Lookup::Live(record) = found {
                    let mut detail = commit.detail;
                    detail["usage"] = json!({ "generated": generated });
                    self.cancel_reported(*record, detail).await?;
                }
                Ok(true)
            }
            Committed::Stale => Ok(false),
        }
    }
}

fn is_held_by(record: &Record, worker: &WorkerId) -> bool {
    record.lease.as_ref().is_some_and(|lease| lease.worker == *worker)
}

/// State and reason of the document, if it ended.
fn end_of(next: &Next) -> Option<(State, &str)> {
    match next {
        Next::End { state, reason } => Some((*state, reason)),
        Next::Continue { .. } | Next::Judge { .. } | Next::Retry { .. } | Next::Release => None,
    }
}
