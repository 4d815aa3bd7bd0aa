//! Each kind of data set gives its instructions with where they came from, and what cannot be read is reported.

use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::dataset::input;
use crate::domain::language::Language;

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }

    fn import(&self, source: &std::path::Path, options: &Options) -> (Report, Vec<Value>) {
        let report = import(&[source.to_owned()], &self.out(), options).unwrap();
        let text = std::fs::read_to_string(self.out()).unwrap();
        (report, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn one(&self, row: Value, options: &Options) -> Value {
        let (report, mut rows) = self.import(&self.file("one.jsonl", row.to_string()), options);
        assert_eq!((report.read, report.written), (1, 1), "{report:?}");
        rows.remove(0)
    }
}

fn wildchat() -> Value {
    json!({
        "conversation_hash": "c0ffee", "model": "m", "language": "English", "toxic": false, "redacted": false,
        "conversation": [
            {"role": "user", "content": "Write 2,000 words on bees.", "language": "English", "toxic": false},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "Now on wasps."},
            {"role": "assistant", "content": "Wasps."},
        ],
        "openai_moderation": [
            {"flagged": false, "categories": {"hate": false, "violence": false}},
            {"flagged": true, "categories": {"hate": false, "violence": true}},
        ],
    })
}

#[test]
fn each_kind_of_data_set_gives_its_instruction() {
    let case = Case::new();
    let turns = json!([{"role": "user", "content": "Write."}, {"role": "assistant", "content": "Long text"}]);
    for (format, row) in [
        ("wildchat", json!({"conversation": turns, "language": "English"})),
        (
            "sharegpt",
            json!({"id": "a_0", "conversations": [{"from": "human", "value": "Write."}, {"from": "gpt", "value": "x"}]}),
        ),
        ("messages", json!({"messages": turns})),
        ("prompt", json!({"prompt": "Write.", "type": "News Report", "length": 300})),
        ("alpaca", json!({"instruction": "Write.", "input": "", "output": "x"})),
        ("openai", json!({"custom_id": "r-1", "method": "POST", "body": {"model": "m", "messages": turns}})),
    ] {
        let row = case.one(row, &Options::default());
        assert_eq!((&row["prompt"], &row["metadata"]["source"]["format"]), (&json!("Write."), &json!(format)));
        assert_eq!(row["metadata"]["source"]["row"], 1, "{format}");
    }
    let with_input = case.one(json!({"instruction": "Go on.", "input": "Once upon a time"}), &Options::default());
    assert_eq!(with_input["prompt"], "Go on.\n\nOnce upon a time");
    let field = Options { format: Some(Format::Field("query".into())), ..Options::default() };
    assert_eq!(case.one(json!({"prompt": "no", "query": "Write."}), &field)["prompt"], "Write.");
    assert_eq!(case.one(json!({"query": turns}), &field)["prompt"], "Write.");
}

#[test]
fn provenance_licence_and_moderation_go_with_the_row() {
    let case = Case::new();
    let options = Options { source: Some("org/set".into()), licence: Some("odc-by".into()), ..Options::default() };
    let row = case.one(wildchat(), &options);
    assert_eq!(
        row["metadata"],
        json!({
            "moderation": {"toxic": false, "redacted": false, "flagged": ["violence"]},
            "source": {"name": "org/set", "file": "one.jsonl", "row": 1, "format": "wildchat", "turn": 1, "id": "c0ffee",
                       "licence": "odc-by", "language": "English"},
        })
    );
    assert_eq!((&row["language"], row.get("length")), (&json!("en"), None));
    // A row's own licence is the better one; a language that is not ours is kept aside and reported by `select`.
    let own = json!({"prompt": "Écris", "licence": "mit", "language": "French", "length": 700, "metadata": {"k": 1}});
    let row = case.one(own, &options);
    assert_eq!(row["metadata"]["source"]["licence"], "mit");
    assert_eq!((row.get("language"), &row["length"], &row["metadata"]["k"]), (None, &json!(700), &json!(1)));
    // What was written is what `run` reads.
    let read: Vec<_> = input::read(case.out()).unwrap().map(Result::unwrap).collect();
    assert_eq!((read[0].required_words, read[0].language), (Some(700), Language::En));
}

