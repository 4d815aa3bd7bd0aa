//! Revokes expired leases, and leases that are renewed without progress; ends the documents of cancelled runs. Runs
//! periodically, and audits the store's indexes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longhand_proto::{RunId, clock, rng};
use tokio_util::sync::CancellationToken;

use crate::control::rpc::Coordinator;
use crate::control::trace::AttemptSpan;
use crate::domain::document::Document;
use crate::domain::recipe::Retry;
use crate::domain::state::State;
use crate::store::{Counters, SweepLimits, Swept};

/// Documents of one atomic step: enough to be cheap, few enough not to delay calls.
const BATCH: u32 = 128;
/// Mean time between two looks through all runs for active ones that their index lacks.
const REFRESH: Duration = Duration::from_secs(300);

/// Intervals and limits of the sweeper.
#[derive(Debug, Clone)]
pub struct SweeperOptions {
    /// Mean time between sweeps. Replicas may sweep at the same time: each step checks the leases that it revokes.
    pub every: Duration,
    /// Lost leases of one task after which its document fails as `poison`, in place of `retry.max_losses` of the runs' recipes.
    pub max_losses: Option<u32>,
    /// Time without a new token after which a renewed lease is revoked. Longer than the longest prefill.
    pub no_progress: Duration,
    /// Mean time between audits: all indexes are compared with the documents, and differences are repaired and reported.
    pub audit: Duration,
}

impl Default for SweeperOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            max_losses: None,
            no_progress: Duration::from_secs(600),
            audit: Duration::from_secs(3_600),
        }
    }
}

/// Sweeps until `shutdown` is cancelled. After an error the next sweep tries again: nothing is lost.
///
/// The first sweep waits for one lease, so that workers that survived a coordinator's restart have time to renew.
pub async fn run(coordinator: Coordinator, options: SweeperOptions, shutdown: CancellationToken) {
    let sweep_at = clock::now() + coordinator.options().lease.max(options.every);
    let mut known = BTreeSet::new();
    let mut refresh_at = clock::now() + rng::around(REFRESH);
    let mut audit_at = clock::now() + rng::around(options.audit);
    let next = async || {
        tokio::select! {
            biased;
            () = coordinator.sweep_requested() => {}
            () = tokio::time::sleep(rng::around(options.every)) => {}
        }
    };
    while shutdown.run_until_cancelled(next()).await.is_some() {
        if let Err(error) = end_cancelled(&coordinator).await {
            tracing::warn!(%error, "documents of a cancelled run could not be ended; retrying at the next interval");
        }
        if clock::now() < sweep_at {
            continue;
        }
        match sweep(&coordinator, &options).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "leases revoked"),
            Err(error) => tracing::warn!(%error, "sweep failed; retrying at the next interval"),
        }
        if let Err(error) = detect_missing_runs(&coordinator, &mut known).await {
            tracing::debug!(%error, "runs could not be listed; retrying at the next interval");
        }
        if clock::now() >= refresh_at {
            refresh_at = clock::now() + rng::around(REFRESH);
            if let Err(error) = coordinator.store().refresh_active().await {
                tracing::warn!(%error, "the index of active runs could not be refreshed; retrying");
            }
        }
        if clock::now() >= audit_at {
            audit_at = clock::now() + rng::around(options.audit);
            if let Err(error) = audit(&coordinator).await {
                tracing::warn!(%error, "audit failed; retrying at the next interval");
            }
        }
    }
}

/// Ends the documents of all runs that are being cancelled, as far as they can be ended now.
async fn end_cancelled(coordinator: &Coordinator) -> crate::store::Result<()> {
    for run in coordinator.store().active_runs().await?.into_iter().filter(|run| run.cancelling) {
        coordinator.end_cancelled(&run.id).await?;
    }
    Ok(())
}

/// Reports active runs that disappeared. No run is deleted while documents of it are leased, so the store was emptied, restored
/// to an older state, or replaced; without this, workers would only be told that their leases are unknown.
async fn detect_missing_runs(coordinator: &Coordinator, known: &mut BTreeSet<RunId>) -> crate::store::Result<()> {
    let store = coordinator.store();
    let now: BTreeSet<RunId> = store.active_runs().await?.into_iter().map(|run| run.id).collect();
    let mut lost = Vec::new();
    for run in known.difference(&now) {
        if store.run(run).await?.is_none() && !coordinator.is_deleted(run) {
            lost.push(run.clone());
        }
    }
    for run in &lost {
        tracing::error!(
            %run,
            "the run is no longer in the store: the store was emptied or restored to an older state. Submit its file again \
             under the same run id (documents in --archive are not written again)"
        );
    }
    coordinator.note_lost_runs(lost.into_iter(), &now);
    *known = now;
    Ok(())
}

/// Revokes all leases that are due now; returns their number.
///
/// # Errors
/// The store failed; leases that were revoked before stay revoked.
pub async fn sweep(coordinator: &Coordinator, options: &SweeperOptions) -> crate::store::Result<usize> {
    let default = Retry::default().max_losses;
    let limits = SweepLimits {
        max_losses: options.max_losses.unwrap_or(default),
        max_losses_of: match options.max_losses {
            Some(_) => BTreeMap::new(),
            None => coordinator.max_losses().await?,
        },
        no_progress_ms: options.no_progress.as_millis() as u64,
        batch: BATCH,
    };
    let mut total = 0;
    loop {
        let swept = coordinator.store().sweep(&limits).await?;
        total += swept.len();
        for swept in &swept {
            record_loss(coordinator, swept).await;
        }
        coordinator.wake(swept.iter().filter(|swept| swept.state == State::Ready).count());
        if swept.len() < BATCH as usize {
            return Ok(total);
        }
    }
}

/// Compares the indexes of all unfinished runs with their documents, and repairs them.
async fn audit(coordinator: &Coordinator) -> crate::store::Result<()> {
    let store = coordinator.store();
    for run in store.active_runs().await? {
        let found = store.audit(&run.id, true).await?;
        coordinator.metrics().audited(found.mismatches.len());
        for mismatch in &found.mismatches {
            tracing::error!(run = %run.id, mismatch, "store index mismatch, repaired");
        }
    }
    Ok(())
}

/// Counts a lost lease and emits the span of its attempt: the worker may never report it.
async fn record_loss(coordinator: &Coordinator, swept: &Swept) {
    let store = coordinator.store().as_ref();
    let record = store.get(swept.document).await.unwrap_or_else(|error| {
        tracing::warn!(%error, document = %swept.document, "the document of a lost lease could not be read from the store");
        None
    });
    let document = record.as_ref().and_then(|record| match record.document() {
        Ok(document) => Some(document),
        Err(error) => {
            tracing::warn!(%error, document = %swept.document, "the document of a lost lease cannot be read");
            None
        }
    });
    coordinator.metrics().lost(document.as_ref().map(|document| document.current().0), swept.state);
    let trace_id = document.as_ref().map(Document::trace_id).unwrap_or_default();
    tracing::info!(
        run = %swept.run, document = %swept.document, trace_id, lease = %swept.lease.id, worker = %swept.lease.worker,
        state = swept.state.as_str(), "lease revoked: expired, or no progress"
    );
    let (Some(record), Some(document)) = (record, document) else { return };
    // The counters before this loss.
    let counters = Counters { losses: record.counters.losses.saturating_sub(1), ..record.counters };
    match AttemptSpan::of(store, counters, &swept.lease, &document).await {
        Ok(Some(span)) => span.lost(swept.state),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, trace_id, "the span of a lost attempt is missing in the trace"),
    }
}
