//! The one timer: takes leases away that ran out, or that are renewed without progress.

use std::collections::BTreeSet;
use std::time::Duration;

use longhand_proto::{RunId, chance, clock};
use tokio_util::sync::CancellationToken;

use crate::control::rpc::Coordinator;
use crate::control::trace::Trail;
use crate::domain::document::Document;
use crate::domain::state::State;
use crate::store::{Counters, SweepLimits, Swept};

/// Documents touched in one atomic step: long enough to be cheap, short enough not to hold up calls.
const BATCH: u32 = 128;

#[derive(Debug, Clone)]
pub struct SweeperOptions {
    /// Mean time between sweeps. Replicas need no turn: each sweep re-checks what it takes away.
    pub every: Duration,
    /// Leases of one task that may be lost before the document fails as poison.
    pub max_losses: u32,
    /// Time without a new token after which a renewed lease is taken away too. Longer than the longest prefill.
    pub no_progress: Duration,
    /// Mean time between two comparisons of all indexes with the documents. They are looked at, not repaired.
    pub audit: Duration,
}

impl Default for SweeperOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            max_losses: 3,
            no_progress: Duration::from_secs(600),
            audit: Duration::from_secs(3_600),
        }
    }
}

/// Sweeps until `shutdown` is cancelled. An error is logged and tried again at the next turn: nothing is lost by it.
///
/// The first turn comes after one whole lease, so that workers that outlived the last coordinator find time to renew.
pub async fn run(coordinator: Coordinator, options: SweeperOptions, shutdown: CancellationToken) {
    let mut pause = coordinator.options().lease.max(options.every);
    let mut known = BTreeSet::new();
    let mut audit_at = clock::now() + chance::around(options.audit);
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = chance::around(options.every);
        match sweep(&coordinator, &options).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "leases taken away"),
            Err(error) => tracing::warn!(%error, "sweep failed; will be tried again"),
        }
        if let Err(error) = miss(&coordinator, &mut known).await {
            tracing::debug!(%error, "the runs were not looked at; will be tried again");
        }
        if clock::now() >= audit_at {
            audit_at = clock::now() + chance::around(options.audit);
            if let Err(error) = audit(&coordinator).await {
                tracing::warn!(%error, "audit failed; will be tried again");
            }
        }
    }
}

/// Runs are never taken out of a store. One that was there and is not any more tells that the store was emptied or set
/// back, or is another one: its workers would only hear that their leases are not known.
async fn miss(coordinator: &Coordinator, known: &mut BTreeSet<RunId>) -> crate::store::Result<()> {
    let now: BTreeSet<RunId> = coordinator.store().runs().await?.into_iter().map(|run| run.id).collect();
    for run in known.difference(&now) {
        tracing::error!(
            %run,
            "the store no longer knows this run: it was emptied or set back. Submit its file again under the same run id; \
             documents that --archive holds are not written again"
        );
    }
    coordinator.note_runs(known.difference(&now).cloned(), &now);
    *known = now;
    Ok(())
}

/// Takes away all leases that are due now; returns how many.
///
/// # Errors
/// The store failed; what was swept before it stays swept.
pub async fn sweep(coordinator: &Coordinator, options: &SweeperOptions) -> crate::store::Result<usize> {
    let limits = SweepLimits {
        max_losses: options.max_losses,
        no_progress_ms: options.no_progress.as_millis() as u64,
        batch: BATCH,
    };
    let mut total = 0;
    loop {
        let swept = coordinator.store().sweep(&limits).await?;
        total += swept.len();
        for swept in &swept {
            lost(coordinator, swept).await;
        }
        coordinator.wake(swept.iter().filter(|swept| swept.state == State::Ready).count());
        if swept.len() < BATCH as usize {
            return Ok(total);
        }
    }
}

/// Compares the indexes of all unfinished runs with their documents.
async fn audit(coordinator: &Coordinator) -> crate::store::Result<()> {
    let store = coordinator.store();
    for run in store.runs().await? {
        if store.counts(&run.id).await?.unfinished() == 0 {
            continue;
        }
        let found = store.audit(&run.id, false).await?;
        coordinator.metrics().audited(found.mismatches.len());
        for mismatch in &found.mismatches {
            tracing::error!(run = %run.id, mismatch, "store index mismatch");
        }
    }
    Ok(())
}

/// Counts the loss, and writes the attempt into the document's trace: the worker that held the lease may never say a word
/// again.
async fn lost(coordinator: &Coordinator, swept: &Swept) {
    let store = coordinator.store().as_ref();
    let record = store.get(swept.document).await.ok().flatten();
    let document = record.as_ref().and_then(|record| record.document().ok());
    coordinator.metrics().lost(document.as_ref().map(|document| document.current().0), swept.state);
    let trace_id = document.as_ref().map(Document::trace_id).unwrap_or_default();
    tracing::info!(
        run = %swept.run, document = %swept.document, trace_id, lease = %swept.lease.id, worker = %swept.lease.worker,
        state = swept.state.as_str(), "lease taken away: it ran out, or made no progress"
    );
    let (Some(record), Some(document)) = (record, document) else { return };
    // As they were before this loss was counted.
    let counters = Counters { losses: record.counters.losses.saturating_sub(1), ..record.counters };
    match Trail::of(store, counters, &swept.lease, &document).await {
        Ok(Some(trail)) => trail.lost(swept.state),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, trace_id, "a lost attempt is missing in its document's trace"),
    }
}
