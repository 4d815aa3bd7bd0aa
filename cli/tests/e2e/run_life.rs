//! The life of a run beside its documents: why it waits, and what becomes of it when it has ended.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::program::{accepted, run};

#[test]
fn a_run_that_waits_says_why() {
    let fleet = Fleet::start(&[]);
    let input = fleet.input(2).display().to_string();
    fleet.ask(&["submit", &input, "--run-id", "ships", "--require-model", "big"]);
    let stall = || fleet.ask(&["status", "ships"])[0]["stall"]["cause"].as_str().unwrap_or_default().to_owned();
    assert_eq!(stall(), "no_worker");
    fleet.ask(&["submit", &input, "--run-id", "any"]);
    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "any"]);
    assert_eq!(stall(), "no_model");
    let text = fleet.run(&["status"]).stdout;
    assert!(text.contains("ships: no progress: no worker has the required model big"), "{text}");
    assert!(!text.contains("any: no progress"), "{text}");
    fleet.ask(&["pause", "ships"]);
    assert_eq!(stall(), "paused");
}

#[test]
fn a_worker_that_waits_says_for_what_and_a_refused_connection_is_reported_at_once() {
    let mut fleet = Fleet::start(&[]);
    let worker = fleet.worker(&[]);
    assert_eq!(worker.event("waiting")["reason"], "no run has work");
    fleet.coordinator.kill();
    let reason = worker.event("waiting")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("does not answer") && reason.contains("refused"), "{reason}");

    let asked = longhand_proto::clock::now();
    let ended = fleet.run(&["status"]);
    let took = asked.elapsed();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&fleet.url) && ended.stderr.contains("refused"), "{}", ended.stderr);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_rule_that_there_is_not_and_a_negative_priority_are_refused() {
    let fleet = Fleet::start(&[]);
    fleet.submit("ships", 1);
    let refused = fleet.rejected(&["requeue", "ships", "--rejected", "too_shor"]);
    assert!(refused.contains("did you mean too_short?"), "{refused}");
    assert_eq!(fleet.ask(&["requeue", "ships", "--rejected", "too_short"])[0]["documents"], 0);
    let input = fleet.input(1).display().to_string();
    let refused = fleet.rejected(&["submit", &input, "--priority", "-5"]);
    assert!(refused.contains("invalid value '-5' for '--priority"), "{refused}");
    let text = fleet.run(&["pause", "ships"]).stdout;
    assert!(text.contains("0 documents in progress"), "{text}");
    let text = fleet.run(&["cancel", "ships", "--yes"]).stdout;
    assert!(text.contains("run ships: 1 document cancelled"), "{text}");
}

#[test]
fn a_run_is_archived_restored_and_deleted() {
    let fleet = Fleet::start(&[]);
    fleet.submit("ships", 3);
    let path = |name: &str| fleet.dir.path().join(name).display().to_string();
    let (archive, corpus) = (path("runs"), path("corpus"));
    let refused = fleet.rejected(&["archive", "ships", "--to", &archive]);
    assert!(refused.contains("3 documents not ended yet"), "{refused}");
    let worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);
    fleet.ask(&["requeue", "ships", "--document", documents(&fleet)[0]["document"].as_str().unwrap()]);
    fleet.ask(&["watch", "ships"]);
    drop(worker);
    let whole = || -> Vec<Value> {
        let ids = documents(&fleet);
        ids.iter().map(|listed| fleet.ask(&["show", "ships", listed["document"].as_str().unwrap()]).remove(0)).collect()
    };
    let (before, status) = (whole(), fleet.ask(&["status", "ships"]));

    let done = fleet.ask(&["archive", "ships", "--to", &archive]);
    assert_eq!((&done[0]["archived"], &done[0]["deleted"]), (&3.into(), &true.into()));
    assert!(fleet.rejected(&["status", "ships"]).contains("no such run"), "the run has left the store");
    let manifest: Value = serde_json::from_slice(&fs::read(format!("{archive}/ships/run.json")).unwrap()).unwrap();
    assert_eq!(manifest["files"][0]["documents"], 3);

    assert!(fleet.rejected(&["restore", "other", "--from", &archive]).contains("no run other"));
    assert_eq!(fleet.ask(&["restore", "ships", "--from", &archive])[0]["restored"], 3);
    assert_eq!(fleet.ask(&["restore", "ships", "--from", &archive])[0]["restored"], 0, "again");
    assert_eq!(comparable(whole()), comparable(before));
    assert_eq!(fleet.ask(&["status", "ships"]), status);

    let refused = fleet.rejected(&["delete", "ships"]);
    assert!(refused.contains("add --yes"), "{refused}");
    let refused = fleet.rejected(&["delete", "ships", "--yes"]);
    assert!(refused.contains("in no archive"), "{refused}");
    let refused = fleet.rejected(&["delete", "ships", "--yes", "--exported", &corpus]);
    assert!(refused.contains("holds no run"), "{refused}");
    fleet.ask(&["export", "ships", "-o", &corpus]);
    fleet.ask(&["delete", "ships", "--yes", "--exported", &corpus]);
    assert_eq!(fleet.ask(&["status"]), Vec::<Value>::new());
    assert!(!accepted(corpus.as_ref()).is_empty(), "the export stays");

    // A damaged file is not read.
    let file = format!("{archive}/ships/documents-000001.jsonl");
    fs::write(&file, fs::read_to_string(&file).unwrap().replacen("accepted", "rejected", 1)).unwrap();
    assert!(fleet.rejected(&["restore", "ships", "--from", &archive]).contains("damaged"));
}

