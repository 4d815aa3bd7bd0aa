//! What one format says of itself.

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
    /// At most one row for the candidates of one instruction.
    Group(fn(&[Record]) -> Option<Value>),
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
