//! `{"id": ..., "instruction": ..., "input": "", "output": ..., "system": ..., "history": [[question, answer]]}`

use arrow_schema::{DataType, Field};
use serde_json::{Value, json};

use super::spec::{Rows, Spec, list_of, text};
use super::turns::Turns;
use crate::corpus::record::Record;

/// The format.
pub(super) const ALPACA: Spec = Spec {
    name: "alpaca",
    contents: "`id`, `instruction`, `input`, `output`, `system` and `history` of each record",
    extensions: &["jsonl"],
    columns,
    rows: Rows::Each(row),
    llama_factory: Some(llama_factory),
};

fn columns() -> Vec<Field> {
    let mut columns = ["id", "instruction", "input", "output", "system"].map(text).to_vec();
    columns.push(list_of("history", list_of("item", DataType::Utf8).data_type().clone()));
    columns
}

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
