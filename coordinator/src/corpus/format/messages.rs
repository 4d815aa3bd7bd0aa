//! `{"id": ..., "messages": [{"role": ..., "content": ...}]}`

use serde_json::{Value, json};

use super::super::Record;

pub(super) fn row(record: &Record) -> Value {
    json!({ "id": record.id, "messages": record.messages })
}
