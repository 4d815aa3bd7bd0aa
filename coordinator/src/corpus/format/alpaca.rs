//! `{"id": ..., "instruction": ..., "input": "", "output": ..., "system": ..., "history": [[question, answer]]}`
//!
//! Every row has all columns: readers infer the types of all rows from the first one.

use serde_json::{Value, json};

use super::spec::{Rows, Spec};
use super::turns::Turns;
use crate::corpus::record::Record;

/// The format.
pub(super) const ALPACA: Spec = Spec {
    name: "alpaca",
    contents: "`id`, `instruction`, `input`, `output`, `system` and `history` of each record",
    extensions: &["jsonl"],
    rows: Rows::Each(row),
    llama_factory: Some(llama_factory),
};

fn row(record: &Record) -> Value {
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

fn llama_factory() -> Value {
    json!({
        "formatting": "alpaca",
        "columns": { "prompt": "instruction", "query": "input", "response": "output", "system": "system",
                     "history": "history" },
    })
}
