//! `longhand eval`, and the judge in a run.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhand_proto::clock;
use serde_json::{Value, json};

use crate::program::{longhand, run};

fn examples(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

fn arguments(out: &Path) -> Vec<String> {
    let prompts = examples("prompts.jsonl");
    let args = ["eval", "longbench-write", "--prompts", prompts.to_str().unwrap(), "-o", out.to_str().unwrap()];
    args.iter().copied().chain(["--engine", "mock", "--http", "off", "--judge", "2"]).map(str::to_owned).collect()
}

fn report(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap()
}

/// Whoever kills an evaluation and gives the command again must get the figures of one that was never killed.
#[test]
fn a_killed_evaluation_resumes_with_the_same_results() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let ended = run(arguments(&whole));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for word in ["4 prompts, model mock", "[2k, 4k)", "by language", "agentwrite - direct", "S_q"] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    assert!(fs::read_to_string(whole.join("report.html")).unwrap().contains("<svg"));

    let slow = arguments(&killed).into_iter().chain(["--mock-tokens-per-second".to_owned(), "4000".to_owned()]);
    let mut child =
        longhand().args(slow).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let until = clock::now() + Duration::from_secs(30);
    while !killed.join("agentwrite/.longhand/worker").exists() {
        assert!(clock::now() < until && child.try_wait().unwrap().is_none(), "the second method did not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!killed.join("report.json").exists());
    let ended = run(arguments(&killed));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(report(&killed), report(&whole));

    let report = report(&whole);
    let (direct, ours) = (&report["methods"][0], &report["methods"][1]);
    assert_eq!((&direct["method"], &ours["method"]), (&json!("direct"), &json!("agentwrite")));
    // The mock engine writes the requested length; AgentWrite's recipe plans five words in a hundred more.
    let all = &ours["groups"][0];
    assert!((all["score_length"]["mean"].as_f64().unwrap() - 98.3).abs() < 0.2, "{all}");
    assert!((50.0..=100.0).contains(&all["score_quality"]["mean"].as_f64().unwrap()), "{all}");
    assert_eq!(ours["cases"][3]["language"], "zh");
}

#[test]
fn invalid_prompts_are_rejected_before_the_model_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let prompts = dir.path().join("prompts.jsonl");
    fs::write(&prompts, "{\"prompt\": \"Write.\", \"length\": 500}\n{\"prompt\": \"Write.\"}\n").unwrap();
    let ended =
        run(["eval", "ruler", "--prompts", prompts.to_str().unwrap(), "-o", dir.path().join("out").to_str().unwrap()]);
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("prompts.jsonl:2: `length` is missing; expected a whole number of words"),
        "{}",
        ended.stderr
    );
    assert!(!dir.path().join("out").exists());
}

/// Whoever pays for votes finds them with the text, in both formats, and what the judge dropped with its marks.
#[test]
fn votes_are_in_the_record_and_a_threshold_rejects() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = dir.path().join("recipe.toml");
    for (min, out) in [(0.0, "noted"), (100.0, "strict")] {
        fs::write(&recipe, format!("[judge]\nvotes = 3\nmin = {min:.1}\n")).unwrap();
        let out = dir.path().join(out);
        let input = examples("instructions.zh.jsonl");
        let args = ["run", input.to_str().unwrap(), "-o", out.to_str().unwrap(), "--recipe", recipe.to_str().unwrap()];
        let ended = run(args.iter().copied().chain(["--engine", "mock", "--http", "off", "-q"]));
        let lines = |name: &str| -> Vec<Value> {
            let text = fs::read_to_string(out.join(name)).unwrap();
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        if min == 0.0 {
            assert_eq!(ended.code, Some(0), "{}", ended.stderr);
            let records = lines("data/train-00000-of-00001.jsonl");
            assert_eq!(records.len(), 3);
            for record in records {
                let votes = record["judge"]["votes"].as_array().unwrap();
                assert_eq!((votes.len(), &record["judge"]["unread"]), (3, &json!(0)));
                assert_eq!(votes[0]["model"], "mock");
                let marks = votes.iter().flat_map(|vote| vote["scores"].as_object().unwrap().values());
                let mean = marks.map(|mark| mark.as_f64().unwrap()).sum::<f64>() / 18.0;
                assert!((record["score_quality"].as_f64().unwrap() - (mean - 1.0) * 25.0).abs() < 1e-9);
            }
        } else {
            assert_eq!(ended.code, Some(3), "none was accepted: {}", ended.stderr);
            let rejected = lines("rejected.jsonl");
            assert_eq!(rejected.len(), 3);
            assert_eq!((&rejected[0]["rule"], &rejected[0]["threshold"]), (&json!("score_quality"), &json!(100.0)));
            assert!(rejected[0]["detail"].as_str().unwrap().contains("Reading Experience"));
        }
    }
}

/// Candidates that were judged become pairs of a better and a worse text, as TRL reads them.
#[test]
fn judged_candidates_become_preference_pairs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("recipe.toml"), "[judge]\nvotes = 1\n").unwrap();
    let input = examples("instructions.zh.jsonl");
    let args = ["run", input.to_str().unwrap(), "-o", &path("corpus"), "--recipe", &path("recipe.toml")];
    let more = ["--candidates", "4", "--engine", "mock", "--http", "off", "-q"];
    let ended = run(args.iter().chain(&more));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let export = |format: &str| {
        let (from, out) = (path("corpus"), path(format));
        let ended = run(["export", "--from", &from, "-o", &out, "--format", format]);
        // A split without rows has no file.
        let rows = fs::read_to_string(Path::new(&out).join("data/train-00000-of-00001.jsonl")).unwrap_or_default();
        (ended, rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>())
    };
    let (ended, pairs) = export("dpo");
    assert_eq!((ended.code, pairs.len()), (Some(0), 3), "{}", ended.stderr);
    for pair in &pairs {
        assert_eq!(pair["prompt"].as_array().unwrap().last().unwrap()["role"], "user");
        assert_eq!(
            (&pair["chosen"][0]["role"], &pair["rejected"][0]["role"]),
            (&json!("assistant"), &json!("assistant"))
        );
        assert!(pair["score_chosen"].as_f64() > pair["score_rejected"].as_f64(), "{pair}");
    }
    assert_eq!(export("dpo").1, pairs, "the same draw");
    let (ended, none) = export("dpo-length");
    assert_eq!((ended.code, none.len()), (Some(3), 0), "the mock engine always meets the length");
    assert!(ended.stderr.contains("--candidates 4"), "{}", ended.stderr);
}
