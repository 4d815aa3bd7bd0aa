//! From nothing to a corpus: `compose`, then `validate` and `run`.

use std::fs;

use serde_json::{Value, json};

use crate::program::{accepted, rejected, run};

/// Seeds of one form and one subject.
const OWN: &str = r#"
[[form]]
name = "essay"
phrase = "an essay on {subject}"
kind = "essay"

[subjects]
mine = ["the wells of my village"]

[patterns]
any = ["Write {text} of about {words} words."]
"#;

#[test]
fn a_composed_file_is_valid_has_no_near_duplicates_and_can_be_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let out = path("instructions.jsonl");
    let composed = run(["compose", "-o", &out, "--count", "200", "--seed", "20", "--json"]);
    assert_eq!(composed.code, Some(0), "{}", composed.stderr);
    let report: Value = serde_json::from_str(&composed.stdout).unwrap();
    assert_eq!((&report["rows"], &report["english"], &report["chinese"]), (&json!(200), &json!(100), &json!(100)));
    assert_eq!((&report["unchanged"], &report["worded"]), (&json!(false), &Value::Null));

    let valid = run(["validate", &out, "--json"]);
    assert_eq!(valid.code, Some(0), "{}", valid.stdout);
    let valid: Value = serde_json::from_str(&valid.stdout).unwrap();
    assert_eq!((&valid["rows"], &valid["bad"], &valid["repeated"]), (&json!(200), &json!(0), &json!(0)));
    assert_eq!((&valid["english"], &valid["no_length"]), (&json!(100), &json!(0)));
    let selected = run(["select", &out, "-o", &path("selected.jsonl"), "--json"]);
    let selected: Value = serde_json::from_str(&selected.stdout).unwrap();
    assert_eq!(selected["kept"], json!(200), "{selected}");

    // The same draw is left alone, another one does not replace it.
    let before = fs::read(&out).unwrap();
    let again = run(["compose", "-o", &out, "--count", "200", "--seed", "20"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("nothing was written"), "{}", again.stdout);
    let other = run(["compose", "-o", &out, "--count", "200", "--seed", "21"]);
    assert_eq!(other.code, Some(2));
    assert!(other.stderr.contains("choose another file"), "{}", other.stderr);
    assert_eq!(fs::read(&out).unwrap(), before);

    let corpus = dir.path().join("corpus");
    let corpus_name = corpus.to_str().unwrap();
    let ended = run(["run", &out, "-o", corpus_name, "--engine", "mock", "--http", "off", "--limit", "2"]);
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    assert_eq!(accepted(&corpus).len() + rejected(&corpus).len(), 2);
}

#[test]
fn seed_files_can_be_replaced_and_bad_ones_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    assert_eq!(run(["compose", "--write-seeds", &path("seeds")]).code, Some(0));
    assert_eq!(run(["compose", "--write-seeds", &path("seeds")]).code, Some(2), "existing files are not overwritten");

    assert!(fs::read_to_string(path("seeds/zh.toml")).unwrap().contains("[subjects]"));
    fs::write(path("seeds/en.toml"), OWN).unwrap();
    let args = |count: &'static str| {
        run(["compose", "-o", &path("own.jsonl"), "--count", count, "--language", "en", "--seeds", &path("seeds")])
    };
    let own = args("1");
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    assert!(fs::read_to_string(path("own.jsonl")).unwrap().contains("the wells of my village"));
    let many = args("2");
    assert_eq!(many.code, Some(2));
    assert!(many.stderr.contains("after 1 rows") && many.stderr.contains("add forms and subjects"), "{}", many.stderr);

    fs::write(path("seeds/en.toml"), OWN.replace("phrase =", "frase =")).unwrap();
    let bad = args("1");
    assert_eq!(bad.code, Some(2));
    assert!(bad.stderr.contains("en.toml:4") && bad.stderr.contains("frase"), "{}", bad.stderr);
}

#[test]
fn a_model_is_asked_and_what_it_gets_wrong_stays_in_the_words_of_a_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl").to_str().unwrap().to_owned();
    let composed = run(["compose", "-o", &out, "--count", "6", "--engine", "mock", "--json"]);
    assert_eq!(composed.code, Some(0), "{}", composed.stderr);
    assert!(composed.stderr.contains("to word 6 rows"), "{}", composed.stderr);
    let report: Value = serde_json::from_str(&composed.stdout).unwrap();
    // The test double writes filler words, which no gate takes for a request.
    assert_eq!((&report["worded"]["model"], &report["worded"]["pattern"]), (&json!(0), &json!(6)));
    let tries: u64 = report["worded"]["refused"].as_array().unwrap().iter().map(|gate| gate[1].as_u64().unwrap()).sum();
    assert_eq!(tries, 18, "three tries for each row: {report}");
    for line in fs::read_to_string(&out).unwrap().lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        assert_eq!(row["metadata"]["worded"], "pattern");
        assert!(row["metadata"]["refused"].is_string() && row["prompt"].is_string(), "{row}");
    }
}

#[test]
fn invalid_arguments_are_rejected_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.jsonl").to_str().unwrap().to_owned();
    for (args, word) in [
        (&["--count", "0"][..], "invalid value"),
        (&["--count", "5", "--lengths", "9-3"][..], "expected MIN-MAX"),
        (&["--count", "5", "--lengths", "60-70"][..], "no form of the en seeds"),
        (&["--count", "5", "--language", "de"][..], "possible values"),
        (&["--count", "5", "--seeds", "nowhere"][..], "--write-seeds"),
        (&[][..], "--count"),
    ] {
        let ended = run(["compose", "-o", &out].iter().copied().chain(args.iter().copied()));
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(word), "{args:?}: {}", ended.stderr);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
