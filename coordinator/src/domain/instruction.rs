//! The instruction: one input row, as it passed the border, or why it did not.

use std::path::PathBuf;

use longhand_proto::task::Message;
use serde::{Deserialize, Serialize};

use super::language::Language;

/// One input row that passed the border.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// The row's own id, or none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub id: Option<String>,
    /// The conversation as it goes into the corpus; the last turn is the user's.
    pub messages: Vec<Message>,
    /// Language of the text to write.
    pub language: Language,
    /// Words asked for: the row's `length` or what the text states.
    #[serde(default, skip_serializing_if = "is_default")]
    pub required_words: Option<u32>,
    /// Texts to draw on, with ids.
    #[serde(default, skip_serializing_if = "is_default")]
    pub context: Vec<Context>,
    /// The row's own metadata; it goes into the corpus as it is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Line in the input file from 1.
    pub line: u64,
}

impl Instruction {
    /// What the document id is derived from: the row's own id, or its text where it has none.
    pub fn identity(&self) -> String {
        self.id.clone().unwrap_or_else(|| self.text())
    }

    /// What is asked for, as one text. Earlier turns of a conversation stand before the last one, each under the name
    /// of who said it.
    pub fn text(&self) -> String {
        let Some((last, earlier)) = self.messages.split_last() else { return String::new() };
        if earlier.is_empty() {
            return last.content.trim().to_owned();
        }
        let zh = self.language == Language::Zh;
        let mut text = String::from(if zh { "此前的对话：\n" } else { "The conversation so far:\n" });
        for turn in earlier {
            let who = match (turn.role.as_str(), zh) {
                ("system", false) => "Rules",
                ("system", true) => "规则",
                ("assistant", false) => "Assistant",
                ("assistant", true) => "助手",
                (_, false) => "User",
                (_, true) => "用户",
            };
            let colon = if zh { "：" } else { ": " };
            text.push_str(&format!("\n{who}{colon}{}\n", turn.content.trim()));
        }
        text.push_str(if zh { "\n现在的要求：\n\n" } else { "\nThe request now:\n\n" });
        text.push_str(last.content.trim());
        text
    }
}

/// A text to draw on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// Named in the records of sections that were shown the text.
    pub id: String,
    /// The text itself.
    pub text: String,
}

/// A row that could not be read. One never stops a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {}{problem}; {remedy}", file.display(), key_prefix(key))]
pub struct BadRow {
    /// The input file.
    pub file: PathBuf,
    /// From 1. In a Parquet file or a JSON list the number of the row.
    pub line: u64,
    /// Key at fault, dotted; empty if the whole row is.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
    /// Hash of the row's bytes, so that the same row is known again.
    pub content_hash: String,
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

/// A field that says nothing is left out: of documents that wait there may be a million.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
