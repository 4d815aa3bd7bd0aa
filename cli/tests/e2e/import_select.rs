//! From a data set to the instructions of a run: `import`, then `select`.

use std::fs;

use serde_json::{Value, json};

use crate::program::run;

#[test]
fn a_data_set_is_imported_and_selected_into_a_valid_input() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let talk =
        |text: &str| json!({"conversation": [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]});
    let rows = json!([
        talk("Write a 2,000-word essay on tides and harbours."),
        talk("Write a 2,000-word essay on tides, and harbours!"),
        talk("What time is it?"),
        talk("写一篇三千字的散文，题目是老街的一天。"),
        {"conversation": []},
    ]);
    fs::write(path("chats.json"), rows.to_string()).unwrap();

    let imported = run(["import", &path("chats.json"), "-o", &path("in.jsonl"), "--licence", "odc-by"]);
    assert_eq!(imported.code, Some(3), "{}{}", imported.stdout, imported.stderr);
    assert!(imported.stdout.contains("chats.json:5") && imported.stdout.contains("no turn has the role `user`"));

    let args = ["select", &path("in.jsonl"), "-o", &path("out.jsonl"), "--quota", "en=3000", "--json"];
    let selected = run(args);
    assert_eq!(selected.code, Some(0), "{}", selected.stderr);
    let report: Value = serde_json::from_str(&selected.stdout).unwrap();
    assert_eq!((&report["read"], &report["kept"], &report["chinese"]), (&json!(4), &json!(2), &json!(1)));
    let dropped = fs::read_to_string(path("dropped.jsonl")).unwrap();
    assert!(dropped.contains("\"near_duplicate\"") && dropped.contains("\"short\""), "{dropped}");

    let valid = run(["validate", &path("out.jsonl")]);
    assert_eq!(valid.code, Some(0), "{}", valid.stdout);
    assert!(fs::read_to_string(path("out.jsonl")).unwrap().contains("odc-by"));
}

#[test]
fn a_model_is_asked_where_the_rule_lists_cannot_tell() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let subjects = ["tides", "salt", "glass", "paper", "iron", "wool", "clay", "rope", "ink", "honey", "silk", "tea"];
    let text = |subject| format!("The people of the old town, and what {subject} meant to them in those days");
    let rows = subjects.map(|subject| json!({"prompt": text(subject)}).to_string());
    fs::write(path("in.jsonl"), rows.join("\n")).unwrap();
    let args = |more: &[&'static str]| {
        let mut args =
            vec!["select".to_owned(), path("in.jsonl"), "-o".to_owned(), path("out.jsonl"), "--json".to_owned()];
        args.extend(more.iter().map(|it| (*it).to_owned()));
        args
    };
    let report = |more: &[&'static str]| -> Value {
        let ended = run(args(more));
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str(&ended.stdout).unwrap()
    };
    let bare = report(&[]);
    assert_eq!((&bare["unknown"], &bare["asked"]), (&json!(12), &Value::Null));
    let asked = report(&["--ask", "--engine", "mock"]);
    let (yes, no) = (asked["asked"]["yes"].as_u64().unwrap(), asked["asked"]["no"].as_u64().unwrap());
    assert!(yes > 0 && no > 0 && yes + no == 12, "{asked}");
    assert_eq!((&asked["kept"], &asked["long"], &asked["unknown"]), (&json!(yes), &json!(yes), &json!(0)));
    let dropped = fs::read_to_string(path("dropped.jsonl")).unwrap();
    assert_eq!(dropped.matches("\"rule\":\"intent\",\"value\":\"no\"").count() as u64, no, "{dropped}");
    assert_eq!(fs::read_to_string(path("answers.jsonl")).unwrap().lines().count(), 12);

    let refused = run(args(&["--ask"]));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("no model given"), "{}", refused.stderr);
    assert_eq!(run(args(&["--ask", "--any-intent"])).code, Some(2));
}

#[test]
fn invalid_arguments_are_rejected_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("odd.jsonl"), "{\"question\": \"x\"}\n").unwrap();
    let odd = run(["import", &path("odd.jsonl"), "-o", &path("out.jsonl")]);
    assert_eq!(odd.code, Some(2));
    assert!(odd.stderr.contains("`question`") && odd.stderr.contains("--field"), "{}", odd.stderr);

    let select = |more: &[&str]| {
        run(["select", &path("odd.jsonl"), "-o", &path("out.jsonl")].iter().copied().chain(more.iter().copied()))
    };
    for (args, word) in [
        (&["--similarity", "1.5"][..], "invalid fraction"),
        (&["--languages", "de"][..], "expected en or zh"),
        (&["--quota", "en:3"][..], "expected LANGUAGE=ROWS, such as en=3000"),
        (&["--topics", "5"][..], "--quota"),
        (&["--quota", "en=3", "--topics", "1"][..], "2..=1000"),
        (&["--min-length", "9", "--max-length", "3"][..], "no row can pass"),
        (&["--rules", &path("nowhere")][..], "--write-rules"),
        (&["--against", &path("nowhere")][..], "check the path"),
        (&["--dropped", &path("out.jsonl")][..], "is given for two files"),
    ] {
        let ended = select(args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{args:?}: {}", ended.stderr);
    }
    assert!(!dir.path().join("out.jsonl").exists() && !dir.path().join("dropped.jsonl").exists());

    assert_eq!(run(["select", "--write-rules", &path("rules")]).code, Some(0));
    assert!(fs::read_to_string(path("rules/toxic.txt")).unwrap().starts_with('#'));
    assert_eq!(run(["select", "--write-rules", &path("rules")]).code, Some(2), "existing files are not overwritten");
}