#[test]
fn any_turn_of_the_users_can_be_the_instruction_with_what_came_before() {
    let case = Case::new();
    let at = |turn, history| Options { turn, history, ..Options::default() };
    assert_eq!(case.one(wildchat(), &at(Turn::Last, false))["prompt"], "Now on wasps.");
    assert_eq!(case.one(wildchat(), &at(Turn::Nth(2), false))["prompt"], "Now on wasps.");
    let talk = json!({"conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Name a city."},
        {"from": "gpt", "value": "Lima."}, {"from": "human", "value": "Write on it."}, {"from": "gpt", "value": "x"}]});
    let row = case.one(talk.clone(), &at(Turn::Last, true));
    assert_eq!(row["messages"].as_array().unwrap().len(), 4);
    assert_eq!(row["messages"][0], json!({"role": "system", "content": "Be kind."}));
    assert_eq!(case.one(talk.clone(), &at(Turn::First, true))["messages"].as_array().unwrap().len(), 2);
    let path = case.file("talk.jsonl", format!("{talk}\n{}", json!({"conversations": talk["conversations"], "id": 2})));
    let (report, rows) = case.import(&path, &at(Turn::Nth(3), false));
    assert_eq!((report.bad, rows.len()), (2, 0));
    assert!(report.bad_rows[0].to_string().contains("has 2 turns with the role `user`; there is no turn 3"));
}

#[test]
fn the_same_instruction_has_the_same_id_wherever_it_stands() {
    let case = Case::new();
    let one = case.one(json!({"prompt": "Write."}), &Options::default());
    let two = case.one(json!({"id": 9, "conversations": [{"from": "human", "value": "Write."}]}), &Options::default());
    assert_eq!(one["id"], two["id"]);
    assert_eq!(one["id"].as_str().unwrap().len(), 32);
    assert_ne!(case.one(json!({"prompt": "Write!"}), &Options::default())["id"], one["id"]);
    let three = case.one(json!({"prompt": "Write.", "context": "Of bees."}), &Options::default());
    assert_ne!(three["id"], one["id"]);
}

#[test]
fn bad_rows_are_counted_and_named_and_cost_no_good_one() {
    let case = Case::new();
    let path = case.file(
        "rows.jsonl",
        b"{\"prompt\": \"one\"}\n{\"prompt\": \"\"}\nbroken\n{\"text\": \"other column\"}\n{\"prompt\": \"caf\xe9\"}\n{\"prompt\": \"six\"}\n",
    );
    let (report, rows) = case.import(&path, &Options::default());
    assert_eq!((report.read, report.written, report.bad, rows.len()), (6, 2, 4, 2));
    let reported: Vec<_> = report.bad_rows.iter().map(|bad| (bad.line, bad.problem.as_str())).collect();
    assert_eq!(reported[0], (2, "is empty"));
    assert_eq!(reported[2], (4, "is missing"));
    assert_eq!(reported[3], (5, "byte 16 is not UTF-8"));
}

#[test]
fn a_file_without_a_known_column_is_refused_with_its_columns_and_nothing_is_written() {
    let case = Case::new();
    let refused = |row: &str, options: &Options| {
        let path = case.file("odd.jsonl", row.repeat(3));
        import(&[path], &case.out(), options).unwrap_err().to_string()
    };
    let message = refused("{\"question\": \"x\", \"answer\": \"y\"}\n", &Options::default());
    assert!(
        message.contains("odd.jsonl: it has none of the known columns; the columns are `question`, `answer`; name")
    );
    let field = Options { format: Some(Format::Field("query".into())), ..Options::default() };
    assert!(refused("{\"prompt\": \"x\"}\n", &field).contains("there is no `query` column; the columns are `prompt`"));
    assert!(refused("", &Options::default()).contains("no rows"));
    assert!(!case.out().exists() && std::fs::read_dir(case.dir.path()).unwrap().count() == 1, "nothing half is left");
}

#[test]
fn parquet_lists_and_compressed_files_are_read_alike() {
    let case = Case::new();
    let list = json!([wildchat(), wildchat(), {"conversation": [{"role": "user", "content": "写三千字"}]}]);
    let (_, from_list) = case.import(&case.file("list.json", list.to_string()), &Options::default());
    let lines: String = list.as_array().unwrap().iter().map(|row| format!("{row}\n")).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    let zstd = zstd::encode_all(lines.as_bytes(), 0).unwrap();

    // As hubs write it: nested columns, snappy.
    let mut reader = std::io::Cursor::new(lines.as_bytes());
    let (schema, _) = arrow_json::reader::infer_json_schema_from_seekable(&mut reader, None).unwrap();
    let mut decoder = arrow_json::ReaderBuilder::new(schema.into()).build(reader).unwrap();
    let batch = decoder.next().unwrap().unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .build();
    let mut columns = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut columns, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let path = case.file("odd.parquet", &columns);
    let field = Options { format: Some(Format::Field("question".into())), ..Options::default() };
    let error = import(&[path], &case.dir.path().join("odd.jsonl"), &field).unwrap_err().to_string();
    assert!(
        error.contains("odd.parquet: there is no `question` column; the columns are `conversation_hash`, "),
        "{error}"
    );
    assert!(error.contains("--field") && !case.dir.path().join("odd.jsonl").exists(), "{error}");

    let gzip = gzip.finish().unwrap();
    for (name, bytes) in [("a.gz", gzip), ("a.zst", zstd), ("a.parquet", columns), ("a", lines.clone().into_bytes())] {
        let (report, mut rows) = case.import(&case.file(name, bytes), &Options::default());
        assert_eq!((report.read, report.bad), (3, 0), "{name}: {report:?}");
        for (row, want) in rows.iter_mut().zip(&from_list) {
            row["metadata"]["source"]["file"] = json!("list.json");
            row["metadata"]["source"]["name"] = json!("list.json");
            assert_eq!(row, want, "{name}");
        }
    }
}

