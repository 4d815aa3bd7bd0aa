//! `data/train-XXXXX-of-NNNNN.parquet` and `.jsonl`: the same records in the same order, in both formats.
//!
//! The columns are typed and the same in every file, so readers need not guess. JSON has no type for an open set of
//! keys: a row's `metadata` is an object in JSONL and the JSON text of it in Parquet.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arrow_json::reader::{Decoder, ReaderBuilder};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use super::{CorpusError, Result};

/// Records of one decoded batch.
const BATCH: usize = 32;
/// A row group is held in memory until it is full.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// When the next file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) records: u64,
    /// Of the JSONL file.
    pub(super) bytes: u64,
}

impl Default for Limits {
    /// Files of a size that is easy to move; one holds LongWriter-6k.
    fn default() -> Self {
        Self { records: 10_000, bytes: 256 * 1024 * 1024 }
    }
}

/// Writes files under temporary names, as their number stands in every name.
#[derive(Debug)]
pub(super) struct Dataset {
    folder: PathBuf,
    limits: Limits,
    part: Option<Part>,
    /// Files that are complete.
    parts: u32,
}

/// One pair of files.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    jsonl: BufWriter<File>,
    parquet: ArrowWriter<File>,
    decoder: Decoder,
    records: u64,
    bytes: u64,
    waiting: usize,
}

impl Dataset {
    pub(super) fn new(folder: PathBuf, limits: Limits) -> Self {
        Self { folder, limits, part: None, parts: 0 }
    }

    /// Adds a record, given as its line of JSON without the end.
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
            None => Part::begin(&self.folder, self.parts)?,
        };
        self.part.insert(part).add(line)
    }

    /// Completes the last file and gives all of them their names. A corpus without records is one pair of
    /// empty files, with all columns.
    pub(super) fn finish(mut self) -> Result<()> {
        // A part begins with a record to put into it, so only an empty corpus has no last part.
        let last = match self.part.take() {
            Some(part) => part,
            None => Part::begin(&self.folder, self.parts)?,
        };
        last.finish()?;
        let parts = self.parts + 1;
        for part in 0..parts {
            for format in ["jsonl", "parquet"] {
                let from = self.folder.join(format!("part-{part:05}.{format}"));
                let to = self.folder.join(format!("train-{part:05}-of-{parts:05}.{format}"));
                fs::rename(&from, &to).map_err(|error| CorpusError::io(&to, error))?;
            }
        }
        Ok(())
    }
}

impl Part {
    fn begin(folder: &Path, number: u32) -> Result<Self> {
        let path = folder.join(format!("part-{number:05}"));
        let create = |format: &str| {
            let path = path.with_extension(format);
            File::create(&path).map_err(|error| CorpusError::io(&path, error))
        };
        let level = ZstdLevel::try_new(9).map_err(|error| failed(&path, error))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        Ok(Self {
            jsonl: BufWriter::new(create("jsonl")?),
            parquet: ArrowWriter::try_new(create("parquet")?, SCHEMA.clone(), Some(properties))
                .map_err(|error| failed(&path, error))?,
            decoder: ReaderBuilder::new(SCHEMA.clone())
                .with_batch_size(BATCH)
                .build_decoder()
                .map_err(|error| refused(&path, error))?,
            path,
            records: 0,
            bytes: 0,
            waiting: 0,
        })
    }

    fn add(&mut self, line: &[u8]) -> Result<()> {
        self.jsonl
            .write_all(line)
            .and_then(|()| self.jsonl.write_all(b"\n"))
            .map_err(|error| CorpusError::io(&self.path.with_extension("jsonl"), error))?;
        self.decoder.serialize(&[row(line, &self.path)?]).map_err(|error| refused(&self.path, error))?;
        self.records += 1;
        self.bytes += line.len() as u64 + 1;
        self.waiting += 1;
        if self.waiting == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.waiting = 0;
        if let Some(batch) = self.decoder.flush().map_err(|error| refused(&self.path, error))? {
            self.parquet.write(&batch).map_err(|error| failed(&self.path, error))?;
            if self.parquet.in_progress_size() >= ROW_GROUP_BYTES {
                self.parquet.flush().map_err(|error| failed(&self.path, error))?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.flush()?;
        let at = |error| CorpusError::io(&self.path, error);
        self.jsonl.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all()).map_err(at)?;
        let parquet = self.parquet.into_inner().map_err(|error| failed(&self.path, error))?;
        parquet.sync_all().map_err(at)
    }
}

/// A record as Parquet's columns have it.
fn row(line: &[u8], path: &Path) -> Result<Value> {
    let mut row: Value = serde_json::from_slice(line).map_err(|error| CorpusError::io(path, error.into()))?;
    if let Some(metadata) = row.get_mut("metadata") {
        *metadata = Value::String(metadata.to_string());
    }
    Ok(row)
}

fn failed(path: &Path, error: ParquetError) -> CorpusError {
    let path = path.with_extension("parquet");
    let ParquetError::External(error) = error else { return CorpusError::io(&path, io::Error::other(error)) };
    match error.downcast::<io::Error>() {
        Ok(error) => CorpusError::io(&path, *error),
        Err(error) => CorpusError::io(&path, io::Error::other(error)),
    }
}

fn refused(path: &Path, error: ArrowError) -> CorpusError {
    CorpusError::io(&path.with_extension("parquet"), io::Error::other(error))
}

/// The columns of a [`super::Record`].
static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::UInt32, false);
    let list = |name: &str, fields: Vec<Field>| {
        let item = Field::new("item", DataType::Struct(Fields::from(fields)), false);
        Field::new(name, DataType::List(Arc::new(item)), false)
    };
    let object = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), false);
    let tokens = ["prompt", "cached", "reusable", "generated", "resumed"].map(number).to_vec();
    let provenance = [
        "run",
        "model",
        "weights_hash",
        "tokenizer_hash",
        "template_hash",
        "recipe_hash",
        "engine",
        "device",
        "licence",
        "seed",
        "longhand",
    ];
    Arc::new(Schema::new(vec![
        text("id"),
        list("messages", vec![text("role"), text("content")]),
        Field::new("instruction_id", DataType::Utf8, true),
        number("candidate"),
        text("language"),
        list("plan", vec![text("main_point"), number("words")]),
        list(
            "sections",
            vec![
                text("text"),
                number("target_words"),
                number("words"),
                text("finish_reason"),
                number("attempt"),
                text("worker"),
                object("tokens", tokens),
                text("seed"),
                text("trace_id"),
            ],
        ),
        Field::new("length", DataType::UInt32, true),
        number("response_length"),
        Field::new("score_length", DataType::Float64, true),
        text("metadata"),
        object("provenance", provenance.map(text).to_vec()),
    ]))
});
