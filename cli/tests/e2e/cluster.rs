//! A fleet from the command line: submit, watch, inspect, requeue, cancel, export; and rejected commands.

use longhand_tests::server::{Kind, Server};
use serde_json::Value;

use crate::fleet::{Fleet, Process};
use crate::program::accepted;

fn first(fleet: &Fleet, run: &str, state: &str) -> String {
    let listed = fleet.ask(&["documents", run, "--state", state]);
    listed[0]["document"].as_str().unwrap().to_owned()
}

fn counts(fleet: &Fleet, run: &str) -> Value {
    fleet.ask(&["status", run])[0]["counts"].clone()
}

#[test]
fn a_run_is_submitted_written_by_two_workers_and_exported_each_id_once() {
    let fleet = Fleet::start(&[]);
    fleet.submit("ships", 6);
    fleet.submit("ships", 6);
    assert_eq!(counts(&fleet, "ships")["total"], 6, "the same file twice changes nothing");
    let (mut one, two) = (fleet.worker(&["--max-sequences", "2"]), fleet.worker(&["--max-sequences", "2"]));
    let last = fleet.ask(&["watch", "ships"]).pop().unwrap();
    assert_eq!(last["counts"]["accepted"], 6);
    let out = fleet.dir.path().join("out");
    for _ in 0..2 {
        fleet.ask(&["export", "ships", "-o", out.to_str().unwrap()]);
        let ids = accepted(&out);
        assert_eq!((ids.len(), ids.values().sum::<usize>()), (6, 6));
    }
    // The same run again, elsewhere: an export takes nothing away.
    let other = fleet.dir.path().join("other");
    fleet.ask(&["export", "ships", "-o", other.to_str().unwrap()]);
    assert_eq!(accepted(&other).len(), 6);

    one.signal("TERM");
    one.event("stopped");
    assert_eq!(one.wait(), Some(0));
    drop(two);
}

