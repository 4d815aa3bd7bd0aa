//! Checks that acknowledged results are durable, by observing the store from outside: a rollback removes the store's own
//! record of them.

use std::collections::BTreeMap;

use longhand_coordinator::domain::document::Document;
use longhand_coordinator::store::{AttemptEnd, Filter, Record, Result, Store};
use longhand_proto::{DocumentId, LeaseId, RunId};

/// A plan or a section of a document.
type Task = (DocumentId, String, u64);

/// What was seen as acknowledged so far.
#[derive(Debug, Default)]
pub(crate) struct DurabilityChecker {
    /// The attempt that completed each task.
    completed: BTreeMap<Task, LeaseId>,
    texts: BTreeMap<(DocumentId, usize), String>,
    /// Tasks that have to be regenerated because of rollbacks.
    pub(crate) regenerated: u64,
}

impl DurabilityChecker {
    /// Checks the store. `rolled_back`: Redis was rolled back since the last check.
    ///
    /// # Panics
    /// An acknowledged result was lost, generated again, or changed.
    pub(crate) async fn check(&mut self, store: &dyn Store, run: &RunId, rolled_back: bool) -> Result<Vec<Record>> {
        let records = store.list(run, &Filter::default(), None, 1_000).await?.records;
        let mut completed = BTreeMap::new();
        for record in &records {
            for attempt in store.attempts(record.id).await? {
                if attempt.end == AttemptEnd::Completed {
                    let kind = attempt.detail["kind"].as_str().unwrap().to_owned();
                    let task = (record.id, kind, attempt.detail["section"].as_u64().unwrap());
                    let before = completed.insert(task.clone(), attempt.lease);
                    assert_eq!(before, None, "generated again after it was acknowledged: {task:?}, by {attempt:?}");
                }
            }
        }
        if rolled_back {
            self.completed.retain(|task, lease| completed.get(task) == Some(lease));
            let known = &self.completed;
            self.texts.retain(|(id, index), _| known.contains_key(&(*id, "section".to_owned(), *index as u64)));
        }
        for (task, lease) in &self.completed {
            assert_eq!(completed.get(task), Some(lease), "an acknowledged text was lost or generated again: {task:?}");
        }
        let texts = texts(&records);
        for (key, text) in &self.texts {
            assert_eq!(texts.get(key), Some(text), "an acknowledged section changed: {key:?}");
        }
        (self.completed, self.texts) = (completed, texts);
        Ok(records)
    }

    /// The completed tasks before a rollback.
    pub(crate) fn completed_tasks(&self) -> Vec<Task> {
        self.completed.keys().cloned().collect()
    }

    /// Counts the tasks that a rollback removed. To be called after the first check since.
    pub(crate) fn count_regenerated(&mut self, before: &[Task]) {
        self.regenerated += before.iter().filter(|task| !self.completed.contains_key(*task)).count() as u64;
    }

    /// The section texts of all documents.
    pub(crate) fn sections(&self) -> BTreeMap<DocumentId, Vec<&str>> {
        let mut sections: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for ((id, _), text) in &self.texts {
            sections.entry(*id).or_default().push(text);
        }
        sections
    }
}

fn texts(records: &[Record]) -> BTreeMap<(DocumentId, usize), String> {
    let mut texts = BTreeMap::new();
    for record in records {
        let document: Document = record.document().unwrap();
        for (index, section) in document.sections().iter().enumerate() {
            texts.insert((record.id, index), section.text.clone());
        }
    }
    texts
}
