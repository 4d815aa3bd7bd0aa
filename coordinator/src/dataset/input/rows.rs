//! A file of rows as a stream of their bytes, whatever holds them: JSON Lines, a JSON list, Parquet, gzip, zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::InputError;
use super::field::RowError;
use super::lines::{self, Line, MAX_LINE_BYTES};
use super::list::ListLines;
use super::row::TEXT_KEYS;
use crate::domain::instruction::BadRow;

/// Rows of a file, in order, in the memory of one row.
pub(crate) struct Rows {
    path: PathBuf,
    /// None once the end was reached or reading failed.
    input: Option<Box<dyn BufRead + Send>>,
    line: u64,
    /// Of a Parquet file.
    columns: Option<Vec<String>>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Rows {
    /// Opens a file of instructions. Where the columns are known, one must be there that may hold the text: else every row
    /// would be a bad one.
    pub(crate) fn of_instructions(path: &Path) -> Result<Self, InputError> {
        let rows = Self::open(path)?;
        if let Some(columns) =
            rows.columns.as_ref().filter(|columns| !columns.iter().any(|it| TEXT_KEYS.contains(&&**it)))
        {
            let columns = columns.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            return Err(InputError::Format {
                path: path.to_owned(),
                problem: format!("no column holds instructions; the columns are {columns}"),
                remedy: "expected `prompt`, `instruction`, `messages` or `body`; `longhand import --field COLUMN` takes any other",
            });
        }
        Ok(rows)
    }

    /// Opens a file of rows of any kind.
    pub(crate) fn open(path: &Path) -> Result<Self, InputError> {
        let path = path.to_owned();
        let open = |source| InputError::Open { path: path.clone(), source };
        let format = |problem: String, remedy| InputError::Format { path: path.clone(), problem, remedy };
        let mut file = File::open(&path).map_err(open)?;
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic).map_err(open)?;
        file.rewind().map_err(open)?;
        let mut columns = None;
        let mut input: Box<dyn BufRead + Send> = match magic.as_slice() {
            [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
            [0x28, 0xb5, 0x2f, 0xfd] => {
                let decoder = zstd::Decoder::new(file).map_err(open)?;
                Box::new(BufReader::new(decoder))
            }
            b"PAR1" => {
                let (names, rows) = parquet_rows(file).map_err(|error| {
                    format(
                        format!("not a Parquet file that can be read: {error}"),
                        "write it again, or convert it to JSON Lines",
                    )
                })?;
                columns = Some(names);
                rows
            }
            [b'P', b'K', 3, 4] => return Err(format("a zip archive".into(), "unpack it first")),
            _ => Box::new(BufReader::new(file)),
        };
        // A compressed file that is broken from its first byte is an error of the file.
        let start = input.fill_buf().map_err(open)?;
        if start.starts_with(b"\xef\xbb\xbf") {
            input.consume(3);
        } else if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
            return Err(format("UTF-16 text".into(), "convert it with `iconv -f UTF-16 -t UTF-8`"));
        }
        if input.fill_buf().map_err(open)?.trim_ascii_start().first() == Some(&b'[') {
            input = Box::new(BufReader::new(ListLines::new(input)));
        }
        Ok(Self { path, input: Some(input), line: 0, columns })
    }

    /// The next row that is not blank.
    pub(crate) fn next(&mut self) -> Option<Result<Vec<u8>, BadRow>> {
        loop {
            let line = lines::next(self.input.as_mut()?);
            self.line += 1;
            return Some(match line {
                Ok(Some(Line::Whole(bytes))) if bytes.trim_ascii().is_empty() => continue,
                Ok(Some(Line::Whole(bytes))) => Ok(bytes),
                Ok(Some(Line::TooLong { bytes, hash })) => {
                    let problem = format!("a line of {bytes} bytes; the limit is {MAX_LINE_BYTES}");
                    Err(self.bad_with("", problem, "shorten it, or leave out what is not needed", hash))
                }
                Ok(None) => {
                    self.input = None;
                    return None;
                }
                Err(error) => {
                    self.input = None;
                    let problem = format!("reading failed, and no row from here on was read: {error}");
                    let remedy = "fetch the file again, then rerun the same command";
                    Err(self.bad_with("", problem, remedy, String::new()))
                }
            });
        }
    }

    /// The row that was read last, as a bad one.
    pub(crate) fn bad(&self, fault: RowError, bytes: &[u8]) -> BadRow {
        let hash = blake3::hash(bytes).to_hex().to_string();
        self.bad_with(&fault.key, fault.problem, &fault.remedy, hash)
    }

    fn bad_with(&self, key: &str, problem: String, remedy: &str, content_hash: String) -> BadRow {
        let (file, line) = (self.path.clone(), self.line);
        BadRow { file, line, key: key.into(), problem, remedy: remedy.into(), content_hash }
    }

    /// Number of the row that was read last, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The file that is read.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The columns of a Parquet file, and its rows as lines of JSON.
fn parquet_rows(file: File) -> Result<(Vec<String>, Box<dyn BufRead + Send>), parquet::errors::ParquetError> {
    let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)?;
    let columns = batches.schema().fields().iter().map(|field| field.name().clone()).collect();
    let batches = batches.with_batch_size(PARQUET_ROWS).build()?;
    Ok((columns, Box::new(BufReader::new(ParquetLines { batches, ready: io::Cursor::new(Vec::new()) }))))
}

/// Rows that are turned into JSON at a time.
const PARQUET_ROWS: usize = 64;

struct ParquetLines {
    batches: parquet::arrow::arrow_reader::ParquetRecordBatchReader,
    ready: io::Cursor<Vec<u8>>,
}

impl Read for ParquetLines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(batch) = self.batches.next() else { return Ok(0) };
            let mut writer = arrow_json::LineDelimitedWriter::new(Vec::new());
            let batch = batch.map_err(io::Error::other)?;
            writer.write(&batch).and_then(|()| writer.finish()).map_err(io::Error::other)?;
            self.ready = io::Cursor::new(writer.into_inner());
        }
    }
}
