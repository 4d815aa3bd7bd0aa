//! Handing out documents: a long poll that costs nothing while there is no work.

use std::time::Duration;

use longhand_proto::chance;
use longhand_proto::task::{Lease, TaskKind};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Coordinator;
use super::render::{ANSWER_BYTES, bytes};
use crate::control::metrics::Watch;
use crate::store::{LeaseQuery, Next, Result};

/// Why a document goes back that was leased and not sent.
const NO_ROOM: &str = "the answer had no room for its prompt";
/// Wait before a document is looked at again whose next task the worker does not know: others get it meanwhile.
const FOREIGN_TASK_MS: u64 = 10_000;

impl Coordinator {
    /// Leases as soon as anything is ready, or nothing after `wait` or when `closing` is cancelled. The worker knows tasks
    /// of these kinds.
    pub(super) async fn lease(
        &self,
        query: &LeaseQuery,
        kinds: &[TaskKind],
        wait: Duration,
        closing: &CancellationToken,
    ) -> Result<Vec<Lease>> {
        if let Some(leases) = self.lease_now(query, kinds).await? {
            return Ok(leases);
        }
        if query.slots == 0 || wait.is_zero() {
            return Ok(Vec::new());
        }
        // A lease counts from before its request was sent: a wait must not eat most of it.
        let until = Instant::now() + wait.min(self.inner.options.max_wait).min(self.inner.options.lease / 3);
        let turn = closing.run_until_cancelled(timeout_at(until, self.inner.turn.lock())).await;
        let Some(Ok(_turn)) = turn else { return Ok(Vec::new()) };
        loop {
            if let Some(leases) = self.lease_now(query, kinds).await? {
                return Ok(leases);
            }
            let look = Instant::now() + chance::around(self.inner.options.poll);
            tokio::select! {
                biased;
                () = closing.cancelled() => return Ok(Vec::new()),
                () = self.inner.ready.notified() => {}
                () = sleep_until(look.min(until)) => {}
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
        }
    }

    /// One look at the store; none if nothing was ready. The answer is empty where all that was leased turned out to
    /// have no task: the request has had its leases, and only another one can get more.
    async fn lease_now(&self, query: &LeaseQuery, kinds: &[TaskKind]) -> Result<Option<Vec<Lease>>> {
        let watch = Watch::start();
        let records = self.note(self.inner.store.lease(query).await)?;
        self.metrics().leased(watch.took());
        if records.is_empty() {
            return Ok(None);
        }
        let (mut leases, mut room) = (Vec::with_capacity(records.len()), Some(ANSWER_BYTES));
        for record in records {
            let grant = record.lease.as_ref().map(|grant| grant.id);
            let lease = if room.is_some() {
                self.inner.given.keep(&record);
                self.render(record).await?
            } else {
                None
            };
            if let Some(Lease { id, task, .. }) = &lease
                && !kinds.contains(&task.kind)
            {
                let error = format!("worker {} knows no task of kind {}: update it", query.worker, task.kind.as_str());
                let next = Next::Retry { delay_ms: FOREIGN_TASK_MS };
                self.end(*id, None, next, json!({ "error": error })).await?;
                continue;
            }
            room = room.and_then(|room| room.checked_sub(lease.as_ref().map_or(0, bytes)));
            match (room, lease, grant) {
                (Some(_), lease, _) => leases.extend(lease),
                // The first always goes: a prompt that fills more than an answer has failed while it was rendered.
                (None, Some(lease), _) if leases.is_empty() => leases.push(lease),
                (None, _, Some(grant)) => {
                    self.end(grant, None, Next::Release, json!({ "error": NO_ROOM })).await?;
                    self.wake(1);
                }
                (None, _, None) => {}
            }
        }
        self.changed();
        Ok(Some(leases))
    }
}
