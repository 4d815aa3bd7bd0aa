//! Accepted documents outside the store, where coordinators put them as they are accepted: what is left if the store is
//! emptied. Each coordinator writes shards under a name of its own, so that none waits for another; the same document
//! may then stand in two shards, and the latest round of it counts.
//!
//! ```text
//! PLACE/RUN/shards/WRITER-000001.jsonl     records, one a line, as in the corpus
//! PLACE/RUN/manifest/WRITER-000001.json    what the shard holds; a shard without it does not exist
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longhand_proto::{DocumentId, LeaseId, RunId, chance};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::flush::{BATCH, document};
use super::manifest::{Entry, Held};
use super::restore::restore;
use super::{CorpusError, Place, Record, Result};
use crate::domain::recipe::Recipe;
use crate::files::atomic;
use crate::store::{Run, Store, StoreError};

#[derive(Debug)]
pub struct Archive {
    place: Place,
    /// Of this process alone.
    writer: String,
    /// Number of the next shard.
    next: AtomicU32,
    /// What is known of each run's shards: they are only ever added to.
    shelves: Mutex<HashMap<RunId, Shelf>>,
}

#[derive(Debug, Default)]
struct Shelf {
    read: HashSet<String>,
    /// The shard and the line of the latest round of each document.
    held: HashMap<DocumentId, (u32, String, usize)>,
}

impl Archive {
    pub fn open(place: Place) -> Self {
        let writer = LeaseId::mint().to_string();
        Self { place, writer, next: AtomicU32::new(1), shelves: Mutex::default() }
    }

    /// Writes accepted documents of all runs until `shutdown`, and once more then. What failed is tried again.
    pub async fn keep(&self, store: &dyn Store, every: Duration, shutdown: CancellationToken) {
        loop {
            let over = shutdown.run_until_cancelled(tokio::time::sleep(chance::around(every))).await.is_none();
            match self.flush_all(store).await {
                Ok(0) => {}
                Ok(written) => tracing::info!(written, "accepted documents archived"),
                Err(error) => tracing::warn!(%error, "accepted documents were not archived; will be tried again"),
            }
            if over {
                return;
            }
        }
    }

    async fn flush_all(&self, store: &dyn Store) -> Result<u64> {
        let mut written = 0;
        for run in store.runs().await? {
            written += self.flush(store, &run).await?;
        }
        Ok(written)
    }

    /// Shard, manifest, mark: in this order, for all accepted documents of a run. Returns how many were written.
    pub async fn flush(&self, store: &dyn Store, run: &Run) -> Result<u64> {
        let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
        let mut written = 0;
        loop {
            let stored = store.unflushed(&run.id, BATCH).await?;
            if stored.is_empty() {
                return Ok(written);
            }
            let (mut bytes, mut ids) = (Vec::new(), Vec::new());
            for stored in &stored {
                let document = document(stored)?;
                let record = Record::of(&document, run, &recipe).ok_or_else(|| CorpusError::Document {
                    id: stored.id,
                    problem: "it is listed as accepted, but its body is not finished".into(),
                })?;
                atomic::json_line(&mut bytes, &record)
                    .map_err(|error| CorpusError::Document { id: stored.id, problem: error.to_string() })?;
                ids.push(Held { id: document.id, round: document.round });
            }
            let name = format!("{}-{:06}", self.writer, self.next.fetch_add(1, Ordering::Relaxed));
            let entry = Entry {
                file: format!("{name}.jsonl"),
                records: ids.len() as u64,
                bytes: bytes.len() as u64,
                blake3: blake3::hash(&bytes).to_hex().to_string(),
                ids,
            };
            let manifest = serde_json::to_vec(&entry).map_err(|error| StoreError::Other(error.to_string()))?;
            self.place.put(&format!("{}/shards/{}", run.id, entry.file), bytes).await?;
            self.place.put(&format!("{}/manifest/{name}.json", run.id), manifest).await?;
            let ids: Vec<DocumentId> = stored.iter().map(|stored| stored.id).collect();
            store.mark_flushed(&run.id, &ids).await?;
            written += entry.records;
        }
    }

    /// Documents that were just submitted come to the end that they had come to before the store lost them. Returns how
    /// many.
    pub async fn restore(&self, store: &dyn Store, run: &RunId, ids: &[DocumentId]) -> Result<u64> {
        let mut restored = 0;
        for (record, round) in self.find(run, ids).await? {
            restored += u64::from(restore(store, &record, round).await?);
        }
        Ok(restored)
    }

    /// The records of those documents that are here, with their rounds.
    pub async fn find(&self, run: &RunId, ids: &[DocumentId]) -> Result<Vec<(Record, u32)>> {
        let mut shelves = self.shelves.lock().await;
        let shelf = shelves.entry(run.clone()).or_default();
        for name in self.place.list(&format!("{run}/manifest")).await? {
            if shelf.read.contains(&name) {
                continue;
            }
            let Some(bytes) = self.place.get(&name).await? else { continue };
            let entry: Entry = serde_json::from_slice(&bytes).map_err(|_| self.damaged(&name))?;
            for (held, line) in entry.ids.iter().zip(0..) {
                let known = shelf.held.get(&held.id);
                if known.is_none_or(|(round, _, _)| *round < held.round) {
                    shelf.held.insert(held.id, (held.round, entry.file.clone(), line));
                }
            }
            shelf.read.insert(name);
        }
        let mut wanted: BTreeMap<&str, Vec<(usize, u32)>> = BTreeMap::new();
        for (round, file, line) in ids.iter().filter_map(|id| shelf.held.get(id)) {
            wanted.entry(file).or_default().push((*line, *round));
        }
        let mut found = Vec::new();
        for (file, places) in wanted {
            let name = format!("{run}/shards/{file}");
            let bytes = self.place.get(&name).await?.ok_or_else(|| self.damaged(&name))?;
            let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            for (line, round) in places {
                let record = lines.get(line).and_then(|line| serde_json::from_slice(line).ok());
                found.push((record.ok_or_else(|| self.damaged(&name))?, round));
            }
        }
        Ok(found)
    }

    fn damaged(&self, name: &str) -> CorpusError {
        CorpusError::Place {
            name: format!("{}/{name}", self.place),
            problem: "it is damaged or missing; move the run's folder away and submit again: its documents are then \
                      written anew"
                .into(),
        }
    }
}
