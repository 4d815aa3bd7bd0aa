//! Writes `data/train-XXXXX-of-NNNNN.parquet` and `.jsonl`, and `validation-...`: the same records in the same order in each
//! file type of the format.
//!
//! Columns are typed and the same in every file. Parquet has no type for an open set of keys: a row's `metadata` is an object
//! in JSONL and its JSON text in Parquet.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_json::reader::{Decoder, ReaderBuilder};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::{CorpusError, Format, Result};

/// Records of one decoded batch.
const BATCH: usize = 32;
/// Size of a row group, which is held in memory until it is full.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Greatest size of a data file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a file.
    pub records: u64,
    /// Bytes of the rows as JSON.
    pub bytes: u64,
}

impl Default for Limits {
    /// One file holds LongWriter-6k.
    fn default() -> Self {
        Self { records: 10_000, bytes: 256 * 1024 * 1024 }
    }
}

/// Writes one split. Files have temporary names until the end, as final names contain their number.
#[derive(Debug)]
pub(super) struct DatasetWriter {
    folder: PathBuf,
    split: &'static str,
    format: Format,
    limits: Limits,
    part: Option<Part>,
    /// Files that are complete.
    parts: u32,
}

/// The files of one number.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    jsonl: Option<BufWriter<File>>,
    parquet: Option<ParquetWriter>,
    records: u64,
    bytes: u64,
}

/// A Parquet file of records.
#[derive(Debug)]
struct ParquetWriter {
    path: PathBuf,
    file: ArrowWriter<File>,
    decoder: Decoder,
    /// Rows of the current batch.
    batched: usize,
}

impl DatasetWriter {
    pub(super) fn new(folder: PathBuf, split: &'static str, format: Format, limits: Limits) -> Self {
        Self { folder, split, format, limits, part: None, parts: 0 }
    }

    /// Adds a row, given as JSON without a line break.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<()> {
        if let Some(part) = self
            .part
            .take_if(|part| part.records >= self.limits.records || part.bytes + line.len() as u64 >= self.limits.bytes)
        {
            part.finish()?;
            self.parts += 1;
        }
        let part = match self.part.take() {
            Some(part) => part,
            None => self.begin()?,
        };
        self.part.insert(part).add(line)
    }

    /// Completes the last file, renames all files to their final names under `split` and returns these. None without rows:
    /// `datasets` cannot load a split that is empty.
    pub(super) fn finish(mut self, split: &str) -> Result<Vec<String>> {
        let Some(last) = self.part.take() else { return Ok(Vec::new()) };
        last.finish()?;
        let parts = self.parts + 1;
        let mut names = Vec::new();
        for part in 0..parts {
            for extension in self.format.extensions() {
                let from = self.path(part).with_extension(extension);
                let name = format!("{split}-{part:05}-of-{parts:05}.{extension}");
                let to = self.folder.join(&name);
                fs::rename(&from, &to).map_err(|error| CorpusError::io(&to, error))?;
                names.push(name);
            }
        }
        Ok(names)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{}-part-{number:05}", self.split))
    }

    fn begin(&self) -> Result<Part> {
        let path = self.path(self.parts);
        let create = |extension: &str| {
            let path = path.with_extension(extension);
            File::create(&path).map_err(|error| CorpusError::io(&path, error))
        };
        let has = |extension| self.format.extensions().contains(&extension);
        Ok(Part {
            jsonl: has("jsonl").then(|| create("jsonl")).transpose()?.map(BufWriter::new),
            parquet: has("parquet")
                .then(|| ParquetWriter::new(&path, create("parquet")?, self.format.columns()))
                .transpose()?,
            path,
            records: 0,
            bytes: 0,
        })
    }
}

impl Part {
    fn add(&mut self, line: &[u8]) -> Result<()> {
        if let Some(jsonl) = &mut self.jsonl {
            jsonl
                .write_all(line)
                .and_then(|()| jsonl.write_all(b"\n"))
                .map_err(|error| CorpusError::io(&self.path.with_extension("jsonl"), error))?;
        }
        if let Some(parquet) = &mut self.parquet {
            parquet.add(line)?;
        }
        self.records += 1;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }

    fn finish(self) -> Result<()> {
        if let Some(jsonl) = self.jsonl {
            let durable = jsonl.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
            durable.map_err(|error| CorpusError::io(&self.path.with_extension("jsonl"), error))?;
        }
        self.parquet.map_or(Ok(()), ParquetWriter::finish)
    }
}

impl ParquetWriter {
    fn new(path: &Path, file: File, columns: SchemaRef) -> Result<Self> {
        let level = ZstdLevel::try_new(9).map_err(|error| parquet_error(path, error))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        Ok(Self {
            file: ArrowWriter::try_new(file, columns.clone(), Some(properties))
                .map_err(|error| parquet_error(path, error))?,
            decoder: ReaderBuilder::new(columns)
                .with_batch_size(BATCH)
                .build_decoder()
                .map_err(|error| arrow_error(path, error))?,
            path: path.to_owned(),
            batched: 0,
        })
    }

    fn add(&mut self, line: &[u8]) -> Result<()> {
        self.decoder.serialize(&[row(line, &self.path)?]).map_err(|error| arrow_error(&self.path, error))?;
        self.batched += 1;
        if self.batched == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.batched = 0;
        if let Some(batch) = self.decoder.flush().map_err(|error| arrow_error(&self.path, error))? {
            self.file.write(&batch).map_err(|error| parquet_error(&self.path, error))?;
            if self.file.in_progress_size() >= ROW_GROUP_BYTES {
                self.file.flush().map_err(|error| parquet_error(&self.path, error))?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        let file = self.file.into_inner().map_err(|error| parquet_error(&self.path, error))?;
        file.sync_all().map_err(|error| CorpusError::io(&self.path.with_extension("parquet"), error))
    }
}

/// A record in the columns of Parquet.
fn row(line: &[u8], path: &Path) -> Result<Value> {
    let mut row: Value = serde_json::from_slice(line).map_err(|error| CorpusError::io(path, error.into()))?;
    if let Some(metadata) = row.get_mut("metadata") {
        *metadata = Value::String(metadata.to_string());
    }
    Ok(row)
}

fn parquet_error(path: &Path, error: ParquetError) -> CorpusError {
    let path = path.with_extension("parquet");
    let ParquetError::External(error) = error else { return CorpusError::io(&path, io::Error::other(error)) };
    match error.downcast::<io::Error>() {
        Ok(error) => CorpusError::io(&path, *error),
        Err(error) => CorpusError::io(&path, io::Error::other(error)),
    }
}

fn arrow_error(path: &Path, error: ArrowError) -> CorpusError {
    CorpusError::io(&path.with_extension("parquet"), io::Error::other(error))
}
