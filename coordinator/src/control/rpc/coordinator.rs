//! The state that all calls of one coordinator process share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use longhand_proto::RunId;
use tokio::sync::{Notify, watch};

use super::recent_leases::RecentLeases;
use super::refusals::Refusals;
use super::run_cache::{RunCache, RunContext};
use super::waiting_queues::WaitingQueues;
use super::worker_health::WorkerHealth;
use crate::control::metrics::Metrics;
use crate::control::stall::StallFinder;
use crate::corpus::Archive;
use crate::run_stats::RunStatsCache;
use crate::store::{Result, Store, StoreError};

/// How a coordinator serves its store.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Time after which a lease expires unless it is renewed.
    pub lease: Duration,
    /// Longest time that a request for work is held open.
    pub max_wait: Duration,
    /// Mean time between two queries of the store while requests wait: another replica may have made work.
    pub poll: Duration,
    /// Calls of workers that are processed at the same time, and an eighth as many of operators; more wait. Messages in
    /// progress may take a mebibyte for each.
    pub max_calls: usize,
    /// Whether traces contain prompts and texts.
    pub trace_content: bool,
    /// Where accepted documents are kept outside the store.
    pub archive: Option<Arc<Archive>>,
    /// Mean number of calls per second that one connection may make; more are rejected with retry-after.
    pub calls_per_second: u32,
    /// Time limit of a call, including the time to receive its message.
    pub call_timeout: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            max_wait: Duration::from_secs(20),
            poll: Duration::from_millis(500),
            max_calls: 256,
            trace_content: false,
            archive: None,
            calls_per_second: 1_000,
            call_timeout: Duration::from_secs(120),
        }
    }
}

/// Assigns work to workers and records their results. A handle: clones share one state.
#[derive(Clone)]
pub struct Coordinator {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) store: Arc<dyn Store>,
    pub(super) options: ServiceOptions,
    pub(super) recent_leases: RecentLeases,
    /// How the workers do, each by itself.
    pub(super) worker_health: WorkerHealth,
    /// Requests that wait for work.
    pub(super) waiting: WaitingQueues,
    /// Runs that some workers, or this replica, cannot work on.
    pub(super) refusals: Refusals,
    run_cache: RunCache,
    metrics: Metrics,
    changes: watch::Sender<u64>,
    run_stats: RunStatsCache,
    store_health: watch::Sender<Option<String>>,
    /// Wakes the sweeper.
    sweep_requested: Notify,
    /// Runs that disappeared from the store. A lock, as sweeper and calls use it; held for one look-up.
    lost_runs: std::sync::Mutex<BTreeSet<RunId>>,
    /// Runs that this process deleted.
    deleted_runs: std::sync::Mutex<BTreeSet<RunId>>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("store", &self.inner.store).field("options", &self.inner.options).finish()
    }
}

