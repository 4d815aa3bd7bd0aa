//! The corpus: accepted documents in shards on disk, and the folder that is made of them for the world.
//!
//! The order of every flush: the shard is durable, then its line in the manifest, then the mark in the store. A crash
//! in between leaves a shard that no manifest names (removed by [`Corpus::open`]) or a document that is in the corpus
//! and not marked (marked by the next [`Corpus::flush_once`]). So each id stands in the corpus once, wherever the process died.
//!
//! ```text
//! DIR/.longhand/manifest.jsonl            one line a shard, only ever added to
//! DIR/.longhand/shards/shard-000001.jsonl records, one a line
//! DIR/.longhand/export.{new,ready,old}    an export on its way; see `export::install`
//! ```

mod archive;
mod card;
mod dataset;
mod export;
mod flush;
mod format;
mod install;
mod lists;
mod manifest;
mod packing;
mod place;
mod publish;
mod record;
mod restore;
mod shard;
mod split;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use longhand_proto::{DocumentId, RunId};

use crate::domain::recipe::Recipe;
use crate::files::{FileError, atomic};
use crate::store::{Run, Source, StoreError};

pub use archive::Archive;
pub use dataset::Limits;
pub use export::Options;
pub use flush::Flushed;
pub use format::{By, Format};
pub use manifest::{Entry, Held};
pub use packing::{Count, Packing, TokenCount, WINDOW};
pub use place::Place;
pub use publish::{Published, publish};
pub use record::{Judged, Provenance, Record, SectionRecord, SummaryRecord, VoteRecord};
pub use stats::{Attempts, Bin, Histogram, Stats, Tokens, Wall};

use manifest::Manifest;

/// State of the run inside the output folder.
const STATE: &str = ".longhand";
/// What helps against a shard or manifest that was changed by other hands: the store still holds all texts.
const REBUILD: &str = "delete .longhand/manifest.jsonl and .longhand/shards and run again: the store still holds every \
                       accepted document, and they are written anew";

/// Why the corpus could not be written or read. No half file stands under a final name in any case.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    #[error(transparent)]
    File(#[from] FileError),
    /// `line` is 0 where the file as a whole is meant.
    #[error("{}{} is damaged or missing; {remedy}", file.display(), at_line(*line))]
    Damaged { file: PathBuf, line: u64, remedy: String },
    /// An export exchanges the whole folder `data`.
    #[error("{} is no file of an export and would be lost; move it out of the folder and run again", path.display())]
    Foreign { path: PathBuf },
    /// The store's document is not what the store says it is.
    #[error("document {id} in the store cannot be used: {problem}")]
    Document { id: DocumentId, problem: String },
    /// What happened at a place that may be far away.
    #[error("{name}: {problem}")]
    Place { name: String, problem: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn at_line(line: u64) -> String {
    if line == 0 { String::new() } else { format!(", line {line},") }
}

impl CorpusError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        FileError::io(path, source).into()
    }

    fn damaged(file: &Path, line: u64, remedy: &str) -> Self {
        Self::Damaged { file: file.to_owned(), line, remedy: remedy.into() }
    }
}

pub type Result<T, E = CorpusError> = std::result::Result<T, E>;

/// The shards of one output folder. One process at a time opens it: the caller holds the folder's lock.
#[derive(Debug)]
pub struct Corpus {
    dir: PathBuf,
    run: Run,
    recipe: Recipe,
    manifest: Manifest,
    entries: Vec<Entry>,
    /// Latest round of each document.
    held: HashMap<DocumentId, u32>,
    /// Number of the next shard.
    next: u32,
}

impl Corpus {
    /// Opens the corpus of a run in `dir`, or begins one; finishes or clears away what a crash left.
    pub async fn open(dir: &Path, run: &RunId, store: &dyn Source) -> Result<Self> {
        let run = store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
        let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
        let dir = dir.to_owned();
        blocking(move || Self::read(dir, run, recipe)).await
    }

    fn read(dir: PathBuf, run: Run, recipe: Recipe) -> Result<Self> {
        let shards = shards(&dir);
        atomic::make_folder(&shards)?;
        install::resume(&dir)?;
        let (manifest, entries) = Manifest::open(dir.join(STATE).join("manifest.jsonl"))?;
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
        let mut corpus = Self { dir, run, recipe, manifest, entries: Vec::new(), held: HashMap::new(), next: 1 };
        entries.into_iter().for_each(|entry| corpus.take(entry));
        Ok(corpus)
    }

    /// Ids of the documents that it holds, in no order.
    pub fn ids(&self) -> impl Iterator<Item = DocumentId> {
        self.held.keys().copied()
    }

    /// Number of documents that it holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// True if it holds this round of the document, or a later one.
    pub fn holds(&self, id: DocumentId, round: u32) -> bool {
        self.held.get(&id).is_some_and(|held| *held >= round)
    }

    /// The shards, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn shards(&self) -> PathBuf {
        shards(&self.dir)
    }

    fn take(&mut self, entry: Entry) {
        self.next = self.next.max(shard::number(&entry.file).map_or(0, |number| number + 1));
        self.held.extend(entry.ids.iter().map(|held| (held.id, held.round)));
        self.entries.push(entry);
    }
}

fn shards(dir: &Path) -> PathBuf {
    dir.join(STATE).join("shards")
}

/// Runs file work off the runtime's threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(CorpusError::io(Path::new(""), io::Error::other(error))),
        },
    }
}