#[test]
fn a_run_says_what_it_cost_over_resumes() {
    let fleet = Fleet::start(&[]);
    let price = ["--gpu-hour-price", "3600", "--mock-tokens-per-second", "5000"];
    let worker = fleet.worker(&price);
    fleet.submit("ships", 2);
    fleet.ask(&["watch", "ships"]);
    let cost = || fleet.ask(&["status", "ships"])[0]["cost"].clone();
    let first = cost();
    let number = |cost: &Value, name: &str| cost[name].as_f64().unwrap();
    assert!(number(&first, "total") > 0.0, "{first}");
    // Another worker, as after a restart.
    drop(worker);
    let _worker = fleet.worker(&price);
    fleet.submit("ships", 4);
    fleet.ask(&["watch", "ships"]);
    let second = cost();
    assert!(number(&second, "total") > number(&first, "total"), "{second}");
    assert!(number(&second, "accepted") + number(&second, "dropped") <= number(&second, "total") + 1e-9);
    let text = fleet.run(&["status", "ships"]).stdout;
    assert!(text.contains("\ncost: ") && text.contains("for dropped documents"), "{text}");

    let corpus = fleet.dir.path().join("corpus");
    fleet.ask(&["export", "ships", "-o", corpus.to_str().unwrap()]);
    let stats: Value = serde_json::from_slice(&fs::read(corpus.join("stats.json")).unwrap()).unwrap();
    assert!((number(&stats["cost"], "total") - number(&second, "total")).abs() < 1e-6, "{stats}");
    let accepted = stats["documents"]["accepted"].as_f64().unwrap();
    assert!((number(&stats["cost"], "per_document") - number(&second, "total") / accepted).abs() < 1e-6);
    assert!(fs::read_to_string(corpus.join("README.md")).unwrap().contains("- Cost: "));
}

fn documents(fleet: &Fleet) -> Vec<Value> {
    fleet.ask(&["documents", "ships"])
}

/// Without the place in the order of changes, and the times of the change, which are the restoring store's.
fn comparable(mut documents: Vec<Value>) -> Vec<Value> {
    for document in &mut documents {
        for field in ["changed_ms", "change_seq", "errors", "losses", "releases"] {
            document.as_object_mut().unwrap().remove(field);
        }
    }
    documents
}

#[test]
fn the_start_of_a_run_says_what_is_taken_from_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(at("in.jsonl"), "{\"prompt\": \"Write a 300-word essay on ships.\"}\n").unwrap();
    fs::write(at("own.toml"), "[section.sampling]\nfrom_model = [\"temperature\"]\n").unwrap();
    let input = at("in.jsonl");
    let base = ["run", &input, "--engine", "mock", "--http", "off", "-o"];
    let (one, two, recipe) = (at("one"), at("two"), at("own.toml"));
    let ended = run([&base[..], &[&one, "--recipe", &recipe]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let line = "[section.sampling] as the model's makers recommend: none stated";
    assert!(ended.stderr.contains(line) && !ended.stderr.contains("plan.sampling"), "{}", ended.stderr);
    let ended = run([&base[..], &[&two]].concat());
    assert!(ended.code == Some(0) && !ended.stderr.contains("recommend"), "{}", ended.stderr);
}
