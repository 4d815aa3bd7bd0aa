//! The store as one coordinator sees it: requests and replies take time and may be lost, and the checker observes each
//! call. A mutation in between must be detected by the checker.

use std::sync::Arc;

use async_trait::async_trait;
use longhand_coordinator::store::{
    Action, Attempt, Audit, AuditLog, Commit, Committed, CompareAndSwap, Counts, DocumentStore, EndedDocument, Filter,
    LeaseQuery, LeaseStore, Lookup, NewDocument, Page, Record, Renewal, Renewed, Result, Revision, Run, RunStore,
    Source, SqliteStore, Store, StoreError, Submitted, Swapped, SweepLimits, Swept, WorkerRecord, WorkerStore,
};
use longhand_proto::task::WorkerStatus;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use tokio::task::coop::unconstrained;

use super::invariant_checker::InvariantChecker;
use super::mutation::Mutation;
use super::process::{LostMessage, Process};
use super::step::Step;

#[derive(Debug)]
pub(crate) struct StoreProxy {
    pub(crate) store: SqliteStore,
    pub(crate) checker: Arc<InvariantChecker>,
    pub(crate) process: Arc<Process>,
    pub(crate) mutation: Mutation,
}

impl StoreProxy {
    /// Makes a call. No other call may run between its effect on the store and the checker's observation.
    async fn call<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.process.network_delay().await;
        let lost = self.process.draw_loss();
        if lost == LostMessage::Request {
            return Err(StoreError::Unreachable("the request was lost".into()));
        }
        let answer = unconstrained(work).await;
        if lost == LostMessage::Reply {
            return Err(StoreError::Unreachable("the reply was lost".into()));
        }
        self.process.network_delay().await;
        answer
    }

    fn observe(&self, step: &Step<'_>) {
        self.checker.observe(&self.process.name, step);
    }
}

#[async_trait]
impl Source for StoreProxy {
    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        self.call(self.store.run(id)).await
    }

    async fn attempts(&self, document: DocumentId) -> Result<Vec<Attempt>> {
        self.call(self.store.attempts(document)).await
    }

    async fn list(&self, run: &RunId, filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page> {
        self.call(self.store.list(run, filter, after, limit)).await
    }

    async fn unflushed(&self, run: &RunId, limit: u32) -> Result<Vec<Record>> {
        self.call(self.store.unflushed(run, limit)).await
    }

    async fn mark_flushed(&self, run: &RunId, documents: &[DocumentId]) -> Result<Vec<DocumentId>> {
        self.call(async {
            let answer = self.store.mark_flushed(run, documents).await;
            self.observe(&Step::Flush);
            answer
        })
        .await
    }
}

#[async_trait]
impl RunStore for StoreProxy {
    async fn create_run(&self, run: &Run) -> Result<Run> {
        self.call(self.store.create_run(run)).await
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        self.call(self.store.runs()).await
    }

    async fn active_runs(&self) -> Result<Vec<Run>> {
        self.call(self.store.active_runs()).await
    }

    async fn latest_runs(&self, limit: u32) -> Result<Vec<Run>> {
        self.call(self.store.latest_runs(limit)).await
    }

    async fn refresh_active(&self) -> Result<()> {
        self.call(self.store.refresh_active()).await
    }

    async fn delete_run(&self, run: &RunId, limit: u32) -> Result<bool> {
        self.call(self.store.delete_run(run, limit)).await
    }

    async fn load(&self, run: &RunId, documents: &[EndedDocument]) -> Result<u64> {
        self.call(self.store.load(run, documents)).await
    }

    async fn pause(&self, run: &RunId, paused: bool) -> Result<Run> {
        self.call(self.store.pause(run, paused)).await
    }

    async fn cancel(&self, run: &RunId) -> Result<()> {
        self.call(async {
            let answer = self.store.cancel(run).await;
            self.observe(&Step::Cancel);
            answer
        })
        .await
    }

