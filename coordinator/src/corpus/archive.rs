//! A copy of accepted documents outside the store, written by coordinators as documents are accepted: a backup if the store
//! is emptied. Each coordinator writes shards under a name of its own, so none waits for another; the same document may then
//! be in two shards, and its latest round is valid.
//!
//! ```text
//! LOCATION/RUN/shards/WRITER-000001.jsonl     records, one on each line, as in the corpus
//! LOCATION/RUN/manifest/WRITER-000001.json    contents of the shard; a shard without it does not count
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use longhand_proto::{DocumentId, LeaseId, RunId, clock, rng};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::flush::{BATCH, document};
use super::manifest::{DocumentRound, Entry};
use super::restore::restore;
use super::{CorpusError, Record, Result, StorageLocation};
use crate::domain::recipe::Recipe;
use crate::files::atomic;
use crate::store::{Run, Store, StoreError};

/// Mean time between two rounds that look at all runs, where there are more of them than [`FEW_RUNS`].
const ALL_RUNS: Duration = Duration::from_secs(300);
/// So many runs are looked at in every round.
const FEW_RUNS: usize = 256;

/// The archive of one coordinator.
#[derive(Debug)]
pub struct Archive {
    location: StorageLocation,
    /// Unique to this process.
    writer: String,
    /// Number of the next shard.
    next: AtomicU32,
    /// Runs in the store when all were looked at last.
    runs: AtomicUsize,
    /// Indexes of the shards of each run, which are append-only.
    indexes: Mutex<HashMap<RunId, RunIndex>>,
}

/// Which shard holds each document of a run.
#[derive(Debug, Default)]
struct RunIndex {
    /// Names of the manifests that are included.
    read: HashSet<String>,
    /// Latest round of each document, with its shard and line.
    documents: HashMap<DocumentId, (u32, String, usize)>,
    /// What the manifests state of their shards.
    hashes: HashMap<String, String>,
}

impl Archive {
    /// An archive in `location`.
    pub fn open(location: StorageLocation) -> Self {
        let writer = LeaseId::mint().to_string();
        Self { location, writer, next: AtomicU32::new(1), runs: AtomicUsize::new(0), indexes: Mutex::default() }
    }

    /// Archives accepted documents about once in `every`, and a last time at `shutdown`. A round looks at the runs that are
    /// active or were in the round before, and at all if they are few; the first one, the last one and one about every five minutes
    /// look at all in any case, for what began and ended between two rounds or while no coordinator ran. Errors are logged and the next round retries.
    pub async fn run(&self, store: &dyn Store, every: Duration, shutdown: CancellationToken) {
        let (mut before, mut all_at) = (BTreeMap::new(), clock::now());
        loop {
            let stopping = shutdown.run_until_cancelled(tokio::time::sleep(rng::around(every))).await.is_none();
            let few = self.runs.load(Ordering::Relaxed) <= FEW_RUNS;
            let all = stopping || few || clock::now() >= all_at;
            match self.flush_round(store, &mut before, all).await {
                Ok(0) => {}
                Ok(written) => tracing::info!(written, "accepted documents archived"),
                Err(error) => tracing::warn!(%error, "the runs could not be listed for the archive; retrying"),
            }
            if stopping {
                return;
            }
            if all {
                all_at = clock::now() + rng::around(ALL_RUNS);
            }
        }
    }

    /// Archives the runs that are active, those of `before`, or `all`. `before` becomes the active ones, and those that could not
    /// be archived: they are named in the log, and the others are archived.
    pub(super) async fn flush_round(
        &self,
        store: &dyn Store,
        before: &mut BTreeMap<RunId, Run>,
        all: bool,
    ) -> Result<u64> {
        let by_id = |runs: Vec<Run>| runs.into_iter().map(|run| (run.id.clone(), run));
        let mut next: BTreeMap<RunId, Run> = by_id(store.active_runs().await?).collect();
        before.extend(next.clone());
        if all {
            let runs = store.runs().await?;
            self.runs.store(runs.len(), Ordering::Relaxed);
            before.extend(by_id(runs));
        }
        let mut written = 0;
        for (id, run) in std::mem::take(before) {
            match self.flush(store, &run).await {
                Ok(documents) => written += documents,
                // It was deleted.
                Err(CorpusError::Store(StoreError::NotFound { .. })) => {}
                Err(error) => {
                    tracing::warn!(run = %id, %error, "the run could not be archived; retrying");
                    next.insert(id, run);
                }
            }
        }
        *before = next;
        Ok(written)
    }

