//! Whole records, as [`Record`](crate::corpus::Record) documents them.

use arrow_schema::{DataType, Field, Fields};

use super::spec::{Rows, Spec, list, list_of, llama_factory_messages, messages, text};

/// As JSON Lines and as Parquet.
pub(super) const RECORDS: Spec = Spec {
    name: "records",
    contents: "whole records, as Parquet and as JSON Lines",
    extensions: &["jsonl", "parquet"],
    columns,
    rows: Rows::Whole,
    llama_factory: Some(llama_factory_messages),
};

/// In typed columns, as Parquet only.
pub(super) const PARQUET: Spec = Spec {
    name: "parquet",
    contents: "whole records, as Parquet",
    extensions: &["parquet"],
    columns,
    rows: Rows::Whole,
    llama_factory: Some(llama_factory_messages),
};

/// The columns of a record in Parquet.
fn columns() -> Vec<Field> {
    let number = |name: &str| Field::new(name, DataType::UInt32, false);
    let object = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), false);
    let maybe = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
    let scores = |of: DataType| {
        let names = ["relevance", "accuracy", "coherence", "clarity", "breadth_and_depth", "reading_experience"];
        maybe("scores", names.map(|name| Field::new(name, of.clone(), false)).to_vec())
    };
    let vote = vec![
        scores(DataType::UInt8),
        text("problem"),
        number("attempt"),
        Field::new("worker", DataType::Utf8, true),
        text("model"),
        text("weights_hash"),
        text("seed"),
    ];
    let mut tokens = ["prompt", "cached", "reusable", "generated", "resumed"].map(number).to_vec();
    // Written only where they are not 0.
    tokens.extend(["backtracks", "discarded"].map(|name| Field::new(name, DataType::UInt32, true)));
    let share = |name: &str| Field::new(name, DataType::Float64, false);
    let mut rejection = vec![text("rule"), share("value"), share("threshold"), number("attempt"), number("generated")];
    rejection.push(Field::new("text", DataType::Utf8, true));
    let provenance = [
        "run",
        "model",
        "weights_hash",
        "tokenizer_hash",
        "template_hash",
        "recipe_hash",
        "engine",
        "device",
        "licence",
        "seed",
        "longhand",
    ];
    let float = |name: &str| Field::new(name, DataType::Float32, true);
    let recommended = vec![
        float("temperature"),
        Field::new("top_k", DataType::UInt32, true),
        float("top_p"),
        float("min_p"),
        float("repetition_penalty"),
    ];
    let mut provenance = provenance.map(text).to_vec();
    provenance.push(maybe("recommended_sampling", recommended));
    vec![
        text("id"),
        messages("messages"),
        Field::new("instruction_id", DataType::Utf8, true),
        number("candidate"),
        text("language"),
        list("plan", vec![text("main_point"), number("words")]),
        list(
            "sections",
            vec![
                text("text"),
                number("target_words"),
                number("asked_words"),
                number("words"),
                text("finish_reason"),
                number("attempt"),
                text("worker"),
                object("tokens", tokens),
                text("seed"),
                text("trace_id"),
                list_of("context", DataType::Utf8),
                list("rejections", rejection),
            ],
        ),
        Field::new("length", DataType::UInt32, true),
        number("response_length"),
        Field::new("score_length", DataType::Float64, true),
        Field::new("score_quality", DataType::Float64, true),
        maybe("judge", vec![scores(DataType::Float64), number("unread"), list("votes", vote)]),
        list("summaries", vec![text("text"), number("sections"), text("worker"), text("seed")]),
        text("metadata"),
        object("provenance", provenance),
    ]
}
