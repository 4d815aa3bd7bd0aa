//! What the dashboard knows of a run: one line for each document, in memory, brought up to date by what changed since the last
//! look. Filters, sums and plots are walks over these lines, and ask the store nothing.
//!
//! A run that nobody looked at yet is read by a task of its own; pages show what is there meanwhile and say so. History comes
//! from the attempts in the store, so it survives a reload, a restart and a change to another replica.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex as Lock, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use longhand_proto::{DocumentId, RunId, clock};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::line::{Line, generated};
use crate::store::{Attempt, Record, Result, Store, StoreError};

/// Documents read in one call to the store, and calls for their attempts at the same time.
const PAGE: u32 = 64;
const CALLS: usize = 16;
/// A page waits so long for what changed; then it is shown with what is known.
const PATIENCE: Duration = Duration::from_millis(150);
/// Lines kept over all runs; the run looked at longest ago goes. About 0.7 kB each. A single run may have more.
pub(crate) const LINES: usize = 400_000;
/// Width of the finest part of a plot.
pub(crate) const BUCKET_MS: u64 = 10_000;

/// What was written in one stretch of time: counted when it was handed in.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Bucket {
    pub(crate) words: u64,
    pub(crate) tokens: u64,
    pub(crate) sections: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    lines: Vec<Option<Line>>,
    pub(crate) plot: BTreeMap<u64, Bucket>,
    /// Prompt tokens.
    pub(crate) cached: u64,
    pub(crate) computed: u64,
    /// The latest change that is in it.
    pub(crate) mark: u64,
    /// Records read from the store for it so far.
    pub(crate) read: u64,
    /// Everything that the store had at the last look.
    pub(crate) complete: bool,
}

impl Catalogue {
    pub(crate) fn documents(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().flatten()
    }

    /// `line` is made of the other two.
    fn take(&mut self, record: &Record, attempts: &[Attempt], line: Line) {
        self.mark = record.change_seq;
        self.read += 1;
        let at = record.seq as usize;
        if self.lines.len() <= at {
            self.lines.resize(at + 1, None);
        }
        let seen = self.lines[at].as_ref().map_or(0, |line| line.attempts as usize);
        for attempt in attempts.iter().skip(seen) {
            let number = |pointer| attempt.detail.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
            let bucket = self.plot.entry(attempt.ended_ms / BUCKET_MS).or_default();
            bucket.tokens += generated(attempt).saturating_sub(number("/usage/resumed"));
            bucket.words += number("/words");
            bucket.sections += u64::from(number("/words") > 0);
            self.cached += number("/usage/cached");
            self.computed += number("/usage/prompt").saturating_sub(number("/usage/cached"));
        }
        self.lines[at] = Some(line);
    }
}

/// The catalogue of one run.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// Locked for a walk or for one page of news, never across a wait.
    catalogue: RwLock<Catalogue>,
    /// Held by the one who reads.
    turn: Arc<Mutex<()>>,
}

impl Shelf {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings it up to date, or waits a moment for who does.
    pub(crate) async fn refresh(self: &Arc<Self>, store: &Arc<dyn Store>, run: &RunId) -> Result<()> {
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else {
            // In time or not: what is there is shown.
            drop(tokio::time::timeout(PATIENCE, self.turn.lock()).await);
            return Ok(());
        };
        let (shelf, store, run) = (Arc::clone(self), Arc::clone(store), run.clone());
        // Goes on when the page is sent: a first look at a large run takes seconds.
        let news = tokio::spawn(async move {
            let _turn = turn;
            shelf.take_news(store.as_ref(), &run).await
        });
        match tokio::time::timeout(PATIENCE, news).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => Err(StoreError::Other(format!("reading a run did not end: {error}"))),
            Err(_) => Ok(()),
        }
    }

    async fn take_news(&self, store: &dyn Store, run: &RunId) -> Result<()> {
        loop {
            let mark = self.read().mark;
            let changed = store.changed(run, mark, PAGE).await?;
            let asked: Vec<_> = changed.iter().map(|record| attempts_of(store, record.id, record.open)).collect();
            let attempts: Vec<Vec<Attempt>> = stream::iter(asked).buffered(CALLS).try_collect().await?;
            let complete = changed.len() < PAGE as usize;
            // Whole texts are parsed for it: nobody waits for the lock meanwhile.
            let lines: Vec<Line> =
                changed.iter().zip(&attempts).map(|(record, attempts)| Line::of(record, attempts)).collect();
            let mut catalogue = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
            for ((record, attempts), line) in changed.iter().zip(&attempts).zip(lines) {
                catalogue.take(record, attempts, line);
            }
            catalogue.complete = complete;
            if complete {
                return Ok(());
            }
        }
    }
}

