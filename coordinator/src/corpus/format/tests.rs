//! Each format as its readers document it.

use longhand_proto::task::Message;
use serde_json::{Value, json};

use super::Format;
use crate::corpus::Record;
use crate::corpus::tests::{document, run};
use crate::domain::language::Language;
use crate::domain::recipe::Recipe;

fn record(turns: &[(&str, &str)]) -> Record {
    let mut record = Record::of(&document(1, Language::En, 1), &run(), &Recipe::default()).unwrap();
    let turn = |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into() };
    record.messages = turns.iter().map(turn).collect();
    record
}

fn named(name: &str) -> Format {
    name.parse().unwrap()
}

fn row(format: Format, record: &Record) -> Value {
    let mut rows = format.rows(std::slice::from_ref(record));
    assert_eq!(rows.len(), 1);
    let mut row = rows.remove(0);
    if let Some(id) = row.as_object_mut().unwrap().remove("id") {
        assert_eq!(id, record.id.to_string());
    }
    row
}

#[test]
fn a_question_and_its_document_in_every_format() {
    let record = record(&[("user", "Write."), ("assistant", "A \"text\".\n\nIts end.")]);
    let messages = json!([
        { "role": "user", "content": "Write." },
        { "role": "assistant", "content": "A \"text\".\n\nIts end." },
    ]);
    assert_eq!(row(named("messages"), &record), json!({ "messages": messages }));
    assert_eq!(named("openai").rows(std::slice::from_ref(&record)), [json!({ "messages": messages })], "no other key");
    assert_eq!(
        row(named("sharegpt"), &record),
        json!({ "conversations": [
            { "from": "human", "value": "Write." }, { "from": "gpt", "value": "A \"text\".\n\nIts end." },
        ] })
    );
    assert_eq!(
        row(named("alpaca"), &record),
        json!({ "instruction": "Write.", "input": "", "output": "A \"text\".\n\nIts end.", "system": "", "history": [] })
    );
    let whole = named("parquet").rows(std::slice::from_ref(&record)).remove(0);
    assert_eq!(serde_json::from_value::<Record>(whole).unwrap(), record);
}

#[test]
fn earlier_turns_are_kept_where_the_format_has_a_place_for_them() {
    let turns = [
        ("system", "Be kind."),
        ("user", "Hello."),
        ("user", "Are you there?"),
        ("assistant", "Yes."),
        ("user", "Write."),
        ("assistant", "A text."),
    ];
    let record = record(&turns);
    assert_eq!(
        row(named("alpaca"), &record),
        json!({ "instruction": "Write.", "input": "", "output": "A text.", "system": "Be kind.",
                "history": [["Hello.\n\nAre you there?", "Yes."]] })
    );
    let sharegpt = row(named("sharegpt"), &record);
    let sides: Vec<&str> =
        sharegpt["conversations"].as_array().unwrap().iter().map(|turn| turn["from"].as_str().unwrap()).collect();
    assert_eq!(sides, ["system", "human", "human", "gpt", "human", "gpt"]);
}

#[test]
fn a_format_is_displayed_as_it_is_parsed() {
    for spec in super::ALL {
        assert_eq!(named(spec.name).to_string(), spec.name);
        assert!(!spec.extensions.is_empty(), "{}", spec.name);
    }
    let error = "excel".parse::<Format>().unwrap_err();
    let formats = "records, parquet, messages, openai, sharegpt, alpaca, dpo, dpo-length, dpo-quality, dpo-section";
    assert_eq!(error, format!("invalid format \"excel\": expected one of {formats}"));
}
