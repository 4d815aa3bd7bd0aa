//! A batch of accepted records in one file, one on each line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use longhand_proto::DocumentId;

use super::error::REBUILD;
use super::manifest::{DocumentRound, Entry};
use super::{CorpusError, Record, Result};
use crate::files::atomic;

/// Writes the shard with this number durably. Each record comes with the round of its document.
pub(super) fn write(folder: &Path, number: u32, records: &[(Record, u32)]) -> Result<Entry> {
    let file = name(number);
    let (bytes, blake3) = atomic::write(folder, &file, |out| {
        let mut out = HashingWriter { out, hash: blake3::Hasher::new(), bytes: 0 };
        for (record, _) in records {
            atomic::json_line(&mut out, record)?;
        }
        Ok((out.bytes, out.hash.finalize().to_hex().to_string()))
    })?;
    let ids = records.iter().map(|(record, round)| DocumentRound { id: record.id, round: *round }).collect();
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

/// Byte ranges of the records of shards, to read them in any order.
#[derive(Debug, Default)]
pub(super) struct ShardIndex {
    files: Vec<String>,
    records: HashMap<DocumentId, Span>,
}

/// Byte range of a record in a file, without the line break.
#[derive(Debug, Clone, Copy)]
struct Span {
    file: usize,
    start: u64,
    length: usize,
}

impl ShardIndex {
    /// Adds a shard, and checks it against its manifest entry.
    pub(super) fn add(&mut self, folder: &Path, entry: &Entry) -> Result<()> {
        let path = folder.join(&entry.file);
        let damaged = |line: u64| CorpusError::damaged(&path, line, REBUILD);
        let mut reader = BufReader::new(File::open(&path).map_err(|error| CorpusError::io(&path, error))?);
        let mut hash = blake3::Hasher::new();
        let (mut line, mut start) = (Vec::new(), 0);
        for (document, number) in entry.ids.iter().zip(1..) {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(|error| CorpusError::io(&path, error))?;
            hash.update(&line);
            // A full parse would double the cost of an export; the hash below covers the content.
            if line.pop() != Some(b'\n') || !line.starts_with(format!("{{\"id\":\"{}\"", document.id).as_bytes()) {
                return Err(damaged(number));
            }
            let span = Span { file: self.files.len(), start, length: length - 1 };
            self.records.insert(document.id, span);
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
        let Some(span) = self.records.get(&id) else { return Ok(None) };
        let path = folder.join(&self.files[span.file]);
        let mut line = vec![0; span.length];
        File::open(&path)
            .and_then(|mut file| {
                file.seek(SeekFrom::Start(span.start))?;
                file.read_exact(&mut line)
            })
            .map_err(|error| CorpusError::io(&path, error))?;
        Ok(Some(line))
    }
}

/// Counts and hashes the bytes written through it.
struct HashingWriter<W> {
    out: W,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Write for HashingWriter<W> {
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