/// A document that nobody leased has no attempts; there may be 100,000 of them.
async fn attempts_of(store: &dyn Store, id: DocumentId, open: bool) -> Result<Vec<Attempt>> {
    if open { store.attempts(id).await } else { Ok(Vec::new()) }
}

/// The runs that somebody looked at.
#[derive(Debug, Default)]
pub(crate) struct Catalogues {
    /// Each with the time of the last look. Locked for a lookup, never across a wait.
    runs: Lock<HashMap<RunId, (Arc<Shelf>, u64)>>,
}

impl Catalogues {
    /// The run's catalogue with what changed by now.
    pub(crate) async fn look(&self, store: &Arc<dyn Store>, run: &RunId) -> Result<Arc<Shelf>> {
        let shelf = self.of(run);
        shelf.refresh(store, run).await?;
        Ok(shelf)
    }

    fn of(&self, run: &RunId) -> Arc<Shelf> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let (shelf, seen) = runs.entry(run.clone()).or_default();
        *seen = clock::unix_ms();
        let shelf = Arc::clone(shelf);
        while runs.len() > 1 && runs.values().map(|(shelf, _)| shelf.read().lines.len()).sum::<usize>() > LINES {
            let others = runs.iter().filter(|(other, _)| *other != run);
            let Some(oldest) = others.min_by_key(|(_, (_, seen))| *seen).map(|(run, _)| run.clone()) else { break };
            runs.remove(&oldest);
        }
        shelf
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

    async fn filled(name: &str) -> (Arc<dyn Store>, RunId, Vec<DocumentId>) {
        let store = SqliteStore::in_memory(|| 1).unwrap();
        let run: RunId = name.parse().unwrap();
        let (recipe, recipe_hash, policy) = (String::new(), String::new(), RunPolicy::default());
        store
            .create_run(&Run { id: run.clone(), recipe, recipe_hash, seed: 0, created_ms: 1, policy, paused: false })
            .await
            .unwrap();
        let row = |line: u64| BadRow {
            file: "rows".into(),
            line,
            key: String::new(),
            problem: "bad".into(),
            remedy: "mend it".into(),
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
    async fn a_page_costs_what_changed_since_the_last_one_and_not_what_there_is() {
        let (store, run, ids) = filled("r").await;
        let catalogues = Catalogues::default();
        let shelf = catalogues.look(&store, &run).await.unwrap();
        assert_eq!((shelf.read().read, shelf.read().complete), (DOCUMENTS, true));
        for _ in 0..10 {
            let shelf = catalogues.look(&store, &run).await.unwrap();
            assert_eq!(shelf.read().read, DOCUMENTS, "nothing is read twice");
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
        let shelf = catalogues.look(&store, &run).await.unwrap();
        assert_eq!(shelf.read().read, DOCUMENTS + 1, "the one that changed");
        let cancelled = shelf.read().documents().filter(|line| line.state == State::Cancelled).count();
        assert_eq!((cancelled, shelf.read().documents().count() as u64), (1, DOCUMENTS));
    }

    #[tokio::test]
    async fn a_run_that_nobody_looks_at_makes_room_for_one_that_is_looked_at() {
        let (store, run, _) = filled("r").await;
        let catalogues = Catalogues::default();
        let shelf = catalogues.look(&store, &run).await.unwrap();
        let many = LINES + 1;
        shelf.catalogue.write().unwrap().lines.resize(many, None);
        catalogues.of(&run);
        assert_eq!(catalogues.runs.lock().unwrap().len(), 1, "a run that is looked at stays, however large");
        catalogues.of(&"other".parse().unwrap());
        let runs = catalogues.runs.lock().unwrap();
        assert_eq!(runs.keys().map(RunId::as_str).collect::<Vec<_>>(), ["other"]);
    }
}
