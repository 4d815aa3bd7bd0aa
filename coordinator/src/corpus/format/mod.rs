//! The shapes in which trainers take a corpus. One file a shape.

mod alpaca;
mod dpo;
mod messages;
mod openai;
mod sharegpt;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::Record;
pub use dpo::By;

/// What stands in the files of `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Whole records, as JSON Lines and as Parquet.
    #[default]
    Records,
    /// Whole records in typed columns, as Parquet alone.
    Parquet,
    /// `messages` with role and content, beside the record's id: what TRL reads.
    Messages,
    /// `messages` and nothing else: what OpenAI's fine-tuning takes.
    OpenAi,
    /// `conversations` with from and value.
    ShareGpt,
    /// `instruction`, `input` and `output`, with `system` and `history` where there are any.
    Alpaca,
    /// `prompt`, `chosen` and `rejected` of the candidates of one instruction: TRL's preferences.
    Dpo(By),
}

/// In the order in which they are explained.
const ALL: [(&str, Format); 9] = [
    ("records", Format::Records),
    ("parquet", Format::Parquet),
    ("messages", Format::Messages),
    ("openai", Format::OpenAi),
    ("sharegpt", Format::ShareGpt),
    ("alpaca", Format::Alpaca),
    ("dpo", Format::Dpo(By::Both)),
    ("dpo-length", Format::Dpo(By::Length)),
    ("dpo-quality", Format::Dpo(By::Quality)),
];

impl Format {
    /// Endings of its files.
    pub(super) const fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Records => &["jsonl", "parquet"],
            Self::Parquet => &["parquet"],
            Self::Messages | Self::OpenAi | Self::ShareGpt | Self::Alpaca | Self::Dpo(_) => &["jsonl"],
        }
    }

    /// The rows that the accepted candidates of one instruction make.
    pub(super) fn rows(self, candidates: &[Record]) -> Vec<Value> {
        let row = match self {
            Self::Records | Self::Parquet => |record: &Record| json!(record),
            Self::Messages => messages::row,
            Self::OpenAi => openai::row,
            Self::ShareGpt => sharegpt::row,
            Self::Alpaca => alpaca::row,
            Self::Dpo(by) => return dpo::row(by, candidates).into_iter().collect(),
        };
        candidates.iter().map(row).collect()
    }

    /// How LLaMA-Factory is told to read a file of it, for `dataset_info.json`; none if it cannot.
    pub(super) fn llama_factory(self) -> Option<Value> {
        let openai = json!({
            "formatting": "sharegpt",
            "columns": { "messages": "messages" },
            "tags": { "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                      "system_tag": "system" },
        });
        match self {
            Self::Records | Self::Parquet | Self::Messages | Self::OpenAi => Some(openai),
            Self::ShareGpt => Some(sharegpt::llama_factory()),
            Self::Alpaca => Some(alpaca::llama_factory()),
            // It wants one message where TRL has a list of them.
            Self::Dpo(_) => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALL.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || ALL.map(|(name, _)| name).join(", ");
        ALL.iter()
            .find(|(name, _)| *name == text)
            .map(|(_, format)| *format)
            .ok_or_else(|| format!("{text:?} is no format: want one of {}", names()))
    }
}

/// A conversation, taken apart.
#[derive(Debug, Default)]
struct Turns {
    system: String,
    /// What was asked and what was answered, without the last of each.
    history: Vec<[String; 2]>,
    instruction: String,
    answer: String,
}

impl Turns {
    /// These formats know pairs only, so turns of one side in a row become one.
    fn of(record: &Record) -> Self {
        let mut turns = Self::default();
        for message in &record.messages {
            let side = match message.role.as_str() {
                "system" => &mut turns.system,
                "assistant" => &mut turns.answer,
                _ => {
                    if !turns.answer.is_empty() {
                        turns.history.push([std::mem::take(&mut turns.instruction), std::mem::take(&mut turns.answer)]);
                    }
                    &mut turns.instruction
                }
            };
            if !side.is_empty() {
                side.push_str("\n\n");
            }
            side.push_str(&message.content);
        }
        turns
    }
}
