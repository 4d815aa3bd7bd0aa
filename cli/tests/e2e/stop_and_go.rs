//! Stopping a run and going on with it: what a person does with Ctrl-C, a full disk, and a second terminal.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use longhand_tests::server::{Kind, Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Ended, accepted, longhand};

const DOCUMENTS: usize = 6;

struct Place {
    dir: TempDir,
    input: PathBuf,
    out: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.jsonl");
        let rows: Vec<String> = (0..DOCUMENTS)
            .map(|n| {
                format!("{{\"id\": \"row-{n}\", \"prompt\": \"Write part {n} of a book on tea.\", \"length\": 2000}}")
            })
            .collect();
        fs::write(&input, rows.join("\n")).unwrap();
        let out = dir.path().join("out");
        Self { dir, input, out }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = longhand();
        command.arg("run").arg(&self.input).arg("-o").arg(&self.out).args(["--engine", "mock", "--json"]).args(more);
        command
    }

    /// Starts a run that takes a while, and waits until sections are being written.
    fn start_slowly(&self, tokens_per_second: &str, more: &[&str]) -> Running {
        let mut command = self.command(&["--mock-tokens-per-second", tokens_per_second]);
        let mut child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut running = Running { events: BufReader::new(child.stdout.take().unwrap()), child };
        while running.event()["sections"].as_u64().unwrap_or(0) == 0 {}
        running
    }

    fn finish(&self) -> Ended {
        self.command(&[]).output().unwrap().into()
    }
}

/// A run of which the events are read as they come.
struct Running {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Running {
    fn event(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.events.read_line(&mut line).unwrap() > 0, "the run ended: {:?}", self.child.wait());
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn end(self) -> Ended {
        // Read on, so that the run never waits for its reader.
        let rest: Vec<String> = self.events.lines().map(Result::unwrap).collect();
        let mut ended = Ended::from(self.child.wait_with_output().unwrap());
        ended.stdout = rest.join("\n");
        ended
    }
}

#[track_caller]
fn complete(place: &Place, ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let ids = accepted(&place.out);
    assert_eq!(ids.len(), DOCUMENTS, "{ids:?}");
    assert!(ids.values().all(|&records| records == 1), "{ids:?}");
}

#[test]
fn ctrl_c_hands_work_in_says_how_to_go_on_and_the_same_command_does() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        let running = place.start_slowly("400", &[]);
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert!(ended.stdout.contains("\"interrupted\""), "{ended:?}");
        let ended = place.finish();
        assert!(ended.stdout.contains("\"resumed\":true"), "{}", ended.stdout);
        complete(&place, &ended);
    }
}

#[test]
fn a_run_that_is_complete_stays_as_it_is() {
    let place = Place::new();
    complete(&place, &place.finish());
    let before = accepted(&place.out);
    complete(&place, &place.finish());
    assert_eq!(accepted(&place.out), before);
}

#[test]
fn a_second_run_on_the_same_folder_is_refused_while_the_first_works() {
    let place = Place::new();
    let running = place.start_slowly("400", &[]);
    let second = place.finish();
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.stderr.contains("another `longhand run` is at work"), "{}", second.stderr);
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
}

/// The work of a killed process is free at once, and being killed often is no fault of the document's.
#[test]
fn a_killed_run_goes_on_at_once_and_poisons_nothing() {
    let place = Place::new();
    for _ in 0..5 {
        let mut running = place.start_slowly_from_anywhere();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
    complete(&place, &place.finish());
}

#[test]
fn a_run_on_redis_goes_on_when_the_server_was_killed_and_is_back() {
    let place = Place::new();
    let mut server = Server::start(Kind::Redis);
    let mut running = place.start_slowly("150", &["--store", &server.url()]);
    let before = running.event()["sections"].as_u64();
    server.restart();
    let ended = running.end();
    assert!(before < Some(5 * DOCUMENTS as u64), "the run was nearly over before the server was killed: {before:?}");
    complete(&place, &ended);
    assert!(!place.out.join(".longhand").join("store.sqlite").exists());
}

impl Place {
    /// As `start_slowly`, but content with documents that are in work.
    fn start_slowly_from_anywhere(&self) -> Running {
        let mut child = self.command(&["--mock-tokens-per-second", "20"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Running { events: BufReader::new(child.stdout.take().unwrap()), child };
        while running.event()["running"].as_u64().unwrap_or(0) == 0 {}
        running
    }
}

/// On a disk of its own in memory, in a mount namespace of its own.
#[test]
fn a_full_disk_stops_the_run_cleanly_and_it_goes_on_when_there_is_room() {
    let place = Place::new();
    let disk = place.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = r#"
        set -eu
        disk=$1 input=$2 longhand=$3
        mount -t tmpfs -o size=8m tmpfs "$disk"
        run() { "$longhand" run "$input" -o "$disk/out" --engine mock --json; }
        "$longhand" run "$input" -o "$disk/out" --engine mock --quiet --limit 1
        # All but a few pages are taken.
        dd if=/dev/zero of="$disk/ballast" bs=4k 2>/dev/null || true
        truncate -s -32k "$disk/ballast"
        code=0; run || code=$?
        echo "full: $code"
        rm "$disk/ballast"
        code=0; run || code=$?
        echo "room: $code"
        cat "$disk"/out/data/*.jsonl
    "#;
    let ended = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([&disk, &place.input])
        .arg(env!("CARGO_BIN_EXE_longhand"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let ended = Ended::from(ended);
    assert!(ended.stdout.contains("full: 1"), "want exit code 1 on a full disk (needs user namespaces): {ended:?}");
    assert!(ended.stderr.contains("give the same command again"), "{}", ended.stderr);
    assert!(ended.stdout.contains("room: 0"), "{ended:?}");
    let records = ended.stdout.lines().filter(|line| line.contains("\"provenance\"")).count();
    assert_eq!(records, DOCUMENTS);
}
