//! Rows of a Parquet file as lines of JSON. Only the columns that are asked for are decoded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use arrow_json::writer::LineDelimited;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::errors::ParquetError;

use super::parquet_values::Values;

/// Rows that are decoded at a time, if they are not large.
const BATCH_ROWS: usize = 64;
/// Bytes that a batch may take. A value is stored once and may stand in each row, so a small file may have large batches.
const BATCH_BYTES: u64 = 64 << 20;
/// Most bytes of a column in one group of rows: the most that one value can have.
const MAX_CHUNK_BYTES: u64 = 2 << 30;

/// Why a file cannot be read.
pub(super) enum Refused {
    Broken(ParquetError),
    /// Its compression is not compiled in.
    Codec(&'static str),
    /// A column of a group of rows takes so many bytes in memory.
    TooLarge(u64),
}

impl From<ParquetError> for Refused {
    fn from(error: ParquetError) -> Self {
        Self::Broken(error)
    }
}

/// The columns of a file, and the wanted ones of its rows.
pub(super) fn rows(
    file: File,
    wanted: impl Fn(&str) -> bool,
) -> Result<(Vec<String>, Box<dyn BufRead + Send>), Refused> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let schema = builder.parquet_schema();
    let leaves: Vec<usize> =
        (0..schema.num_columns()).filter(|leaf| wanted(schema.get_column_root(*leaf).name())).collect();
    for group in builder.metadata().row_groups() {
        if let Some(codec) = leaves.iter().find_map(|leaf| unreadable(group.column(*leaf).compression())) {
            return Err(Refused::Codec(codec));
        }
    }
    let chunks = builder.metadata().row_groups().iter().flat_map(|group| {
        leaves.iter().map(|leaf| u64::try_from(group.column(*leaf).uncompressed_size()).unwrap_or(u64::MAX))
    });
    let largest = chunks.max().unwrap_or(0);
    if largest > MAX_CHUNK_BYTES {
        return Err(Refused::TooLarge(largest));
    }
    let mask = ProjectionMask::leaves(schema, leaves);
    let batches = builder.with_projection(mask).with_batch_size(batch_rows(largest)).build()?;
    let values = Values::new(&columns);
    Ok((columns, Box::new(BufReader::new(Lines { batches, values, ready: io::Cursor::new(Vec::new()) }))))
}

/// Rows of a batch, so that the largest value in all of them is within bounds.
fn batch_rows(largest_chunk: u64) -> usize {
    usize::try_from(BATCH_BYTES / largest_chunk.max(1)).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS)
}

fn unreadable(compression: Compression) -> Option<&'static str> {
    match compression {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) => None,
        Compression::GZIP(_) => Some("gzip"),
        Compression::LZO => Some("LZO"),
        Compression::BROTLI(_) => Some("Brotli"),
        Compression::LZ4 | Compression::LZ4_RAW => Some("LZ4"),
    }
}

struct Lines {
    batches: ParquetRecordBatchReader,
    values: Arc<Values>,
    ready: io::Cursor<Vec<u8>>,
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(batch) = self.batches.next() else { return Ok(0) };
            let batch = batch.map_err(io::Error::other)?;
            let mut lines = Vec::new();
            if batch.num_columns() == 0 {
                lines = b"{}\n".repeat(batch.num_rows());
            } else {
                let values = Arc::<Values>::clone(&self.values);
                let builder = arrow_json::WriterBuilder::new().with_encoder_factory(values);
                let mut writer = builder.build::<_, LineDelimited>(&mut lines);
                writer.write(&batch).and_then(|()| writer.finish()).map_err(io::Error::other)?;
            }
            self.ready = io::Cursor::new(lines);
        }
    }
}
