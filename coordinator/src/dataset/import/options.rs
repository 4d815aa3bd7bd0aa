//! How rows of another data set become instructions.

use super::format::Format;

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
