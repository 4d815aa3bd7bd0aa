//! The border: rows of an input file become instructions, and what cannot be read becomes a bad row that says why.
//!
//! JSON Lines, a JSON list (both plain, gzip or zstd) and Parquet, told apart by their first bytes. A row is one of
//! - `{"prompt": "..."}`
//! - `{"instruction": "...", "input": "..."}`, the input optional
//! - `{"messages": [{"role": "user", "content": "..."}]}`
//! - `{"custom_id": "...", "body": {"messages": [...]}}`, a line of an OpenAI batch
//!
//! where `prompt` may hold turns as well,
//! with optional `id`, `length` (words), `language` (`en` or `zh`), `context` (texts) and `metadata` (an object). Other
//! keys are left alone: data sets carry all kinds of columns.

pub(crate) mod field;
mod gzip;
mod lines;
mod list;
mod magic;
mod object;
mod output;
mod parquet_rows;
mod parquet_values;
mod reader;
pub(crate) mod row;
mod rows;
mod summary;
#[cfg(test)]
mod tests;
pub(crate) mod turns;

use std::path::PathBuf;

pub(crate) use field::quoted;
pub use lines::MAX_LINE_BYTES;
pub(crate) use object::object;
pub use output::Output;
pub(crate) use output::{Row, Text};
pub use reader::{Reader, read};
pub use row::{LENGTH_RANGE, MAX_TEXT_BYTES, of_text};
pub(crate) use rows::Rows;
pub use summary::{LENGTH_BINS, Summary, validate};
pub(crate) use summary::{as_texts, length_bin};

/// A file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{}: the file holds no rows; expected one JSON object on each line, such as {{\"prompt\": \"...\"}}", path.display())]
    Empty { path: PathBuf },
    #[error("{}: {source}; the file is damaged or cut off: fetch it again", path.display())]
    Damaged { path: PathBuf, source: std::io::Error },
    #[error("{}: {problem}; {remedy}", path.display())]
    Format { path: PathBuf, problem: String, remedy: &'static str },
}
