//! Another recipe's filters over texts that are written already.

use std::fs;

use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::program::{accepted, rejected, run};

#[test]
fn texts_move_out_of_a_corpus_and_back_without_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let rows =
        [200, 300, 1_000, 1_200].map(|words| format!("{{\"prompt\": \"Write a {words}-word essay on ships.\"}}"));
    fs::write(at("in.jsonl"), rows.join("\n")).unwrap();
    fs::write(at("long.toml"), "[filters]\nmin_words = 700\n").unwrap();
    fs::write(at("any.toml"), "[filters]\nmin_words = 1\n").unwrap();
    let ended = run(["run", &at("in.jsonl"), "-o", &at("corpus"), "--engine", "mock", "--http", "off", "-q"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let whole = accepted(&dir.path().join("corpus"));
    assert_eq!(whole.len(), 4);

    // First what would move, then the corpus.
    let ended = run(["filter", &at("corpus"), "--recipe", &at("long.toml")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("4 documents judged, 4 accepted before, 2 now: 0 newly accepted, 2 newly rejected"));
    assert!(ended.stdout.lines().any(|line| line.starts_with("too_short") && line.contains("700")), "{}", ended.stdout);
    assert!(ended.stderr.contains("add -o DIR"), "{}", ended.stderr);
    let ended = run(["filter", &at("corpus"), "--recipe", &at("long.toml"), "-o", &at("long"), "--json"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&said["moves"]["accepted_now"], &said["stats"]["documents"]["accepted"]), (&json!(2), &json!(2)));
    assert_eq!(rejected(&dir.path().join("long")).len(), 2);
    assert_eq!(accepted(&dir.path().join("corpus")), whole, "the folder that is read does not change");
    let report = run(["report", &at("long"), "--json"]);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!((&report["summary"]["documents"], &report["summary"]["kept"]), (&json!(4), &json!(2)));

    // From the files alone: the exported folder has no store.
    fs::remove_dir_all(dir.path().join("long/.longhand")).unwrap();
    let ended = run(["filter", &at("long"), "--recipe", &at("any.toml"), "-o", &at("back")]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("2 newly accepted, 0 newly rejected"), "{}", ended.stdout);
    assert_eq!(accepted(&dir.path().join("back")), whole);

    for (folder, output, word) in [
        (at("corpus"), at("corpus"), "choose another output folder"),
        (at("nowhere"), at("new"), "expected a complete output folder"),
        (at("corpus"), at("long-again"), "cannot be read"),
    ] {
        let recipe = if word == "cannot be read" { at("none.toml") } else { at("any.toml") };
        let ended = run(["filter", &folder, "--recipe", &recipe, "-o", &output]);
        assert_eq!(ended.code, Some(2), "{word}: {}", ended.stderr);
        assert!(word == "cannot be read" || ended.stderr.contains(word), "{}", ended.stderr);
    }
}

#[test]
fn a_run_of_a_fleet_is_exported_under_another_recipe() {
    let fleet = Fleet::start(&[]);
    fleet.submit("one", 3);
    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "one"]);
    let at = |name: &str| fleet.dir.path().join(name).display().to_string();
    fs::write(at("strict.toml"), "[filters]\nmin_words = 100000\n").unwrap();
    let said = fleet.ask(&["export", "one", "-o", &at("strict"), "--recipe", &at("strict.toml")]);
    assert_eq!((&said[0]["moves"]["accepted_before"], &said[0]["moves"]["accepted_now"]), (&json!(3), &json!(0)));
    assert_eq!(rejected(&fleet.dir.path().join("strict")).len(), 3);
    let said = fleet.ask(&["export", "one", "-o", &at("own")]);
    assert_eq!(said[0]["stats"]["documents"]["accepted"], 3, "the run keeps its own verdicts");
}