impl Coordinator {
    /// A coordinator over this store.
    pub fn new(store: Arc<dyn Store>, options: ServiceOptions) -> Self {
        let inner = Inner {
            store,
            options,
            recent_leases: RecentLeases::default(),
            worker_health: WorkerHealth::default(),
            waiting: WaitingQueues::default(),
            refusals: Refusals::default(),
            run_cache: RunCache::default(),
            metrics: Metrics::new(),
            changes: watch::Sender::new(0),
            run_stats: RunStatsCache::default(),
            store_health: watch::Sender::new(None),
            sweep_requested: Notify::new(),
            lost_runs: std::sync::Mutex::default(),
            deleted_runs: std::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The store that it serves.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Statistics of the runs that somebody watches.
    pub(crate) fn run_stats(&self) -> &RunStatsCache {
        &self.inner.run_stats
    }

    /// Counters of this process.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// See [`ServiceOptions::archive`].
    pub fn archive(&self) -> Option<&Archive> {
        self.inner.options.archive.as_deref()
    }

    /// As given at its start.
    pub fn options(&self) -> &ServiceOptions {
        &self.inner.options
    }

    /// Wakes requests that wait for work after `documents` became ready in this process (submission, requeue, sweep).
    /// Otherwise they notice at their next poll of the store.
    pub fn wake(&self, documents: usize) {
        if documents > 0 {
            self.inner.waiting.wake();
        }
        self.notify_change();
    }

    /// Lets the sweeper begin at once.
    pub(super) fn request_sweep(&self) {
        self.inner.sweep_requested.notify_one();
    }

    /// Resolves at the next [`Coordinator::request_sweep`].
    pub(crate) async fn sweep_requested(&self) {
        self.inner.sweep_requested.notified().await;
    }

    /// A number that grows with every change that this process makes to a document. For progress displays.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// The store's error while it cannot take results (no space, refused); none again after the next success. Workers keep
    /// retrying: the program decides whether to stop.
    pub fn store_health(&self) -> watch::Receiver<Option<String>> {
        self.inner.store_health.subscribe()
    }

    /// Finds out why runs make no progress.
    pub(crate) fn stall_finder(&self) -> StallFinder<'_> {
        let problem = self.inner.store_health.borrow().clone();
        StallFinder::new(self.inner.store.as_ref(), problem, self.inner.refusals.recipes())
    }

    /// Remembers runs that disappeared from the store, and forgets those that are there again.
    pub(crate) fn note_lost_runs(&self, lost: impl Iterator<Item = RunId>, present: &BTreeSet<RunId>) {
        let mut known = self.inner.lost_runs.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(lost);
        known.retain(|run| !present.contains(run));
    }

    /// The run is being deleted: that it is missing is no fault of the store's.
    pub(super) fn note_deleted(&self, run: RunId) {
        self.inner.deleted_runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// True if this process deleted a run of this name.
    pub(crate) fn is_deleted(&self, run: &RunId) -> bool {
        self.inner.deleted_runs.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// Forgets what is known of a run: it was deleted, or loaded again.
    pub(super) fn forget(&self, run: &RunId) {
        self.inner.run_cache.remove(run);
        self.inner.run_stats.remove(run);
    }

    /// True if the store had this run before, and no longer does.
    pub(super) fn has_lost(&self, run: &RunId) -> bool {
        self.inner.lost_runs.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// `retry.max_losses` of each active run whose recipe this replica can read.
    pub(in crate::control) async fn max_losses(&self) -> Result<BTreeMap<RunId, u32>> {
        let mut limits = BTreeMap::new();
        for run in self.store().active_runs().await? {
            match self.run_context(&run.id).await {
                Ok(context) => drop(limits.insert(run.id, context.recipe.retry.max_losses)),
                Err(StoreError::Refused(_) | StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(limits)
    }

    /// Recipe and policy of a run.
    pub(super) async fn run_context(&self, run: &RunId) -> Result<Arc<RunContext>> {
        self.inner.run_cache.get(self.inner.store.as_ref(), run).await
    }

    pub(super) fn lease_ms(&self) -> u64 {
        self.inner.options.lease.as_millis() as u64
    }

    pub(super) fn notify_change(&self) {
        self.inner.changes.send_modify(|number| *number += 1);
    }

    /// Updates [`Coordinator::store_health`] with the result of a call to the store.
    pub(super) fn track_health<T>(&self, result: Result<T>) -> Result<T> {
        let problem = match &result {
            Err(error @ (StoreError::Full(_) | StoreError::Refused(_))) => Some(error.to_string()),
            Ok(_) | Err(StoreError::Unreachable(_) | StoreError::NotFound { .. } | StoreError::Other(_)) => None,
        };
        self.inner.store_health.send_if_modified(|current| {
            let changed = (result.is_ok() || problem.is_some()) && *current != problem;
            if changed {
                *current = problem;
            }
            changed
        });
        result
    }
}
