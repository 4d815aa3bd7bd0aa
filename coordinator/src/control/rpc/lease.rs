//! Leases documents to workers: a long poll that costs the store nothing while there is no work.

use std::time::Duration;

use longhand_proto::rng;
use longhand_proto::task::{Lease, TaskKind};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::coordinator::Coordinator;
use super::render::{MAX_REPLY_BYTES, lease_bytes};
use crate::control::metrics::Stopwatch;
use crate::control::stall::why_passed_over;
use crate::store::{LeaseQuery, Next, Record, Result};

/// Runs that are named to a worker that finds nothing.
const IDLE_RUNS: usize = 3;
/// Recorded for a document that is released because the reply is full.
const REPLY_FULL: &str = "the reply had no room for its prompt";

impl Coordinator {
    /// Leases as soon as anything is ready; nothing after `wait`, once `closing` is cancelled, or when the caller may no longer
    /// lease. Only tasks of these kinds.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn lease(
        &self,
        query: &LeaseQuery,
        kinds: &[TaskKind],
        wait: Duration,
        closing: &CancellationToken,
        may_lease: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<Lease>> {
        if let Some(leases) = self.try_lease(query, kinds).await? {
            return Ok(leases);
        }
        if query.slots == 0 || wait.is_zero() {
            return Ok(Vec::new());
        }
        // Workers count a lease's time from before they sent the request: the wait must not use up most of it.
        let until = Instant::now() + wait.min(self.inner.options.max_wait).min(self.inner.options.lease / 3);
        let queue = self.inner.waiting.queue(query, kinds);
        let lock = closing.run_until_cancelled(timeout_at(until, queue.poll_lock.lock())).await;
        let Some(Ok(_lock)) = lock else { return Ok(Vec::new()) };
        while may_lease() {
            if let Some(leases) = self.try_lease(query, kinds).await? {
                return Ok(leases);
            }
            let next_poll = Instant::now() + rng::around(self.inner.options.poll);
            tokio::select! {
                biased;
                () = closing.cancelled() => return Ok(Vec::new()),
                () = queue.ready.notified() => {}
                () = sleep_until(next_poll.min(until)) => {}
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Why a request found nothing, in one line.
    ///
    /// # Errors
    /// The store failed.
    pub(super) async fn why_idle(&self, query: &LeaseQuery) -> Result<String> {
        let runs = self.inner.store.active_runs().await?;
        let mut reasons = Vec::new();
        // Those that may be asked first are named; a worker reads one line.
        for run in runs.iter().take(IDLE_RUNS) {
            let counts = self.inner.store.counts(&run.id).await?;
            reasons.extend(why_passed_over(run, &counts, &query.model, &query.weights_hash));
        }
        if runs.len() > IDLE_RUNS {
            reasons.push(format!("and {} more runs", runs.len() - IDLE_RUNS));
        }
        Ok(if reasons.is_empty() { "no run has work".to_owned() } else { reasons.join("; ") })
    }

    /// One query of the store; none if nothing was ready. The result may be empty if no leased document turned out to
    /// have a task: the request is answered all the same, as its request id cannot get other leases.
    async fn try_lease(&self, query: &LeaseQuery, kinds: &[TaskKind]) -> Result<Option<Vec<Lease>>> {
        let stopwatch = Stopwatch::start();
        let query = &LeaseQuery { except: self.inner.refusals.of(kinds), ..query.clone() };
        let records = self.track_health(self.inner.store.lease(query).await)?;
        self.metrics().leased(stopwatch.elapsed());
        if records.is_empty() {
            return Ok(None);
        }
        let (mut leases, mut room) = (Vec::with_capacity(records.len()), Some(MAX_REPLY_BYTES));
        for record in records {
            let grant = record.lease.as_ref().map(|grant| grant.id);
            let lease = match room {
                Some(_) => self.render_leased(record).await?,
                None => None,
            };
            if let Some(Lease { id, task, .. }) = &lease
                && !kinds.contains(&task.kind)
            {
                let kind = task.kind.as_str();
                tracing::warn!(
                    run = %task.run, worker = %query.worker, kind,
                    "the worker does not support a task of the run and gets none of its documents; update the worker"
                );
                self.inner.refusals.task(task.run.clone(), task.kind);
                let detail =
                    json!({ "error": format!("worker {} does not support tasks of kind {kind}", query.worker) });
                self.end_attempt(*id, None, Next::Release, detail).await?;
                self.wake(1);
                continue;
            }
            room = room.and_then(|room| room.checked_sub(lease.as_ref().map_or(0, lease_bytes)));
            match (room, lease, grant) {
                (Some(_), lease, _) => leases.extend(lease),
                // The first one always fits: larger prompts fail when they are rendered.
                (None, Some(lease), _) if leases.is_empty() => leases.push(lease),
                (None, _, Some(grant)) => {
                    self.end_attempt(grant, None, Next::Release, json!({ "error": REPLY_FULL })).await?;
                    self.wake(1);
                }
                (None, _, None) => {}
            }
        }
        self.notify_change();
        Ok(Some(leases))
    }

    async fn render_leased(&self, record: Record) -> Result<Option<Lease>> {
        self.inner.recent_leases.insert(&record);
        self.render(record).await
    }
}
