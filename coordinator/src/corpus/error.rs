//! Why a corpus could not be written or read.

use std::io;
use std::path::{Path, PathBuf};

use longhand_proto::DocumentId;

use crate::files::FileError;
use crate::store::StoreError;

/// Remedy for a shard or manifest that something else changed: the store still holds all texts.
pub(super) const REBUILD: &str = "delete .longhand/manifest.jsonl and .longhand/shards, then rerun the same command: \
                                  accepted documents are written again from the store";

/// Why the corpus could not be written or read. No partial file has its final name in any case.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what was written. `line` is 0 where the whole file is meant.
    #[error("{}{}: damaged or missing; {remedy}", file.display(), at_line(*line))]
    Damaged { file: PathBuf, line: u64, remedy: String },
    /// An export replaces the whole folder `data`, which holds a file of somebody else.
    #[error("{}: not a file of an export, and the export would delete it; move it out of the folder, then rerun", path.display())]
    UnexpectedFile { path: PathBuf },
    /// A document in the store is inconsistent with its state.
    #[error("document {id} in the store is invalid: {problem}")]
    Document { id: DocumentId, problem: String },
    /// An operation on a storage location failed. `name` is the location, or a file in it.
    #[error("{name}: {problem}")]
    Storage { name: String, problem: String },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Result of an operation on a corpus.
pub type Result<T, E = CorpusError> = std::result::Result<T, E>;

fn at_line(line: u64) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

impl CorpusError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        FileError::io(path, source).into()
    }

    pub(super) fn damaged(file: &Path, line: u64, remedy: &str) -> Self {
        Self::Damaged { file: file.to_owned(), line, remedy: remedy.into() }
    }
}
