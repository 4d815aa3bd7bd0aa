//! `{"messages": [{"role": ..., "content": ...}]}`: OpenAI's fine-tuning rejects a row with any other key.

use serde_json::{Value, json};

use super::spec::{Rows, Spec, llama_factory_messages, messages};
use crate::corpus::record::Record;

/// The format.
pub(super) const OPENAI: Spec = Spec {
    name: "openai",
    contents: "`messages` of each record",
    extensions: &["jsonl"],
    columns: || vec![messages("messages")],
    rows: Rows::Each(row),
    llama_factory: Some(llama_factory_messages),
};

fn row(record: &Record) -> Value {
    json!({ "messages": record.messages })
}
