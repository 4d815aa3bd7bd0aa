//! The list of shards that count, one a line, only ever added to. A shard that it does not name does not exist.

use std::fs::{self, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use longhand_proto::DocumentId;
use serde::{Deserialize, Serialize};

use super::{CorpusError, REBUILD, Result};
use crate::files::atomic;

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub file: String,
    pub records: u64,
    pub bytes: u64,
    /// Of the whole file, hexadecimal.
    pub blake3: String,
    /// Its records in order.
    pub ids: Vec<Held>,
}

/// A document's text in a shard. A requeued document is written again, as a later round; the latest one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub id: DocumentId,
    pub round: u32,
}

/// The file, and how much of it is known to be whole.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    path: PathBuf,
    length: u64,
}

impl Manifest {
    /// Reads the file. A last line that was torn by a crash is cut off: its shard was never promised to anybody.
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
                // Only an append that never ended leaves a line without its end, or a hole of zeros in it.
                Err(_) if length + line.len() == bytes.len() && (!line.ends_with(b"\n") || line.contains(&0)) => break,
                Err(_) => return Err(CorpusError::damaged(&path, number, REBUILD)),
            }
            length += line.len();
        }
        let manifest = Self { path, length: length as u64 };
        if length < bytes.len() {
            manifest.write(b"")?;
        } else if !bytes.is_empty() && !bytes.ends_with(b"\n") {
            // Whole but for its end: kept, as its documents may be marked already.
            return manifest.write(b"\n").map(|length| (Self { length, ..manifest }, entries));
        }
        Ok((manifest, entries))
    }

    /// Adds an entry, durably; returns the manifest that holds it. If that fails, the next try writes over what the
    /// failed one left.
    pub(super) fn append(&self, entry: &Entry) -> Result<Self> {
        let mut line = serde_json::to_vec(entry).map_err(|error| CorpusError::io(&self.path, error.into()))?;
        line.push(b'\n');
        self.write(&line).map(|length| Self { path: self.path.clone(), length })
    }

    /// Puts `bytes` after the part that is whole; returns the new length.
    fn write(&self, bytes: &[u8]) -> Result<u64> {
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
            // What a failed append left.
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