    async fn finish_cancel(&self, run: &RunId) -> Result<bool> {
        self.call(self.store.finish_cancel(run)).await
    }

    async fn latest_change(&self, run: &RunId) -> Result<u64> {
        self.call(self.store.latest_change(run)).await
    }

    async fn totals(&self, run: &RunId) -> Result<Option<String>> {
        self.call(self.store.totals(run)).await
    }

    async fn set_totals(&self, run: &RunId, json: &str) -> Result<()> {
        self.call(self.store.set_totals(run, json)).await
    }

    async fn counts(&self, run: &RunId) -> Result<Counts> {
        self.call(self.store.counts(run)).await
    }
}

#[async_trait]
impl DocumentStore for StoreProxy {
    async fn submit(&self, run: &RunId, documents: &[NewDocument]) -> Result<Submitted> {
        self.call(async {
            let answer = self.store.submit(run, documents).await;
            self.observe(&Step::Submit);
            answer
        })
        .await
    }

    async fn get(&self, document: DocumentId) -> Result<Option<Record>> {
        self.call(self.store.get(document)).await
    }

    async fn swap(&self, swap: &CompareAndSwap) -> Result<Swapped> {
        self.call(async {
            let answer = self.store.swap(swap).await;
            self.observe(&Step::Swap(swap, &answer));
            answer
        })
        .await
    }

    async fn history(&self, document: DocumentId) -> Result<Vec<Revision>> {
        self.call(self.store.history(document)).await
    }

    async fn changed(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<Record>> {
        self.call(self.store.changed(run, after, limit)).await
    }
}

#[async_trait]
impl LeaseStore for StoreProxy {
    async fn lease(&self, query: &LeaseQuery) -> Result<Vec<Record>> {
        self.call(async {
            let answer = self.store.lease(query).await;
            self.observe(&Step::Lease(query, &answer));
            answer
        })
        .await
    }

    async fn renew(&self, renewals: &[Renewal], ttl_ms: u64) -> Result<Renewed> {
        self.call(async {
            let answer = self.mutation.renew(&self.store, renewals, ttl_ms).await;
            self.observe(&Step::Renew(renewals, ttl_ms, &answer));
            answer
        })
        .await
    }

    async fn lookup(&self, lease: LeaseId) -> Result<Lookup> {
        self.call(async {
            let answer = self.mutation.lookup(&self.store, lease).await;
            self.observe(&Step::Lookup(&answer));
            answer
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        self.call(async {
            let answer = self.mutation.commit(&self.store, commit).await;
            self.observe(&Step::Commit(commit, &answer));
            answer
        })
        .await
    }

    async fn sweep(&self, limits: &SweepLimits) -> Result<Vec<Swept>> {
        self.call(async {
            let answer = self.mutation.sweep(&self.store, limits).await;
            self.observe(&Step::Sweep(limits, &answer));
            answer
        })
        .await
    }
}

#[async_trait]
impl WorkerStore for StoreProxy {
    async fn heartbeat(&self, worker: &WorkerId, report: &WorkerStatus) -> Result<bool> {
        self.call(self.store.heartbeat(worker, report)).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        self.call(self.store.workers()).await
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        self.call(self.store.drain(worker)).await
    }
}

#[async_trait]
impl AuditLog for StoreProxy {
    async fn append_audit(&self, run: Option<&RunId>, action: &Action) -> Result<()> {
        self.call(self.store.append_audit(run, action)).await
    }

    async fn audit_log(&self, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>> {
        self.call(self.store.audit_log(run, limit)).await
    }
}

#[async_trait]
impl Store for StoreProxy {
    async fn audit(&self, run: &RunId, repair: bool) -> Result<Audit> {
        self.call(self.store.audit(run, repair)).await
    }

    async fn now_ms(&self) -> Result<u64> {
        self.store.now_ms().await
    }
}
