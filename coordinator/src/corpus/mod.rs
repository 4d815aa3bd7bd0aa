//! The corpus: accepted documents in shards on disk, and the folder that is exported from them.
//!
//! The order of every flush: the shard is durable, then its line in the manifest, then the flushed mark in the store. A crash
//! in between leaves a shard that no manifest names (removed by [`Corpus::open`]) or a document that is in the corpus and
//! not marked (marked by the next [`Corpus::flush_once`]). So each id is in the corpus exactly once after any crash.
//!
//! ```text
//! DIR/.longhand/manifest.jsonl            one line for each shard, append-only
//! DIR/.longhand/shards/shard-000001.jsonl records, one on each line
//! DIR/.longhand/export.{new,ready,old}    an export in progress; see `replace_export`
//! ```

mod archive;
mod card;
mod dataset;
mod error;
mod export;
mod flush;
mod folder;
mod format;
mod manifest;
mod markdown;
mod packing;
mod publish;
mod record;
mod refilter;
mod rejections;
mod replace_export;
mod restore;
mod run_archive;
mod shard;
mod split;
mod stats;
mod storage_location;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use longhand_proto::{DocumentId, RunId};

use crate::domain::recipe::Recipe;
use crate::files::atomic;
use crate::store::{Run, Source, StoreError};

pub use crate::run_stats::Cost;
pub use archive::Archive;
pub use dataset::Limits;
pub use error::{CorpusError, Result};
pub use export::Options;
pub use flush::Flushed;
pub use folder::{CorpusFolder, FolderError};
pub use format::Format;
pub use manifest::{DocumentRound, Entry};
pub use packing::{Count, Packing, TokenCount, WINDOW};
pub use publish::{Published, publish};
pub use record::{JudgeRecord, Provenance, Record, SectionRecord, SummaryRecord, VoteRecord};
pub use refilter::{Refiltered, RuleMoves};
pub use run_archive::{ArchivedFile, RunArchive, RunManifest};
pub use stats::{Attempts, Bin, Histogram, RunTiming, Stats, Tokens};
pub use storage_location::StorageLocation;

pub(crate) use longhand_proto::number::{grouped, plural};

use error::REBUILD;
use manifest::Manifest;
use replace_export::STATE_FOLDER;

/// The shards of one output folder. One process at a time opens it: the caller holds the folder's lock.
#[derive(Debug)]
pub struct Corpus {
    dir: PathBuf,
    run: Run,
    recipe: Recipe,
    manifest: Manifest,
    entries: Vec<Entry>,
    /// Latest round of each document.
    rounds: HashMap<DocumentId, u32>,
    /// Number of the next shard.
    next: u32,
    /// Accepted documents that cannot be read, and why.
    unreadable: HashMap<DocumentId, String>,
}

impl Corpus {
    /// Opens the corpus of a run in `dir`, or creates one; completes or removes what a crash left.
    ///
    /// # Errors
    /// The store does not know the run, a file cannot be read or written, or a shard is damaged.
    pub async fn open(dir: &Path, run: &RunId, store: &dyn Source) -> Result<Self> {
        let run = store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
        let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
        let dir = dir.to_owned();
        blocking(move || Self::read(dir, run, recipe)).await
    }

    fn read(dir: PathBuf, run: Run, recipe: Recipe) -> Result<Self> {
        let shards = shards(&dir);
        atomic::make_folder(&shards)?;
        replace_export::resume(&dir)?;
        let (manifest, entries) = Manifest::open(dir.join(STATE_FOLDER).join("manifest.jsonl"))?;
        let named: HashSet<&str> = entries.iter().map(|entry| entry.file.as_str()).collect();
        for (name, path) in atomic::names(&shards)? {
            if !named.contains(name.as_str()) {
                atomic::remove(&path)?;
            }
        }
        for entry in &entries {
            let path = shards.join(&entry.file);
            let size = std::fs::metadata(&path).map_or(None, |meta| Some(meta.len()));
            if size != Some(entry.bytes) {
                return Err(CorpusError::damaged(&path, 0, REBUILD));
            }
        }
        let (rounds, unreadable) = (HashMap::new(), HashMap::new());
        let mut corpus = Self { dir, run, recipe, manifest, entries: Vec::new(), rounds, next: 1, unreadable };
        entries.into_iter().for_each(|entry| corpus.add_entry(entry));
        Ok(corpus)
    }

    /// Ids of the documents that it holds, in no order.
    pub fn ids(&self) -> impl Iterator<Item = DocumentId> {
        self.rounds.keys().copied()
    }

    /// Number of documents that it holds.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// True if it holds no document.
    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// True if it holds this round of the document, or a later one.
    pub fn holds(&self, id: DocumentId, round: u32) -> bool {
        self.rounds.get(&id).is_some_and(|latest| *latest >= round)
    }

    /// The shards, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn shards(&self) -> PathBuf {
        shards(&self.dir)
    }

    fn add_entry(&mut self, entry: Entry) {
        self.next = self.next.max(shard::number(&entry.file).map_or(0, |number| number + 1));
        self.rounds.extend(entry.ids.iter().map(|document| (document.id, document.round)));
        self.entries.push(entry);
    }
}

fn shards(dir: &Path) -> PathBuf {
    dir.join(STATE_FOLDER).join("shards")
}

/// Runs blocking file operations outside the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(CorpusError::io(Path::new("."), io::Error::other(error))),
        },
    }
}
