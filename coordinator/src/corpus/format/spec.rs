//! What one format says of itself.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};
use serde_json::{Value, json};

use crate::corpus::record::Record;

/// What an export needs to know of a format.
#[derive(Debug)]
pub(super) struct Spec {
    /// Name on the command line.
    pub(super) name: &'static str,
    /// What the data files hold, for the dataset card.
    pub(super) contents: &'static str,
    /// Extensions of the data files: `jsonl`, `parquet` or both.
    pub(super) extensions: &'static [&'static str],
    /// The columns of a row. The card states them: a reader that infers types from the first rows takes a list that is
    /// empty in one file, or a number that is absent, for another type than in the next file.
    pub(super) columns: fn() -> Vec<Field>,
    pub(super) rows: Rows,
    /// How LLaMA-Factory reads a file, for `dataset_info.json`; none if it cannot.
    pub(super) llama_factory: Option<fn() -> Value>,
}

/// How accepted records become rows.
#[derive(Debug)]
pub(super) enum Rows {
    /// Each record as it is.
    Whole,
    /// One row for each record.
    Each(fn(&Record) -> Value),
    /// Pairs, made of the candidates of one instruction.
    Pairs(fn(&[Record]) -> Vec<Value>),
}

/// A column of text.
pub(super) fn text(name: &str) -> Field {
    Field::new(name, DataType::Utf8, false)
}

/// A column of lists of objects with these fields.
pub(super) fn list(name: &str, fields: Vec<Field>) -> Field {
    list_of(name, DataType::Struct(Fields::from(fields)))
}

/// A column of lists.
pub(super) fn list_of(name: &str, item: DataType) -> Field {
    Field::new(name, DataType::List(Arc::new(Field::new("item", item, false))), false)
}

/// A column of messages with role and content.
pub(super) fn messages(name: &str) -> Field {
    list(name, vec![text("role"), text("content")])
}

/// `messages` with role and content, as LLaMA-Factory reads them.
pub(super) fn llama_factory_messages() -> Value {
    json!({
        "formatting": "sharegpt",
        "columns": { "messages": "messages" },
        "tags": { "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                  "system_tag": "system" },
    })
}
