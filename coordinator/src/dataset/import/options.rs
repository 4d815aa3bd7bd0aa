//! How rows of another data set become instructions.

use super::format::{Format, KNOWN};
use crate::dataset::input::row;

/// Which turn of the user's is the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Turn {
    #[default]
    First,
    Last,
    /// From 1.
    Nth(usize),
}

/// How a data set is read.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// None: detected from the first rows.
    pub format: Option<Format>,
    /// Which turn becomes the instruction.
    pub turn: Turn,
    /// Keep the turns before the chosen one, a system turn too.
    pub history: bool,
    /// Name of the data set [default: the file's name].
    pub source: Option<String>,
    /// Licence of rows that state none.
    pub licence: Option<String>,
}

/// Columns that say something of the instruction in some data set.
const COLUMNS: [&str; 11] = [
    "system",
    "system_prompt",
    "history",
    "toxic",
    "redacted",
    "openai_moderation",
    "licence",
    "license",
    "conversation_hash",
    "conversation_id",
    "input",
];

impl Options {
    /// Whether a column is looked at.
    pub(super) fn reads(&self, column: &str) -> bool {
        let named = matches!(&self.format, Some(Format::Field(field)) if field == column);
        named || row::is_read(column) || COLUMNS.contains(&column) || KNOWN.iter().any(|known| known.column() == column)
    }
}
