//! `{"messages": [{"role": ..., "content": ...}]}`: OpenAI's fine-tuning refuses a row with any other key.

use serde_json::{Value, json};

use super::super::Record;

pub(super) fn row(record: &Record) -> Value {
    json!({ "messages": record.messages })
}
