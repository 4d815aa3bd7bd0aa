//! `{"id": ..., "instruction": ..., "input": "", "output": ..., "system": ..., "history": [[asked, answered]]}`
//!
//! Every row has all columns: readers take the first row's for the type of all.

use serde_json::{Value, json};

use super::super::Record;
use super::Turns;

pub(super) fn row(record: &Record) -> Value {
    let Turns { system, history, instruction, answer } = Turns::of(record);
    json!({
        "id": record.id,
        "instruction": instruction,
        "input": "",
        "output": answer,
        "system": system,
        "history": history,
    })
}

pub(super) fn llama_factory() -> Value {
    json!({
        "formatting": "alpaca",
        "columns": { "prompt": "instruction", "query": "input", "response": "output", "system": "system",
                     "history": "history" },
    })
}
