//! kill -9 of a worker with a real model: what is lost, and how the section is resumed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::fleet::{Fleet, Process};
use crate::program::model;

fn worker(fleet: &Fleet) -> Process {
    let model = model();
    let args = ["worker", "--model", model.to_str().unwrap(), "--checkpoint-seconds", "0.3", "--max-sequences", "1"];
    Process::start(&[&args[..], &["--kv-memory", "256MiB", "--coordinator", &fleet.url]].concat())
}

fn document(fleet: &Fleet) -> Value {
    fleet.ask(&["documents", "ships"]).remove(0)
}

/// One document, written by a small real model under a grammar and with length control.
fn submitted() -> Fleet {
    submitted_with(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/recipes/demo.toml"))
}

fn submitted_with(recipe: &Path) -> Fleet {
    let fleet = Fleet::start(&["--lease-seconds", "2", "--max-losses", "100"]);
    let input = fleet.dir.path().join("in.jsonl");
    std::fs::write(&input, r#"{"id": "tea", "prompt": "Write about tea in 450 words.", "length": 450}"#).unwrap();
    let (input, recipe) = (input.to_str().unwrap(), recipe.to_str().unwrap());
    fleet.ask(&["submit", input, "--run-id", "ships", "--recipe", recipe, "--seed", "5"]);
    fleet
}

/// The document as it ended.
fn ended(fleet: &Fleet) -> Value {
    fleet.ask(&["watch", "ships"]);
    let id = document(fleet)["document"].as_str().unwrap().to_owned();
    fleet.ask(&["show", "ships", &id]).remove(0)
}

fn sections(fleet: &Fleet) -> (Vec<String>, u64) {
    let shown = ended(fleet);
    let sections = shown["body"]["progress"]["sections"].as_array().unwrap();
    let resumed = sections.iter().map(|section| section["usage"]["resumed"].as_u64().unwrap()).sum();
    (sections.iter().map(|section| section["text"].as_str().unwrap().to_owned()).collect(), resumed)
}

#[test]
fn the_section_of_a_killed_worker_resumes_from_its_checkpoint_with_the_same_text() {
    let whole = submitted();
    let uninterrupted = worker(&whole);
    let (expected, resumed) = sections(&whole);
    drop(uninterrupted);
    assert_eq!(resumed, 0);

    let fleet = submitted();
    let mut killed = worker(&fleet);
    killed.event("started");
    // In the middle of the first section.
    let saved = loop {
        let now = document(&fleet);
        assert_eq!(now["sections"], 0, "the section was over before the worker was killed");
        if now["steps"] != 0 && now["checkpoint_tokens"].as_u64().unwrap() >= 40 {
            break now["checkpoint_tokens"].as_u64().unwrap();
        }
    };
    killed.kill();
    let _successor = worker(&fleet);
    let (texts, resumed) = sections(&fleet);
    assert!(resumed >= saved, "{saved} tokens were checkpointed, and {resumed} were resumed");
    assert_eq!(texts, expected);
}

/// A recipe under which drafts are rejected, phrases are taken back and sections are turns of a conversation.
const EVENTFUL: &str = r#"
name = "eventful"
[plan]
min_words = 80
max_words = 200
max_tokens = 512
[section]
layout = "turns"
tries = 2
keep_best = true
keep_drafts = true
ban_en = ["tea is", "is a", "of the"]
floor = 0.5
ceiling = 1.2
[section.sampling]
temperature = 0.8
min_p = 0.05
dry_multiplier = 0.8
dry_allowed_length = 3
[filters]
max_section_error = 0.3
max_other_language = 1.0
[retry]
backoff_ms = 1
"#;

/// What a document came to: its sections' texts, and the rule and text of each draft that was rejected.
fn outcome(shown: &Value) -> Vec<(String, Vec<(String, String)>)> {
    let sections = shown["body"]["progress"]["sections"].as_array().unwrap_or_else(|| panic!("{shown}"));
    let rejections = |section: &Value| -> Vec<(String, String)> {
        let all = section["rejections"].as_array().cloned().unwrap_or_default();
        all.iter().map(|it| (it["rule"].to_string(), it["text"].as_str().unwrap().to_owned())).collect()
    };
    sections.iter().map(|section| (section["text"].as_str().unwrap().to_owned(), rejections(section))).collect()
}

/// Each worker is killed at some moment: in a plan, a section, a draft that will be rejected, a phrase that is taken back.
#[test]
fn kills_at_any_moment_change_no_text_with_gate_backtracking_and_turns() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = directory.path().join("eventful.toml");
    std::fs::write(&recipe, EVENTFUL).unwrap();
    let whole = submitted_with(&recipe);
    let uninterrupted = worker(&whole);
    let shown = ended(&whole);
    drop(uninterrupted);
    let expected = outcome(&shown);
    let rejected: usize = expected.iter().map(|(_, rejections)| rejections.len()).sum();
    let backtracks = |shown: &Value| -> u64 {
        let sections = shown["body"]["progress"]["sections"].as_array().unwrap();
        sections.iter().filter_map(|section| section["usage"]["backtracks"].as_u64()).sum()
    };
    assert!(rejected > 0 && backtracks(&shown) > 0, "the recipe is eventful: {expected:?}");

    let fleet = submitted_with(&recipe);
    let mut random = StdRng::seed_from_u64(9);
    let mut kills = 0;
    while kills < 12 {
        let mut killed = worker(&fleet);
        killed.event("started");
        std::thread::sleep(Duration::from_millis(random.random_range(100..3_000)));
        killed.kill();
        if !matches!(document(&fleet)["state"].as_str(), Some("ready" | "leased")) {
            break;
        }
        kills += 1;
    }
    let _last = worker(&fleet);
    let shown = ended(&fleet);
    assert!(kills > 1, "the document was done after {kills} kills");
    assert_eq!(outcome(&shown), expected, "{shown}");
    // One completed attempt for the plan and for each draft, of which the best is kept after two: nothing is written again.
    let attempts = shown["attempts"].as_array().unwrap();
    let completed = attempts.iter().filter(|attempt| attempt["end"] == "completed").count();
    let drafts: usize = expected.iter().map(|(_, rejections)| (rejections.len() + 1).min(2)).sum();
    assert_eq!(completed, 1 + drafts, "{attempts:?}");
}
