//! kill -9 of a worker with a real model: what is lost, and how the section is resumed.

use std::path::PathBuf;

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
    let fleet = Fleet::start(&["--lease-seconds", "2"]);
    let recipe = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/recipes/demo.toml");
    let input = fleet.dir.path().join("in.jsonl");
    std::fs::write(&input, r#"{"id": "tea", "prompt": "Write about tea in 450 words.", "length": 450}"#).unwrap();
    let (input, recipe) = (input.to_str().unwrap(), recipe.to_str().unwrap());
    fleet.ask(&["submit", input, "--run-id", "ships", "--recipe", recipe, "--seed", "5"]);
    fleet
}

fn sections(fleet: &Fleet) -> (Vec<String>, u64) {
    fleet.ask(&["watch", "ships"]);
    let id = document(fleet)["document"].as_str().unwrap().to_owned();
    let shown = fleet.ask(&["show", "ships", &id]).remove(0);
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
