//! A file of rows as a stream of their bytes, whatever holds them: JSON Lines, a JSON list, Parquet, gzip, zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::InputError;
use super::field::{RowError, quoted};
use super::gzip::Gzip;
use super::lines::{self, Line, MAX_LINE_BYTES};
use super::list::ListLines;
use super::row::{TEXT_KEYS, is_read};
use super::{magic, parquet_rows};
use crate::domain::instruction::BadRow;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// `zstd --ultra --long=31` writes windows of this size, in powers of two: the most that the format's tool reads.
const ZSTD_WINDOW_LOG: u32 = 31;

/// Rows of a file, in order, in the memory of one row.
pub(crate) struct Rows {
    path: PathBuf,
    /// None once the end was reached or reading failed.
    input: Option<Box<dyn BufRead + Send>>,
    line: u64,
    /// Of a Parquet file.
    columns: Option<Vec<String>>,
}

/// The error that reading ended with.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
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
        let rows = Self::open(path, is_read)?;
        if let Some(columns) =
            rows.columns.as_ref().filter(|columns| !columns.iter().any(|it| TEXT_KEYS.contains(&&**it)))
        {
            let columns = quoted(columns);
            return Err(InputError::Format {
                path: path.to_owned(),
                problem: format!("no column holds instructions; the columns are {columns}"),
                remedy: "expected `prompt`, `instruction`, `messages` or `body`; `longhand import --field COLUMN` takes any other",
            });
        }
        Ok(rows)
    }

    /// Opens a file of rows of any kind. Where columns are kept apart, those that are not `wanted` are not decoded.
    pub(crate) fn open(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Self, InputError> {
        let path = path.to_owned();
        let open = |source| InputError::Open { path: path.clone(), source };
        let damaged = |source| InputError::Damaged { path: path.clone(), source };
        let format = |problem: String, remedy| InputError::Format { path: path.clone(), problem, remedy };
        let mut file = File::open(&path).map_err(open)?;
        let mut start = Vec::new();
        file.by_ref().take(magic::LEN as u64).read_to_end(&mut start).map_err(open)?;
        file.rewind().map_err(open)?;
        let mut columns = None;
        let compressed = matches!(start.as_slice(), [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..]);
        let mut decoded: Box<dyn BufRead + Send> = match start.as_slice() {
            [0x1f, 0x8b, ..] => Box::new(BufReader::new(Gzip::new(BufReader::new(file)))),
            // Its frames, and those that are to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                let mut decoder = zstd::Decoder::new(file).map_err(open)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(open)?;
                Box::new(BufReader::new(decoder))
            }
            [b'P', b'A', b'R', b'1', ..] => {
                let (names, rows) = parquet_rows::rows(file, wanted).map_err(|refused| match refused {
                    parquet_rows::Refused::Broken(error) => format(
                        format!("not a Parquet file that can be read: {error}"),
                        "write it again, or convert it to JSON Lines",
                    ),
                    parquet_rows::Refused::TooLarge(bytes) => format(
                        format!("a Parquet file with a column of {} MiB in one group of rows", bytes >> 20),
                        "write it again with smaller groups of rows",
                    ),
                    parquet_rows::Refused::Codec(codec) => format(
                        format!("a Parquet file compressed with {codec}, which cannot be read"),
                        "write it again with zstd or snappy",
                    ),
                })?;
                columns = Some(names);
                rows
            }
            _ => Box::new(BufReader::new(file)),
        };
        // What is inside a compressed file counts too: a tar archive has rows from its second block on.
        let mut start = Vec::new();
        match decoded.by_ref().take(magic::LEN as u64).read_to_end(&mut start) {
            Ok(_) => {}
            Err(error) if start.is_empty() => return Err(damaged(error)),
            // What came before it is read first.
            Err(error) => decoded = Box::new(BufReader::new(Broken(Some(error)))),
        }
        let again = || if columns.is_none() && compressed { magic::packed_twice(&start) } else { None };
        let text = || if columns.is_none() { magic::text_format(&path, &start) } else { None };
        if let Some((name, remedy)) = again().or_else(|| magic::refused(&start)).or_else(text) {
            return Err(format(name.into(), remedy));
        }
        let mark = if start.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut input: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(start.split_off(mark)).chain(decoded));
        if input.fill_buf().map_err(damaged)?.trim_ascii_start().first() == Some(&b'[') {
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
                // Files that were put together by `cat` have one in their middle.
                Ok(Some(Line::Whole(mut bytes))) if bytes.starts_with(BYTE_ORDER_MARK) => {
                    bytes.drain(..BYTE_ORDER_MARK.len());
                    Ok(bytes)
                }
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

    /// The columns, where they are known before the rows.
    pub(crate) fn columns(&self) -> Option<&[String]> {
        self.columns.as_deref()
    }

    /// The file that is read.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
