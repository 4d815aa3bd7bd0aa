//! The figures of runs in memory, for the dashboard and `longhand watch`. A refresh reads only what changed in the store since
//! the last one; filters, sums and plots are computed from memory.
//!
//! The first read of a large run takes seconds, so it continues in a task of its own; pages show what is known meanwhile and
//! say that it is incomplete. History comes from the attempts in the store, so it is the same after a restart and on another
//! replica.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as Lock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use longhand_proto::{DocumentId, RunId, clock};
use tokio::sync::Mutex;

use super::document_summary::DocumentSummary;
use super::stats::RunStats;
use crate::store::{Attempt, Result, Store, StoreError};

/// Documents read in one call to the store.
const PAGE: u32 = 64;
/// Concurrent calls for the attempts of a page.
const CONCURRENT_CALLS: usize = 16;
/// Longest wait of a page for a refresh; after it the page shows what is known.
const REFRESH_TIMEOUT: Duration = Duration::from_millis(150);
/// Most summaries in memory over all runs, about 0.7 kB each; the run not used for longest is evicted. A single run may have
/// more.
pub(crate) const MAX_SUMMARIES: usize = 400_000;

/// Shared access to the figures of one run.
#[derive(Debug, Default)]
pub(crate) struct RunStatsHandle {
    /// Locked for a read or for one page of changes, never across an await.
    stats: RwLock<RunStats>,
    /// Held by the one task that refreshes.
    refresh_lock: Arc<Mutex<()>>,
    /// Latest change of the figures that the store keeps, and when they were written. Locked for a comparison.
    saved: Lock<(u64, u64)>,
}

impl RunStatsHandle {
    /// The figures as of the last refresh.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, RunStats> {
        self.stats.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if the figures up to this change are to be kept now: others were kept last, and that is some time ago.
    pub(super) fn is_save_due(&self, change_seq: u64, now_ms: u64, every_ms: u64) -> bool {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let due = saved.0 != change_seq && now_ms >= saved.1 + every_ms;
        if due {
            *saved = (change_seq, now_ms);
        }
        due
    }

    /// Reads what changed in the store, or waits up to [`REFRESH_TIMEOUT`] for the task that does.
    async fn refresh(self: &Arc<Self>, store: &Arc<dyn Store>, run: &RunId) -> Result<()> {
        let Ok(guard) = Arc::clone(&self.refresh_lock).try_lock_owned() else {
            // In time or not: what is known is shown.
            drop(tokio::time::timeout(REFRESH_TIMEOUT, self.refresh_lock.lock()).await);
            return Ok(());
        };
        let (handle, store, run) = (Arc::clone(self), Arc::clone(store), run.clone());
        // Continues after the page is sent: the first read of a large run takes seconds.
        let refresh = tokio::spawn(async move {
            let _guard = guard;
            handle.apply_changes(store.as_ref(), &run).await
        });
        match tokio::time::timeout(REFRESH_TIMEOUT, refresh).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(StoreError::Other(format!("reading the run failed: {error}"))),
            Err(_) => Ok(()),
        }
    }

    async fn apply_changes(&self, store: &dyn Store, run: &RunId) -> Result<()> {
        loop {
            let since = self.read().change_seq;
            let changed = store.changed(run, since, PAGE).await?;
            let calls: Vec<_> = changed.iter().map(|record| attempts_of(store, record.id, record.open)).collect();
            let attempts: Vec<Vec<Attempt>> = stream::iter(calls).buffered(CONCURRENT_CALLS).try_collect().await?;
            let complete = changed.len() < PAGE as usize;
            // Parses whole texts, so it is done before the lock is acquired.
            let summaries: Vec<DocumentSummary> =
                changed.iter().zip(&attempts).map(|(record, attempts)| DocumentSummary::of(record, attempts)).collect();
            let mut stats = self.stats.write().unwrap_or_else(PoisonError::into_inner);
            for ((record, attempts), summary) in changed.iter().zip(&attempts).zip(summaries) {
                stats.apply(record, attempts, summary);
            }
            stats.complete = complete;
            if complete {
                return Ok(());
            }
        }
    }
}

/// A document that was never leased has no attempts; there may be 100,000 of them.
async fn attempts_of(store: &dyn Store, id: DocumentId, was_leased: bool) -> Result<Vec<Attempt>> {
    if was_leased { store.attempts(id).await } else { Ok(Vec::new()) }
}

/// The runs in memory.
#[derive(Debug, Default)]
pub(crate) struct RunStatsCache {
    /// Each with the time of its last use. Locked for a lookup, never across an await.
    runs: Lock<HashMap<RunId, (Arc<RunStatsHandle>, u64)>>,
}