    /// Archives all accepted documents of a run: the shard, then its manifest, then the marks in the store. Returns the number
    /// of documents written. A document that cannot be read is named in the log, and the others are archived.
    ///
    /// # Errors
    /// The store failed, the run's recipe is invalid, or the location cannot be written.
    pub async fn flush(&self, store: &dyn Store, run: &Run) -> Result<u64> {
        let (mut recipe, mut written, mut unreadable) = (None, 0, HashSet::new());
        loop {
            // Those that cannot be read stay at the head.
            let mut stored = store.unflushed(&run.id, BATCH + unreadable.len() as u32).await?;
            stored.retain(|stored| !unreadable.contains(&stored.id));
            if stored.is_empty() {
                return Ok(written);
            }
            let recipe = match &mut recipe {
                Some(recipe) => recipe,
                // Only once something is to be written: most runs have nothing new.
                none => {
                    let read = Recipe::from_toml(&run.recipe);
                    none.insert(read.map_err(|error| StoreError::Refused(error.to_string()))?)
                }
            };
            let (mut bytes, mut ids) = (Vec::new(), Vec::new());
            for stored in &stored {
                match line(stored, run, recipe) {
                    Ok((line, round)) => {
                        bytes.extend(line);
                        ids.push(DocumentRound { id: stored.id, round });
                    }
                    Err(error) => {
                        tracing::error!(run = %run.id, document = %stored.id, %error, "the document cannot be archived");
                        unreadable.insert(stored.id);
                    }
                }
            }
            if ids.is_empty() {
                continue;
            }
            let done: Vec<DocumentId> = ids.iter().map(|document| document.id).collect();
            let name = format!("{}-{:06}", self.writer, self.next.fetch_add(1, Ordering::Relaxed));
            let entry = Entry {
                file: format!("{name}.jsonl"),
                records: ids.len() as u64,
                bytes: bytes.len() as u64,
                blake3: blake3::hash(&bytes).to_hex().to_string(),
                ids,
            };
            let manifest = serde_json::to_vec(&entry).map_err(|error| StoreError::Other(error.to_string()))?;
            self.location.put(&format!("{}/shards/{}", run.id, entry.file), bytes).await?;
            self.location.put(&format!("{}/manifest/{name}.json", run.id), manifest).await?;
            store.mark_flushed(&run.id, &done).await?;
            written += entry.records;
        }
    }

    /// Marks documents that were just submitted as accepted where the archive holds them: the store has lost them since.
    /// Returns their number.
    ///
    /// # Errors
    /// The store failed, or the archive cannot be read.
    pub async fn restore(&self, store: &dyn Store, run: &RunId, ids: &[DocumentId]) -> Result<u64> {
        let mut restored = 0;
        for (record, round) in self.find(run, ids).await? {
            restored += u64::from(restore(store, &record, round).await?);
        }
        Ok(restored)
    }

    /// The archived records of these documents, with their rounds.
    ///
    /// # Errors
    /// The archive cannot be read, or is damaged.
    pub async fn find(&self, run: &RunId, ids: &[DocumentId]) -> Result<Vec<(Record, u32)>> {
        let mut indexes = self.indexes.lock().await;
        let index = indexes.entry(run.clone()).or_default();
        for name in self.location.list(&format!("{run}/manifest")).await? {
            if index.read.contains(&name) {
                continue;
            }
            let Some(bytes) = self.location.get(&name).await? else { continue };
            let entry: Entry = serde_json::from_slice(&bytes).map_err(|_| self.damaged(&name))?;
            // Others may write to the archive: the name must not lead out of it.
            if entry.file.contains('/') || entry.file.starts_with('.') {
                return Err(self.damaged(&name));
            }
            index.hashes.insert(entry.file.clone(), entry.blake3.clone());
            for (document, line) in entry.ids.iter().zip(0..) {
                let known = index.documents.get(&document.id);
                if known.is_none_or(|(round, _, _)| *round < document.round) {
                    index.documents.insert(document.id, (document.round, entry.file.clone(), line));
                }
            }
            index.read.insert(name);
        }
        let mut wanted: BTreeMap<&str, Vec<(usize, u32)>> = BTreeMap::new();
        for (round, file, line) in ids.iter().filter_map(|id| index.documents.get(id)) {
            wanted.entry(file).or_default().push((*line, *round));
        }
        let mut found = Vec::new();
        for (file, lines_wanted) in wanted {
            let name = format!("{run}/shards/{file}");
            let bytes = self.location.get(&name).await?.ok_or_else(|| self.damaged(&name))?;
            if index.hashes.get(file).is_none_or(|hash| blake3::hash(&bytes).to_hex().as_str() != hash) {
                return Err(self.damaged(&name));
            }
            let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            for (line, round) in lines_wanted {
                let record = lines.get(line).and_then(|line| serde_json::from_slice(line).ok());
                found.push((record.ok_or_else(|| self.damaged(&name))?, round));
            }
        }
        Ok(found)
    }

    fn damaged(&self, name: &str) -> CorpusError {
        CorpusError::Storage {
            name: format!("{}/{name}", self.location),
            problem:
                "damaged or missing; move the run's folder out of the archive, then submit again: its documents are \
                      generated again"
                    .into(),
        }
    }
}

/// The line of an accepted document in a shard, and the document's round.
fn line(stored: &crate::store::Record, run: &Run, recipe: &Recipe) -> Result<(Vec<u8>, u32)> {
    let problem = |problem: String| CorpusError::Document { id: stored.id, problem };
    let document = document(stored)?;
    let record = Record::of(&document, run, recipe)
        .ok_or_else(|| problem("its state is accepted, but its text is not finished".into()))?;
    let mut line = Vec::new();
    atomic::json_line(&mut line, &record).map_err(|error| problem(error.to_string()))?;
    Ok((line, document.round))
}
