//! The store as one coordinator reaches it: each call takes a way there and back on which it may be lost, and a witness
//! sees what it did. A mutation in between must not get past the witness.

use std::sync::Arc;

use async_trait::async_trait;
use longhand_coordinator::store::{
    Action, Attempt, Audit, Commit, Committed, Counts, Filter, LeaseQuery, Lookup, NewDocument, Page, Past, Record,
    Renewal, Result, Run, Seen, Source, SqliteStore, Store, StoreError, Submitted, Swap, Swapped, SweepLimits, Swept,
};
use longhand_proto::task::WorkerStatus;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use tokio::task::coop::unconstrained;

use super::mutation::Mutation;
use super::process::{Lost, Process};
use super::witness::{Step, Witness};

#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) store: SqliteStore,
    pub(crate) witness: Arc<Witness>,
    pub(crate) process: Arc<Process>,
    pub(crate) mutation: Mutation,
}

impl Replica {
    /// Makes a call. Between what it does to the store and the witness' look nothing else may run.
    async fn call<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.process.travel().await;
        let lost = self.process.lost();
        if lost == Lost::Request {
            return Err(StoreError::Unreachable("the request was lost".into()));
        }
        let answer = unconstrained(work).await;
        if lost == Lost::Reply {
            return Err(StoreError::Unreachable("the reply was lost".into()));
        }
        self.process.travel().await;
        answer
    }

    fn saw(&self, step: &Step<'_>) {
        self.witness.saw(&self.process.name, step);
    }
}

#[async_trait]
impl Source for Replica {
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
            self.saw(&Step::Flush);
            answer
        })
        .await
    }
}

#[async_trait]
impl Store for Replica {
    async fn create_run(&self, run: &Run) -> Result<Run> {
        self.call(self.store.create_run(run)).await
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        self.call(self.store.runs()).await
    }

    async fn pause(&self, run: &RunId, paused: bool) -> Result<Run> {
        self.call(self.store.pause(run, paused)).await
    }

    async fn submit(&self, run: &RunId, documents: &[NewDocument]) -> Result<Submitted> {
        self.call(async {
            let answer = self.store.submit(run, documents).await;
            self.saw(&Step::Submit);
            answer
        })
        .await
    }

    async fn lease(&self, query: &LeaseQuery) -> Result<Vec<Record>> {
        self.call(async {
            let answer = self.store.lease(query).await;
            self.saw(&Step::Lease(query, &answer));
            answer
        })
        .await
    }

    async fn renew(&self, renewals: &[Renewal], ttl_ms: u64) -> Result<Vec<LeaseId>> {
        self.call(async {
            let answer = self.mutation.renew(&self.store, renewals, ttl_ms).await;
            self.saw(&Step::Renew(renewals, ttl_ms, &answer));
            answer
        })
        .await
    }

    async fn lookup(&self, lease: LeaseId) -> Result<Lookup> {
        self.call(async {
            let answer = self.mutation.lookup(&self.store, lease).await;
            self.saw(&Step::Lookup(&answer));
            answer
        })
        .await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        self.call(async {
            let answer = self.mutation.commit(&self.store, commit).await;
            self.saw(&Step::Commit(commit, &answer));
            answer
        })
        .await
    }

    async fn sweep(&self, limits: &SweepLimits) -> Result<Vec<Swept>> {
        self.call(async {
            let answer = self.mutation.sweep(&self.store, limits).await;
            self.saw(&Step::Sweep(limits, &answer));
            answer
        })
        .await
    }

    async fn swap(&self, swap: &Swap) -> Result<Swapped> {
        self.call(async {
            let answer = self.store.swap(swap).await;
            self.saw(&Step::Swap(swap, &answer));
            answer
        })
        .await
    }

    async fn get(&self, document: DocumentId) -> Result<Option<Record>> {
        self.call(self.store.get(document)).await
    }

    async fn history(&self, document: DocumentId) -> Result<Vec<Past>> {
        self.call(self.store.history(document)).await
    }

    async fn changed(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<Record>> {
        self.call(self.store.changed(run, after, limit)).await
    }

    async fn counts(&self, run: &RunId) -> Result<Counts> {
        self.call(self.store.counts(run)).await
    }

    async fn report(&self, worker: &WorkerId, report: &WorkerStatus) -> Result<bool> {
        self.call(self.store.report(worker, report)).await
    }

    async fn workers(&self) -> Result<Vec<Seen>> {
        self.call(self.store.workers()).await
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        self.call(self.store.drain(worker)).await
    }

    async fn record(&self, run: Option<&RunId>, action: &Action) -> Result<()> {
        self.call(self.store.record(run, action)).await
    }

    async fn actions(&self, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>> {
        self.call(self.store.actions(run, limit)).await
    }

    async fn audit(&self, run: &RunId, repair: bool) -> Result<Audit> {
        self.call(self.store.audit(run, repair)).await
    }

    async fn now_ms(&self) -> Result<u64> {
        self.store.now_ms().await
    }
}