impl RunStatsCache {
    /// The run's figures, refreshed.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn refreshed(&self, store: &Arc<dyn Store>, run: &RunId) -> Result<Arc<RunStatsHandle>> {
        let handle = self.handle(run);
        handle.refresh(store, run).await?;
        Ok(handle)
    }

    /// Forgets a run.
    pub(crate) fn remove(&self, run: &RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
    }

    fn handle(&self, run: &RunId) -> Arc<RunStatsHandle> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let (handle, last_used) = runs.entry(run.clone()).or_default();
        *last_used = clock::unix_ms();
        let handle = Arc::clone(handle);
        while runs.len() > 1
            && runs.values().map(|(handle, _)| handle.read().summaries.len()).sum::<usize>() > MAX_SUMMARIES
        {
            let others = runs.iter().filter(|(other, _)| *other != run);
            let Some(oldest) = others.min_by_key(|(_, (_, used))| *used).map(|(run, _)| run.clone()) else { break };
            runs.remove(&oldest);
        }
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::Document;
    use crate::domain::instruction::BadRow;
    use crate::domain::state::State;
    use crate::store::{CompareAndSwap, DocumentStore, NewDocument, Run, RunPolicy, RunStore, SqliteStore};

    /// Several pages of the store.
    const DOCUMENTS: u64 = 3 * PAGE as u64 + 7;

    async fn store_with_run(name: &str) -> (Arc<dyn Store>, RunId, Vec<DocumentId>) {
        let store = SqliteStore::in_memory(|| 1).unwrap();
        let run: RunId = name.parse().unwrap();
        let (recipe, recipe_hash, policy) = (String::new(), String::new(), RunPolicy::default());
        store
            .create_run(&Run {
                id: run.clone(),
                recipe,
                recipe_hash,
                seed: 0,
                created_ms: 1,
                policy,
                paused: false,
                cancelling: false,
            })
            .await
            .unwrap();
        let row = |line: u64| BadRow {
            file: "rows".into(),
            line,
            key: String::new(),
            problem: "bad".into(),
            remedy: "fix it".into(),
            content_hash: line.to_string(),
        };
        let rows: Vec<Document> = (0..DOCUMENTS).map(|line| Document::bad_row(&run, &row(line))).collect();
        let new = |row: &Document| NewDocument {
            id: row.id,
            body: serde_json::to_string(row).unwrap(),
            failed: Some("bad_row".into()),
        };
        store.submit(&run, &rows.iter().map(new).collect::<Vec<_>>()).await.unwrap();
        (Arc::new(store), run, rows.iter().map(|row| row.id).collect())
    }

    #[tokio::test]
    async fn a_refresh_reads_only_what_changed_since_the_last_one() {
        let (store, run, ids) = store_with_run("r").await;
        let cache = RunStatsCache::default();
        let handle = cache.refreshed(&store, &run).await.unwrap();
        assert_eq!((handle.read().read, handle.read().complete), (DOCUMENTS, true));
        for _ in 0..10 {
            let handle = cache.refreshed(&store, &run).await.unwrap();
            assert_eq!(handle.read().read, DOCUMENTS, "nothing is read twice");
        }
        let swap = CompareAndSwap {
            document: ids[3],
            version: 1,
            state: State::Cancelled,
            reason: String::new(),
            judge: false,
            body: None,
        };
        store.swap(&swap).await.unwrap();
        let handle = cache.refreshed(&store, &run).await.unwrap();
        assert_eq!(handle.read().read, DOCUMENTS + 1, "the one that changed");
        let cancelled = handle.read().documents().filter(|document| document.state == State::Cancelled).count();
        assert_eq!((cancelled, handle.read().documents().count() as u64), (1, DOCUMENTS));
    }

    #[tokio::test]
    async fn the_run_not_used_for_longest_is_evicted() {
        let (store, run, _) = store_with_run("r").await;
        let cache = RunStatsCache::default();
        let handle = cache.refreshed(&store, &run).await.unwrap();
        let many = MAX_SUMMARIES + 1;
        handle.stats.write().unwrap().summaries.resize(many, None);
        cache.handle(&run);
        assert_eq!(cache.runs.lock().unwrap().len(), 1, "the run in use stays, however large");
        cache.handle(&"other".parse().unwrap());
        let runs = cache.runs.lock().unwrap();
        assert_eq!(runs.keys().map(RunId::as_str).collect::<Vec<_>>(), ["other"]);
    }
}
