//! What was acknowledged, as seen from outside while it happened: the store itself forgets what it is set back over.

use std::collections::BTreeMap;

use longhand_coordinator::domain::document::Document;
use longhand_coordinator::store::{AttemptEnd, Filter, Record, Result, Store};
use longhand_proto::{DocumentId, LeaseId, RunId};

/// A plan or a section of a document.
type Task = (DocumentId, String, u64);

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The attempt that each task was completed by.
    completed: BTreeMap<Task, LeaseId>,
    texts: BTreeMap<(DocumentId, usize), String>,
    /// Tasks that were written a second time because Redis had forgotten the first.
    pub(crate) redone: u64,
}

impl Ledger {
    /// Looks at the store. `set_back` says that Redis was, since the last look.
    ///
    /// # Panics
    /// Something acknowledged was written again, or changed.
    pub(crate) async fn look(&mut self, store: &dyn Store, run: &RunId, set_back: bool) -> Result<Vec<Record>> {
        let records = store.list(run, &Filter::default(), None, 1_000).await?.records;
        let mut completed = BTreeMap::new();
        for record in &records {
            for attempt in store.attempts(record.id).await? {
                if attempt.end == AttemptEnd::Completed {
                    let kind = attempt.detail["kind"].as_str().unwrap().to_owned();
                    let task = (record.id, kind, attempt.detail["section"].as_u64().unwrap());
                    let before = completed.insert(task.clone(), attempt.lease);
                    assert_eq!(before, None, "written again after it was acknowledged: {task:?}, by {attempt:?}");
                }
            }
        }
        if set_back {
            self.completed.retain(|task, lease| completed.get(task) == Some(lease));
            let known = &self.completed;
            self.texts.retain(|(id, index), _| known.contains_key(&(*id, "section".to_owned(), *index as u64)));
        }
        for (task, lease) in &self.completed {
            assert_eq!(completed.get(task), Some(lease), "an acknowledged text was lost or written again: {task:?}");
        }
        let texts = texts(&records);
        for (key, text) in &self.texts {
            assert_eq!(texts.get(key), Some(text), "an acknowledged section changed: {key:?}");
        }
        (self.completed, self.texts) = (completed, texts);
        Ok(records)
    }

    /// Redis will be set back: what it knew so far is counted if it has to be written again.
    pub(crate) fn before_set_back(&self) -> Vec<Task> {
        self.completed.keys().cloned().collect()
    }

    /// After the first look at a Redis that was set back.
    pub(crate) fn count_redone(&mut self, before: &[Task]) {
        self.redone += before.iter().filter(|task| !self.completed.contains_key(*task)).count() as u64;
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
