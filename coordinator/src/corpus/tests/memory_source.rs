//! An in-memory store with the part of the interface that the corpus uses.

use std::sync::Mutex;

use async_trait::async_trait;
use longhand_proto::{DocumentId, RunId};

use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::state::State;
use crate::store::{Attempt, Filter, Page, Record, Result, Run, Source, StoreError};

#[derive(Debug, Default)]
pub(super) struct MemorySource {
    pub(super) records: Mutex<Vec<Record>>,
    pub(super) attempts: Mutex<Vec<(DocumentId, Attempt)>>,
    /// Makes the next `mark_flushed` fail, as after a crash or without a connection.
    pub(super) fail_next_mark: Mutex<bool>,
}

impl MemorySource {
    pub(super) fn of(documents: &[Document]) -> Self {
        let source = Self::default();
        documents.iter().for_each(|document| source.put(document));
        source
    }

    /// Adds a document, or replaces it as a requeue would.
    pub(super) fn put(&self, document: &Document) {
        let (state, reason) = match &document.progress {
            Progress::Finished { verdict: Verdict::Accepted, .. } => (State::Accepted, String::new()),
            Progress::Finished { verdict: Verdict::Rejected { rule, .. }, .. } => (State::Rejected, rule.clone()),
            Progress::Failed { class, .. } => (State::Failed, class.clone()),
            Progress::Cancelled { .. } => (State::Cancelled, String::new()),
            Progress::Planning { .. }
            | Progress::Writing { .. }
            | Progress::Summarising { .. }
            | Progress::Judging { .. } => (State::Ready, String::new()),
        };
        let mut records = self.records.lock().unwrap();
        let at = records.iter().position(|record| record.id == document.id).unwrap_or(records.len());
        let record = Record {
            id: document.id,
            run: document.run.clone(),
            state,
            reason,
            version: 1,
            seq: at as u64,
            change_seq: 1,
            changed_ms: 0,
            open: true,
            judge: false,
            due_ms: 0,
            counters: Default::default(),
            lease: None,
            checkpoint: None,
            body: serde_json::to_string(document).unwrap(),
            flushed: false,
        };
        if at == records.len() { records.push(record) } else { records[at] = record }
    }

    pub(super) fn unmarked(&self) -> usize {
        self.records.lock().unwrap().iter().filter(|r| r.state == State::Accepted && !r.flushed).count()
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn run(&self, _: &RunId) -> Result<Option<Run>> {
        Ok(Some(super::run()))
    }

    async fn unflushed(&self, _: &RunId, limit: u32) -> Result<Vec<Record>> {
        let records = self.records.lock().unwrap();
        let unflushed = records.iter().filter(|record| record.state == State::Accepted && !record.flushed);
        Ok(unflushed.take(limit as usize).cloned().collect())
    }

    async fn mark_flushed(&self, _: &RunId, documents: &[DocumentId]) -> Result<Vec<DocumentId>> {
        if std::mem::take(&mut *self.fail_next_mark.lock().unwrap()) {
            return Err(StoreError::Unreachable("connection reset".into()));
        }
        let mut records = self.records.lock().unwrap();
        let marked = records.iter_mut().filter(|r| r.state == State::Accepted && documents.contains(&r.id));
        marked.for_each(|record| record.flushed = true);
        Ok(Vec::new())
    }

    async fn list(&self, _: &RunId, _: &Filter, after: Option<u64>, limit: u32) -> Result<Page> {
        let records = self.records.lock().unwrap();
        let rest: Vec<Record> =
            records.iter().filter(|record| after.is_none_or(|after| record.seq > after)).cloned().collect();
        let more = rest.len() > limit as usize;
        let records: Vec<Record> = rest.into_iter().take(limit as usize).collect();
        Ok(Page { next: records.last().filter(|_| more).map(|record| record.seq), records })
    }

    async fn attempts(&self, document: DocumentId) -> Result<Vec<Attempt>> {
        let attempts = self.attempts.lock().unwrap();
        Ok(attempts.iter().filter(|(id, _)| *id == document).map(|(_, attempt)| attempt.clone()).collect())
    }
}
