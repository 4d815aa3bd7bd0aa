//! A batch of accepted records in one file, one a line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use longhand_proto::DocumentId;

use super::manifest::{Entry, Held};
use super::{CorpusError, Record, Result};
use crate::files::atomic;

/// Writes the shard with this number, durably. `rounds` says which round of its document each record is of.
pub(super) fn write(folder: &Path, number: u32, records: &[(Record, u32)]) -> Result<Entry> {
    let file = name(number);
    let (bytes, blake3) = atomic::write(folder, &file, |out| {
        let mut out = Hashing { out, hash: blake3::Hasher::new(), bytes: 0 };
        for (record, _) in records {
            atomic::json_line(&mut out, record)?;
        }
        Ok((out.bytes, out.hash.finalize().to_hex().to_string()))
    })?;
    let ids = records.iter().map(|(record, round)| Held { id: record.id, round: *round }).collect();
    Ok(Entry { file, records: records.len() as u64, bytes, blake3, ids })
}

/// Name of the shard with this number.
pub(super) fn name(number: u32) -> String {
    format!("shard-{number:06}.jsonl")
}

/// Number of the shard with this name.
pub(super) fn number(name: &str) -> Option<u32> {
    name.strip_prefix("shard-")?.strip_suffix(".jsonl")?.parse().ok()
}

/// Where the records of shards begin and end, so that they can be read in another order than they were written in.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: Vec<String>,
    records: HashMap<DocumentId, Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    start: u64,
    length: usize,
}

impl Index {
    /// Adds a shard, and checks it against its manifest entry.
    pub(super) fn add(&mut self, folder: &Path, entry: &Entry) -> Result<()> {
        let path = folder.join(&entry.file);
        let damaged = |line: u64| CorpusError::damaged(&path, line, super::REBUILD);
        let mut reader = BufReader::new(File::open(&path).map_err(|error| CorpusError::io(&path, error))?);
        let mut hash = blake3::Hasher::new();
        let (mut line, mut start) = (Vec::new(), 0);
        for (held, number) in entry.ids.iter().zip(1..) {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(|error| CorpusError::io(&path, error))?;
            hash.update(&line);
            // A full parse would double the cost of an export; the hash below covers the content.
            if line.pop() != Some(b'\n') || !line.starts_with(format!("{{\"id\":\"{}\"", held.id).as_bytes()) {
                return Err(damaged(number));
            }
            let place = Place { file: self.files.len(), start, length: length - 1 };
            self.records.insert(held.id, place);
            start += length as u64;
        }
        if start != entry.bytes || hash.finalize().to_hex().as_str() != entry.blake3 {
            return Err(damaged(0));
        }
        self.files.push(entry.file.clone());
        Ok(())
    }

    /// The line of a record, without its end.
    pub(super) fn read(&self, folder: &Path, id: DocumentId) -> Result<Option<Vec<u8>>> {
        let Some(place) = self.records.get(&id) else { return Ok(None) };
        let path = folder.join(&self.files[place.file]);
        let mut line = vec![0; place.length];
        File::open(&path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(place.start))?;
                file.read_exact(&mut line)
            })
            .map_err(|error| CorpusError::io(&path, error))?;
        Ok(Some(line))
    }
}

/// Counts and hashes what goes through.
struct Hashing<W> {
    out: W,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
