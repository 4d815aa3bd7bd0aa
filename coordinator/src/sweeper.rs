//! The one timer: takes leases away that ran out, or that are renewed without progress.

use std::time::Duration;

use longhand_proto::chance;
use tokio_util::sync::CancellationToken;

use crate::document::Document;
use crate::service::Coordinator;
use crate::store::{State, SweepLimits, Swept};

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
}

impl Default for SweeperOptions {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), max_losses: 3, no_progress: Duration::from_secs(600) }
    }
}

/// Sweeps until `shutdown` is cancelled. An error is logged and tried again at the next turn: nothing is lost by it.
///
/// The first turn comes after one whole lease, so that workers that outlived the last coordinator find time to renew.
pub async fn run(coordinator: Coordinator, options: SweeperOptions, shutdown: CancellationToken) {
    let mut pause = coordinator.options().lease.max(options.every);
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = chance::around(options.every);
        match sweep(&coordinator, &options).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "leases taken away"),
            Err(error) => tracing::warn!(%error, "sweep failed; will be tried again"),
        }
    }
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
            trace(coordinator, swept).await;
        }
        coordinator.wake(swept.iter().filter(|swept| swept.state == State::Ready).count());
        if swept.len() < BATCH as usize {
            return Ok(total);
        }
    }
}

/// Marks the loss in the document's trace: the worker that held the lease may never say a word again.
async fn trace(coordinator: &Coordinator, swept: &Swept) {
    let span = tracing::info_span!(
        "lease expired",
        longhand.run = %swept.run,
        longhand.document = %swept.document,
        longhand.worker = %swept.lease.worker,
        longhand.state = swept.state.as_str(),
    );
    if span.is_disabled() {
        return;
    }
    let stored = coordinator.store().get(swept.document).await;
    let document = stored.ok().flatten().and_then(|record| serde_json::from_str::<Document>(&record.body).ok());
    if let Some(document) = document {
        longhand_proto::trace::set_parent(&span, &document.traceparent);
        drop(span.entered());
    }
}