#[test]
fn a_requeued_document_is_written_again_and_its_old_text_is_in_the_history() {
    let fleet = Fleet::start(&[]);
    fleet.submit("ships", 2);
    let worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);
    drop(worker);
    let id = first(&fleet, "ships", "accepted");
    let before = fleet.ask(&["show", "ships", &id]).remove(0);
    let sections = before["sections"].as_u64().unwrap();
    assert!(sections >= 3);

    let only = ["requeue", "ships", "--document", &id, "--from-section", "2", "--only"];
    let would = fleet.ask(&[&only[..], &["--dry-run"]].concat()).remove(0);
    assert_eq!((&would["sections_kept"], &would["sections_redone"]), (&(sections - 1).into(), &1.into()));
    assert_eq!(counts(&fleet, "ships")["accepted"], 2, "a dry run changes nothing");
    fleet.ask(&only);
    let error = fleet.rejected(&only);
    assert!(error.contains("still being written") && error.contains("cancel it first"), "{error}");

    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);
    let after = fleet.ask(&["show", "ships", &id]).remove(0);
    let text = |document: &Value, section: usize| document["body"]["progress"]["sections"][section]["text"].clone();
    assert_ne!(text(&after, 1), text(&before, 1), "another round writes another text");
    for kept in [0, 2] {
        assert_eq!(text(&after, kept), text(&before, kept));
    }
    let past: Value = serde_json::from_str(after["history"][0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(past["progress"], before["body"]["progress"]);
}

#[test]
fn a_paused_run_waits_and_a_cancelled_one_ends() {
    let fleet = Fleet::start(&[]);
    fleet.submit("ships", 2);
    fleet.ask(&["pause", "ships"]);
    let _worker = fleet.worker(&[]);
    let error = fleet.rejected(&["submit", fleet.input(3).to_str().unwrap(), "--run-id", "ships"]);
    assert!(error.contains("longhand resume ships"), "{error}");
    assert_eq!(counts(&fleet, "ships")["ready"], 2);
    fleet.submit("boats", 1);
    fleet.ask(&["watch", "boats"]);
    assert_eq!(counts(&fleet, "ships")["ready"], 2, "the worker passed it over");

    let id = first(&fleet, "ships", "ready");
    fleet.ask(&["cancel", "ships", "--document", &id]);
    let error = fleet.rejected(&["cancel", "ships", "--document", &id]);
    assert!(error.contains("nothing left to cancel"), "{error}");
    fleet.ask(&["cancel", "ships"]);
    let error = fleet.rejected(&["cancel", "ships"]);
    assert!(error.contains("nothing to cancel"), "{error}");
    fleet.ask(&["requeue", "ships", "--document", &id]);
    fleet.ask(&["resume", "ships"]);
    let last = fleet.ask(&["watch", "ships"]).pop().unwrap();
    assert_eq!((&last["counts"]["accepted"], &last["counts"]["cancelled"]), (&1.into(), &1.into()));
}

#[test]
fn unknown_runs_and_documents_are_reported() {
    let fleet = Fleet::start(&[]);
    fleet.submit("ships", 1);
    let nobody = "0".repeat(32);
    for (args, says) in [
        (vec!["status", "boats"], "no such run: boats"),
        (vec!["pause", "boats"], "no such run: boats"),
        (vec!["cancel", "boats"], "no such run: boats"),
        (vec!["requeue", "boats", "--failed"], "no such run: boats"),
        (vec!["show", "ships", &nobody], "no such document"),
        (vec!["requeue", "ships", "--document", &nobody], "no such document"),
        (vec!["documents", "ships", "--state", "lost"], "expected one of ready, leased"),
    ] {
        let error = fleet.rejected(&args);
        assert!(error.contains(says), "{args:?}: {error}");
    }
}

#[test]
fn a_worker_without_the_required_model_is_rejected() {
    let fleet = Fleet::start(&[]);
    let input = fleet.input(1);
    fleet.ask(&["submit", input.to_str().unwrap(), "--run-id", "ships", "--require-model", "large"]);
    let error = fleet.rejected(&["worker", "--engine", "mock"]);
    for part in ["run ships requires model large", "this worker has mock", "start the worker with that model"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn clock_skew_of_an_hour_has_no_effect() {
    let server = Server::start(Kind::Redis);
    let clock = |seconds| [("LONGHAND_CLOCK_AHEAD_SECONDS", seconds)];
    let start = |seconds| {
        let dir = tempfile::tempdir().unwrap();
        Fleet::over(&server.url(), dir, &["--lease-seconds", "5"], &clock(seconds))
    };
    let (fast, slow) = (start("3600"), start("-3600"));
    fast.submit("ships", 4);
    let workers = [(&fast, "-3600"), (&slow, "3600")].map(|(fleet, seconds)| {
        let args = ["worker", "--engine", "mock", "--mock-tokens-per-second", "2000", "--coordinator", &fleet.url];
        Process::start_in(&args, &clock(seconds))
    });
    let last = slow.ask(&["watch", "ships"]).pop().unwrap();
    assert_eq!(last["counts"]["accepted"], 4);
    for document in slow.ask(&["documents", "ships"]) {
        assert_eq!((&document["losses"], &document["errors"]), (&0.into(), &0.into()), "{document}");
    }
    drop(workers);
}

#[test]
fn a_worker_that_cannot_submit_ends_within_its_grace_or_at_the_second_signal() {
    for (grace, asked, code) in [("1", 1, Some(0)), ("600", 2, Some(130))] {
        let fleet = Fleet::start(&[]);
        fleet.submit("ships", 1);
        let mut worker = fleet.worker(&["--mock-tokens-per-second", "50", "--grace", grace]);
        while counts(&fleet, "ships")["leased"] == 0 {
            std::thread::yield_now();
        }
        // It answers no more.
        fleet.coordinator.signal("STOP");
        worker.signal("TERM");
        worker.event("stopping");
        for _ in 1..asked {
            // Signals that come together are taken for one.
            std::thread::sleep(std::time::Duration::from_secs(1));
            worker.signal("TERM");
        }
        let begin = longhand_proto::clock::now();
        assert_eq!(worker.wait(), code);
        assert!(begin.elapsed().as_secs() < 10, "with --grace {grace} it took {} s", begin.elapsed().as_secs());
    }
}

#[test]
fn a_worker_fails_over_when_its_coordinator_is_killed() {
    let mut fleet = Fleet::start(&["--lease-seconds", "5"]);
    let store = format!("sqlite:{}", fleet.dir.path().join("store.sqlite").display());
    let other = Process::start(&["coordinator", "--store", &store, "--listen", "127.0.0.1:0", "--lease-seconds", "5"]);
    let second = other.event("listening")["url"].as_str().unwrap().to_owned();
    fleet.submit("ships", 4);
    let both = format!("{},{second}", fleet.url);
    let worker =
        Process::start(&["worker", "--engine", "mock", "--mock-tokens-per-second", "1000", "--coordinator", &both]);
    worker.event("started");
    while counts(&fleet, "ships")["leased"] == 0 {
        std::thread::yield_now();
    }
    fleet.coordinator.kill();
    fleet.url = second;
    let last = fleet.ask(&["watch", "ships"]).pop().unwrap();
    assert_eq!(last["counts"]["accepted"], 4);
    for document in fleet.ask(&["documents", "ships"]) {
        assert_eq!(document["losses"], 0, "{document}");
    }
}
