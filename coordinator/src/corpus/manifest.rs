//! The append-only list of shards, one on each line. A shard that it does not name is not part of the corpus.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use longhand_proto::DocumentId;
use serde::{Deserialize, Serialize};

use super::error::{CorpusError, REBUILD, Result};
use crate::files::atomic;

/// One shard. Field names are those of the manifest file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// File name.
    pub file: String,
    /// Number of records.
    pub records: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Of the whole file, hexadecimal.
    pub blake3: String,
    /// Its records in order.
    pub ids: Vec<DocumentRound>,
}

/// A document in a shard. A requeued document is written again with a higher round; the latest one is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRound {
    /// The document.
    pub id: DocumentId,
    /// Number of requeues that came before this text.
    pub round: u32,
}

/// The file, and the length of its valid part.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    path: PathBuf,
    length: u64,
}

impl Manifest {
    /// Reads the file. An incomplete last line, left by a crash, is cut off: its documents were not marked as flushed.
    pub(super) fn open(path: PathBuf) -> Result<(Self, Vec<Entry>)> {
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(CorpusError::io(&path, error)),
        };
        let mut entries: Vec<Entry> = Vec::new();
        let mut length = 0;
        for (line, number) in bytes.split_inclusive(|byte| *byte == b'\n').zip(1..) {
            match serde_json::from_slice(line) {
                Ok(entry) => entries.push(entry),
                // Only an interrupted append leaves a line without its line break, or with zeros.
                Err(_) if length + line.len() == bytes.len() && (!line.ends_with(b"\n") || line.contains(&0)) => break,
                Err(_) => return Err(CorpusError::damaged(&path, number, REBUILD)),
            }
            length += line.len();
        }
        let manifest = Self { path, length: length as u64 };
        if length < bytes.len() {
            manifest.write(b"")?;
        } else if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            // Complete but for the line break: kept, as its documents may be marked already.
            return manifest.write(b"\n").map(|length| (Self { length, ..manifest }, entries));
        }
        Ok((manifest, entries))
    }

    /// Appends an entry durably and returns the manifest that includes it. The next attempt after a failure overwrites what
    /// the failed one left.
    pub(super) fn append(&self, entry: &Entry) -> Result<Self> {
        let mut line = serde_json::to_vec(entry).map_err(|error| CorpusError::io(&self.path, error.into()))?;
        line.push(b'\n');
        self.write(&line).map(|length| Self { path: self.path.clone(), length })
    }

    /// Writes `bytes` after the valid part and returns the new length.
    fn write(&self, bytes: &[u8]) -> Result<u64> {
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
            // Left by a failed append.
            if file.metadata()?.len() != self.length {
                file.set_len(self.length)?;
            }
            file.seek(SeekFrom::Start(self.length))?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| CorpusError::io(&self.path, error))?;
        atomic::sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        Ok(self.length + bytes.len() as u64)
    }
}