#[test]
fn the_output_is_compressed_if_its_name_says_so() {
    let case = Case::new();
    let source = case.file("in.jsonl", "{\"prompt\": \"one\"}\n{\"prompt\": \"two\"}\n");
    for name in ["out.jsonl.gz", "out.jsonl.zst"] {
        let out = case.dir.path().join(name);
        import(std::slice::from_ref(&source), &out, &Options::default()).unwrap();
        assert_ne!(std::fs::read(&out).unwrap()[0], b'{', "{name}");
        let texts: Vec<_> = input::read(&out).unwrap().map(|row| row.unwrap().text()).collect();
        assert_eq!(texts, ["one", "two"], "{name}");
    }
}

#[test]
fn several_sources_become_one_file() {
    let case = Case::new();
    let rows = |from: u32| (from..from + 5_000).map(|n| format!("{{\"prompt\": \"row {n}\"}}\n")).collect::<String>();
    let sources = [case.file("a.jsonl", rows(0)), case.file("b.jsonl", rows(5_000))];
    let report = import(&sources, &case.out(), &Options::default()).unwrap();
    assert_eq!((report.read, report.written), (10_000, 10_000));
    let last = input::read(case.out()).unwrap().last().unwrap().unwrap();
    assert_eq!((last.text().as_str(), &last.metadata["source"]["file"]), ("row 9999", &json!("b.jsonl")));
}

#[test]
fn an_unknown_role_is_named_and_case_does_not_matter() {
    let case = Case::new();
    let talk = |first: &str| json!({"conversations": [{"from": first, "value": "Write a saga."}, {"from": "gpt", "value": "Long."}, {"from": "human", "value": "Shorter."}]});
    assert_eq!(case.one(talk("Human"), &Options::default())["prompt"], "Write a saga.");
    let (report, _) = case.import(&case.file("odd.jsonl", talk("Oracle").to_string()), &Options::default());
    assert!(report.bad_rows[0].to_string().contains("unknown role \"Oracle\""), "{report:?}");
}

#[test]
fn columns_beside_the_text_are_kept_or_counted() {
    let case = Case::new();
    let rows = [
        json!({"system": "You are a pirate.", "conversations": [{"from": "human", "value": "Hi."}]}),
        json!({"system": "Be brief.", "instruction": "And now?", "history": [["One?", "One."]]}),
        json!({"prompt": "x", "context": "A text to draw on.", "length": 3000.0}),
        json!({"prompt": "y", "context": [{"id": "k", "text": "b"}], "length": "3000"}),
        json!({"prompt": "z", "context": {"odd": 1}, "length": "long", "metadata": 5, "system": " "}),
    ];
    // Each in a file of its own: a file has one format.
    let import = |row: &Value, options: &Options| {
        let (report, mut rows) = case.import(&case.file("row.jsonl", row.to_string()), options);
        (report.dropped, rows.remove(0))
    };
    let history = Options { history: true, ..Options::default() };
    let (dropped, row) = import(&rows[0], &history);
    assert_eq!((dropped.len(), &row["messages"][0]["content"]), (0, &json!("You are a pirate.")));
    assert_eq!(import(&rows[0], &Options::default()).0, [("system", 1)].into());
    let (dropped, row) = import(&rows[1], &history);
    let said: Vec<_> =
        row["messages"].as_array().unwrap().iter().map(|turn| turn["content"].as_str().unwrap()).collect();
    assert_eq!((dropped.len(), said), (0, vec!["Be brief.", "One?", "One.", "And now?"]));
    assert_eq!(import(&rows[1], &Options::default()).0, [("history", 1), ("system", 1)].into());
    let (dropped, row) = import(&rows[2], &history);
    assert_eq!(
        (dropped.len(), &row["context"][0]["text"], &row["length"]),
        (0, &json!("A text to draw on."), &json!(3000))
    );
    let (dropped, row) = import(&rows[3], &history);
    assert_eq!((dropped.len(), &row["context"][0]["id"], &row["length"]), (0, &json!("k"), &json!(3000)));
    assert_eq!(import(&rows[4], &history).0, [("context", 1), ("length", 1), ("metadata", 1)].into());
}
