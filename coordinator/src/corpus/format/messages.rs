//! `{"id": ..., "messages": [{"role": ..., "content": ...}]}`, as TRL reads conversations.

use arrow_schema::Field;
use serde_json::{Value, json};

use super::spec::{Rows, Spec, llama_factory_messages, messages, text};
use crate::corpus::record::Record;

/// The format.
pub(super) const MESSAGES: Spec = Spec {
    name: "messages",
    contents: "`id` and `messages` of each record",
    extensions: &["jsonl"],
    columns,
    rows: Rows::Each(row),
    llama_factory: Some(llama_factory_messages),
};

fn columns() -> Vec<Field> {
    vec![text("id"), messages("messages")]
}

fn row(record: &Record) -> Value {
    json!({ "id": record.id, "messages": record.messages })
}
