//! What a file holds, for `longhand validate`.

use std::path::Path;

use super::{InputError, read};
use crate::domain::instruction::BadRow;
use crate::domain::language::Language;

/// Names of the bins of [`Summary::lengths`]: those of LongBench-Write, and one beyond.
pub const LENGTH_BINS: [&str; 5] = ["[0, 500)", "[500, 2k)", "[2k, 4k)", "[4k, 20k]", "> 20k"];

/// Most bad rows that are kept with their messages; all are counted.
const MAX_REPORTED_BAD_ROWS: usize = 1000;

/// Counts of the rows of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Summary {
    /// Rows that can be written.
    pub rows: u64,
    /// Rows that said the same as an earlier one.
    pub repeated: u64,
    /// Rows in English.
    pub english: u64,
    /// Rows in Chinese.
    pub chinese: u64,
    /// Rows by the length that they ask for, in the bins of [`LENGTH_BINS`].
    pub lengths: [u64; 5],
    /// Rows that ask for no length.
    pub no_length: u64,
    /// Rows that could not be read.
    pub bad: u64,
    /// The first bad rows.
    #[serde(serialize_with = "as_texts")]
    pub bad_rows: Vec<BadRow>,
}

/// Bad rows as their messages.
pub(crate) fn as_texts<S: serde::Serializer>(rows: &[BadRow], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rows.iter().map(ToString::to_string))
}

/// Reads the whole file and counts.
pub fn validate(path: impl AsRef<Path>) -> Result<Summary, InputError> {
    let mut reader = read(path)?;
    let mut summary = Summary::default();
    for row in &mut reader {
        match row {
            Ok(instruction) => {
                summary.rows += 1;
                match instruction.language {
                    Language::En => summary.english += 1,
                    Language::Zh => summary.chinese += 1,
                }
                match instruction.required_words {
                    Some(words) => summary.lengths[length_bin(words)] += 1,
                    None => summary.no_length += 1,
                }
            }
            Err(bad) => {
                summary.bad += 1;
                if summary.bad_rows.len() < MAX_REPORTED_BAD_ROWS {
                    summary.bad_rows.push(bad);
                }
            }
        }
    }
    summary.repeated = reader.repeated();
    Ok(summary)
}

/// Index of the bin that a length is in.
pub(crate) fn length_bin(words: u32) -> usize {
    match words {
        0..500 => 0,
        500..2_000 => 1,
        2_000..4_000 => 2,
        4_000..=20_000 => 3,
        _ => 4,
    }
}
