//! `{"id": ..., "conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}]}`

use arrow_schema::Field;
use serde_json::{Value, json};

use super::spec::{Rows, Spec, list, text};
use crate::corpus::record::Record;

/// The format.
pub(super) const SHAREGPT: Spec = Spec {
    name: "sharegpt",
    contents: "`id` and `conversations` (from, value) of each record",
    extensions: &["jsonl"],
    columns,
    rows: Rows::Each(row),
    llama_factory: Some(llama_factory),
};

fn columns() -> Vec<Field> {
    vec![text("id"), list("conversations", vec![text("from"), text("value")])]
}

fn row(record: &Record) -> Value {
    let turns = record.messages.iter().map(|message| {
        let from = match message.role.as_str() {
            "assistant" => "gpt",
            "user" => "human",
            other => other,
        };
        json!({ "from": from, "value": message.content })
    });
    json!({ "id": record.id, "conversations": turns.collect::<Vec<_>>() })
}

fn llama_factory() -> Value {
    json!({
        "formatting": "sharegpt",
        "columns": { "messages": "conversations" },
        "tags": { "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
                  "system_tag": "system" },
    })
}
