//! A file of rows, read as a stream.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use super::lines::{self, Line, MAX_LINE_BYTES};
use super::{BadRow, InputError, Instruction, row};

/// Opens `path` and reads as far as its first row.
pub fn read(path: impl AsRef<Path>) -> Result<Reader, InputError> {
    let path = path.as_ref().to_owned();
    let open = |source| InputError::Open { path: path.clone(), source };
    let format = |problem: String, remedy| InputError::Format { path: path.clone(), problem, remedy };
    let mut file = File::open(&path).map_err(open)?;
    let mut magic = Vec::new();
    file.by_ref().take(4).read_to_end(&mut magic).map_err(open)?;
    file.rewind().map_err(open)?;
    let mut input: Box<dyn BufRead + Send> = match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(BufReader::new(flate2::read::MultiGzDecoder::new(file))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = zstd::Decoder::new(file).map_err(open)?;
            Box::new(BufReader::new(decoder))
        }
        b"PAR1" => parquet_rows(file).map_err(|error| {
            format(
                format!("not a Parquet file that can be read: {error}"),
                "write it again, or convert it to JSON Lines",
            )
        })?,
        [b'P', b'K', 3, 4] => return Err(format("a zip archive".into(), "unpack it first")),
        _ => Box::new(BufReader::new(file)),
    };
    // A compressed file that is broken from its first byte is an error of the file.
    let start = input.fill_buf().map_err(open)?;
    if start.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
    } else if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        return Err(format("UTF-16 text".into(), "convert it with `iconv -f UTF-16 -t UTF-8`"));
    } else if start.first() == Some(&b'[') {
        return Err(format("a JSON list, not JSON Lines".into(), "convert it with `jq -c '.[]'`"));
    }
    let mut reader = Reader { path, input: Some(input), line: 0, seen: HashMap::new(), repeated: 0, first: None };
    match reader.advance() {
        Some(first) => reader.first = Some(first),
        None => return Err(InputError::Empty { path: reader.path }),
    }
    Ok(reader)
}

/// The rows of a Parquet file as lines of JSON.
fn parquet_rows(file: File) -> Result<Box<dyn BufRead + Send>, parquet::errors::ParquetError> {
    let batches = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)?;
    let batches = batches.with_batch_size(PARQUET_ROWS).build()?;
    Ok(Box::new(BufReader::new(ParquetLines { batches, ready: io::Cursor::new(Vec::new()) })))
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

/// Rows of a file, in order. The same row twice is given once; see [`Reader::repeated`].
pub struct Reader {
    path: PathBuf,
    /// None once the end was reached or reading failed.
    input: Option<Box<dyn BufRead + Send>>,
    line: u64,
    /// Identity of each row so far: hash of its content, and its line.
    seen: HashMap<[u8; 16], ([u8; 16], u64)>,
    repeated: u64,
    first: Option<Result<Instruction, BadRow>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("path", &self.path).field("line", &self.line).finish_non_exhaustive()
    }
}

impl Iterator for Reader {
    type Item = Result<Instruction, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.advance())
    }
}

impl Reader {
    /// Rows so far that said the same as an earlier one, and were left out.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    /// The file that is read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn advance(&mut self) -> Option<Result<Instruction, BadRow>> {
        loop {
            let line = lines::next(self.input.as_mut()?);
            self.line += 1;
            let bytes = match line {
                Ok(Some(Line::Whole(bytes))) => bytes,
                Ok(Some(Line::TooLong { bytes, hash })) => {
                    let problem = format!("a line of {bytes} bytes; the limit is {MAX_LINE_BYTES}");
                    return Some(Err(self.bad("", problem, "shorten it, or leave out what is not needed", hash)));
                }
                Ok(None) => {
                    self.input = None;
                    return None;
                }
                Err(error) => {
                    self.input = None;
                    let problem = format!("reading failed here, and no row from here on was read: {error}");
                    return Some(Err(self.bad(
                        "",
                        problem,
                        "fetch the file again and run the same command",
                        String::new(),
                    )));
                }
            };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let parsed = row::parse(&bytes, self.line);
            let hash = || blake3::hash(&bytes).to_hex().to_string();
            return Some(match parsed {
                Err(fault) => Err(self.bad(&fault.key, fault.problem, &fault.remedy, hash())),
                Ok(instruction) => match self.meet(&instruction) {
                    Met::New => Ok(instruction),
                    Met::Same => {
                        self.repeated += 1;
                        continue;
                    }
                    Met::Other { line } => {
                        let id = instruction.id.unwrap_or_default();
                        let problem = format!("{id:?} is the id of line {line} too, with another content");
                        Err(self.bad("id", problem, "give each row an id of its own", hash()))
                    }
                },
            });
        }
    }

    fn meet(&mut self, instruction: &Instruction) -> Met {
        let identity = short_hash(instruction.identity().as_bytes());
        let content = content_hash(instruction);
        match self.seen.entry(identity) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert((content, instruction.line));
                Met::New
            }
            std::collections::hash_map::Entry::Occupied(entry) => match entry.get() {
                (known, _) if *known == content || instruction.id.is_none() => Met::Same,
                (_, line) => Met::Other { line: *line },
            },
        }
    }

    fn bad(&self, key: &str, problem: String, remedy: &str, content_hash: String) -> BadRow {
        let (file, line) = (self.path.clone(), self.line);
        BadRow { file, line, key: key.into(), problem, remedy: remedy.into(), content_hash }
    }
}

enum Met {
    New,
    Same,
    Other { line: u64 },
}

/// Of all that decides what is written.
fn content_hash(instruction: &Instruction) -> [u8; 16] {
    let Instruction { id: _, messages, language, required_words, context, metadata: _, line: _ } = instruction;
    short_hash(format!("{messages:?}{language:?}{required_words:?}{context:?}").as_bytes())
}

fn short_hash(bytes: &[u8]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    short
}
