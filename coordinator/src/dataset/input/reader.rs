//! A file of rows, read as a stream.

use std::collections::HashMap;
use std::path::Path;

use super::field::RowError;
use super::rows::Rows;
use super::{InputError, row};
use crate::domain::instruction::{BadRow, Instruction};

/// Opens `path` and reads as far as its first row.
pub fn read(path: impl AsRef<Path>) -> Result<Reader, InputError> {
    let rows = Rows::of_instructions(path.as_ref())?;
    let mut reader = Reader { rows, seen: HashMap::new(), repeated: 0, first: None };
    match reader.advance() {
        Some(first) => reader.first = Some(first),
        None => return Err(InputError::Empty { path: reader.rows.path().to_owned() }),
    }
    Ok(reader)
}

/// Rows of a file, in order. The same row twice is given once; see [`Reader::repeated`].
#[derive(Debug)]
pub struct Reader {
    rows: Rows,
    /// Identity of each row so far: hash of its content, and its line.
    seen: HashMap<[u8; 16], ([u8; 16], u64)>,
    repeated: u64,
    first: Option<Result<Instruction, BadRow>>,
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
        self.rows.path()
    }

    fn advance(&mut self) -> Option<Result<Instruction, BadRow>> {
        loop {
            let bytes = match self.rows.next()? {
                Ok(bytes) => bytes,
                Err(bad) => return Some(Err(bad)),
            };
            let instruction = match row::parse(&bytes, self.rows.line()) {
                Ok(instruction) => instruction,
                Err(fault) => return Some(Err(self.rows.bad(fault, &bytes))),
            };
            match self.identify(&instruction) {
                Identity::New => return Some(Ok(instruction)),
                Identity::Repeated => self.repeated += 1,
                Identity::Conflict { line } => {
                    let id = instruction.id.unwrap_or_default();
                    let problem = format!("duplicate id {id:?}: line {line} has it too, with other content");
                    let fault = RowError { key: "id".into(), problem, remedy: "give each row a unique id".into() };
                    return Some(Err(self.rows.bad(fault, &bytes)));
                }
            }
        }
    }

    fn identify(&mut self, instruction: &Instruction) -> Identity {
        let identity = short_hash(instruction.identity().as_bytes());
        let content = content_hash(instruction);
        match self.seen.entry(identity) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert((content, instruction.line));
                Identity::New
            }
            std::collections::hash_map::Entry::Occupied(entry) => match entry.get() {
                (known, _) if *known == content || instruction.id.is_none() => Identity::Repeated,
                (_, line) => Identity::Conflict { line: *line },
            },
        }
    }
}

enum Identity {
    New,
    Repeated,
    Conflict { line: u64 },
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
