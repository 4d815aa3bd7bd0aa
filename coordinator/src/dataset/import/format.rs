//! Where a data set keeps its instructions.

use serde_json::{Map, Value};

use crate::dataset::input::field::{RowError, present, row_error};

/// A kind of data set, by the column that holds the instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `conversation`: turns, beside language and moderation.
    Wildchat,
    /// `conversations`: turns with `from` and `value`.
    Sharegpt,
    /// `messages`: turns with `role` and `content`, as LongWriter-6k has them.
    Messages,
    /// `prompt`: a text, as LongWriter's and LongBench-Write's prompt files have it.
    Prompt,
    /// `instruction`: a text, with an optional `input`.
    Alpaca,
    /// `body.messages`: a line of an OpenAI batch.
    Openai,
    /// A column of the user's naming: a text or turns.
    Field(String),
}

/// In the order in which they are looked for: a data set with turns may have a column `instruction` of another meaning.
pub(super) const KNOWN: [Format; 6] =
    [Format::Wildchat, Format::Sharegpt, Format::Messages, Format::Openai, Format::Prompt, Format::Alpaca];

impl Format {
    /// As it stands in the provenance of a row.
    pub fn name(&self) -> &str {
        match self {
            Self::Wildchat => "wildchat",
            Self::Sharegpt => "sharegpt",
            Self::Messages => "messages",
            Self::Prompt => "prompt",
            Self::Alpaca => "alpaca",
            Self::Openai => "openai",
            Self::Field(_) => "field",
        }
    }

    /// The column.
    pub(super) fn column(&self) -> &str {
        match self {
            Self::Wildchat => "conversation",
            Self::Sharegpt => "conversations",
            Self::Messages => "messages",
            Self::Prompt => "prompt",
            Self::Alpaca => "instruction",
            Self::Openai => "body",
            Self::Field(column) => column,
        }
    }
}

/// The format that a file was found to have.
#[derive(Debug)]
pub(super) struct Shape(pub(super) Format);

impl Shape {
    /// By the columns of one row.
    pub(super) fn detect(wanted: Option<&Format>, row: &Map<String, Value>) -> Option<Self> {
        let wanted = wanted.map_or(&KNOWN[..], std::slice::from_ref);
        wanted.iter().find(|format| present(row, format.column()).is_some()).map(|format| Self(format.clone()))
    }

    /// What is wrong with a row that has none of the columns.
    pub(super) fn missing(wanted: Option<&Format>) -> RowError {
        let problem = match wanted {
            Some(format) => format!("there is no `{}` column", format.column()),
            None => "it has none of the known columns".into(),
        };
        row_error("", problem, "see --format and --field")
    }
}
