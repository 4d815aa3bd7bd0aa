//! Stopping and resuming a run: Ctrl-C, a killed process, a full disk, a second process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use longhand_tests::server::{Kind, Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Ended, accepted, longhand};

const DOCUMENTS: usize = 6;

struct RunFolder {
    dir: TempDir,
    input: PathBuf,
    out: PathBuf,
}

impl RunFolder {
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
        let mut running = self.start(&[&["--mock-tokens-per-second", tokens_per_second], more].concat());
        while running.event()["sections"].as_u64().unwrap_or(0) == 0 {}
        running
    }

    fn start(&self, more: &[&str]) -> Running {
        let mut child = self.command(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Running { events: BufReader::new(child.stdout.take().unwrap()), child }
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
fn complete(folder: &RunFolder, ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let ids = accepted(&folder.out);
    assert_eq!(ids.len(), DOCUMENTS, "{ids:?}");
    assert!(ids.values().all(|&records| records == 1), "{ids:?}");
}

#[test]
fn ctrl_c_submits_unfinished_work_and_the_same_command_resumes() {
    for signal in ["INT", "TERM"] {
        let folder = RunFolder::new();
        let running = folder.start_slowly("400", &[]);
        running.signal(signal);
        let ended = running.end();
        assert_eq!(ended.code, Some(130), "{ended:?}");
        assert!(ended.stdout.contains("\"interrupted\""), "{ended:?}");
        let ended = folder.finish();
        assert!(ended.stdout.contains("\"resumed\":true"), "{}", ended.stdout);
        complete(&folder, &ended);
    }
}

#[test]
fn a_complete_run_does_not_change() {
    let folder = RunFolder::new();
    complete(&folder, &folder.finish());
    let before = accepted(&folder.out);
    complete(&folder, &folder.finish());
    assert_eq!(accepted(&folder.out), before);
}

#[test]
fn a_second_run_on_the_same_folder_is_rejected_while_the_first_runs() {
    let folder = RunFolder::new();
    let running = folder.start_slowly("400", &[]);
    let second = folder.finish();
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(second.stderr.contains("another `longhand run` is using"), "{}", second.stderr);
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
}

/// The documents of a killed process are released at once, and kills are not counted against them.
#[test]
fn a_killed_run_resumes_at_once_and_poisons_nothing() {
    let folder = RunFolder::new();
    for _ in 0..5 {
        let mut running = folder.start_until_in_progress();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }
    complete(&folder, &folder.finish());
}

#[test]
fn a_run_on_redis_continues_after_a_restart_of_the_server() {
    let folder = RunFolder::new();
    let mut server = Server::start(Kind::Redis);
    let mut running = folder.start_slowly("150", &["--store", &server.url()]);
    let before = running.event()["sections"].as_u64();
    server.restart();
    let ended = running.end();
    assert!(before < Some(5 * DOCUMENTS as u64), "the run was nearly over before the server was killed: {before:?}");
    complete(&folder, &ended);
    assert!(!folder.out.join(".longhand").join("store.sqlite").exists());
}

/// The documents of the corpus are kept, and the others are submitted and written again.
#[test]
fn a_run_on_redis_detects_an_emptied_store_and_keeps_the_documents_of_the_corpus() {
    let folder = RunFolder::new();
    let server = Server::start(Kind::Redis);
    let url = server.url();
    let empty = || redis::cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
    let until_any_is = |state: &str| {
        let mut beside = server.connect();
        let index = format!("lh:*:s:{state}");
        while redis::cmd("KEYS").arg(&index).query::<Vec<String>>(&mut beside).unwrap().is_empty() {
            std::thread::yield_now();
        }
    };
    let store = ["--store", &url];
    let slowly = |speed| [&store[..], &["--max-sequences", "2", "--mock-tokens-per-second", speed]].concat();
    let running = folder.start(&slowly("2000"));
    until_any_is("accepted");
    running.signal("INT");
    assert_eq!(running.end().code, Some(130));
    let shards = folder.out.join(".longhand/shards");
    let texts = || -> Vec<String> {
        let files = fs::read_dir(&shards).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    let before = texts();
    assert!(!before.is_empty() && before.len() < DOCUMENTS, "{} of them are in the corpus", before.len());
    empty();

    // At work again, and the store is emptied under it.
    let running = folder.start(&slowly("300"));
    until_any_is("leased");
    empty();
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("emptied or restored from a backup") && ended.stderr.contains("the same command"),
        "{ended:?}"
    );

    let ended = folder.command(&store).output().unwrap().into();
    complete(&folder, &ended);
    let restored = format!("\"documents\":{}", before.len());
    assert!(ended.stdout.lines().any(|it| it.contains("restored") && it.contains(&restored)), "{}", ended.stdout);
    let after = texts();
    assert!(before.iter().all(|text| after.contains(text)), "what was accepted stays as it was");
    assert_eq!(after.len(), DOCUMENTS, "and is written no second time");
}

impl RunFolder {
    /// As `start_slowly`, but waits only until documents are in progress.
    fn start_until_in_progress(&self) -> Running {
        let mut child = self.command(&["--mock-tokens-per-second", "20"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut running = Running { events: BufReader::new(child.stdout.take().unwrap()), child };
        while running.event()["running"].as_u64().unwrap_or(0) == 0 {}
        running
    }
}

/// On a disk of its own in memory, in a mount namespace of its own. With each amount of room that is left the disk is
/// full at another write: of the store, of a checkpoint, of a shard, of the export.
#[test]
fn a_full_disk_stops_the_run_cleanly_and_it_resumes_when_there_is_space() {
    let folder = RunFolder::new();
    let disk = folder.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = r#"
        set -eu
        disk=$1 input=$2 longhand=$3
        mount -t tmpfs -o size=8m tmpfs "$disk"
        run() { "$longhand" run "$input" -o "$disk/out" --engine mock --json --mock-tokens-per-second 20000; }
        for room in $rooms; do
            rm -rf "$disk/out"
            "$longhand" run "$input" -o "$disk/out" --engine mock --quiet --limit 1
            # All but so much is taken.
            dd if=/dev/zero of="$disk/ballast" bs=4k 2>/dev/null || true
            truncate -s -${room}k "$disk/ballast"
            code=0; run || code=$?
            echo "full: $code"
            rm "$disk/ballast"
            code=0; run || code=$?
            echo "room: $code, $(cat "$disk"/out/data/*.jsonl | grep -c '"provenance"') records"
        done
    "#;
    let rooms = match std::env::var_os("LONGHAND_CHAOS_SECONDS") {
        Some(_) => (1..64).map(|pages| (4 * pages).to_string()).collect::<Vec<_>>().join(" "),
        None => "4 16 32 64 128 192".to_owned(),
    };
    let ended = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([&disk, &folder.input])
        .arg(env!("CARGO_BIN_EXE_longhand"))
        .env("rooms", &rooms)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let ended = Ended::from(ended);
    let said = |text: &str| ended.stdout.lines().filter(|line| *line == text).count();
    // Where much is left, the run needs no more; where next to nothing is, it does not begin.
    let (full, refused, enough) = (said("full: 1"), said("full: 2"), said("full: 0"));
    assert!(full >= 2, "want exit code 1 on a full disk (needs user namespaces): {ended:?}");
    assert_eq!(full + refused + enough, rooms.split(' ').count(), "{ended:?}");
    assert!(ended.stderr.matches("rerun the same command").count() >= full, "{}", ended.stderr);
    assert_eq!(said(&format!("room: 0, {DOCUMENTS} records")), rooms.split(' ').count(), "{ended:?}");
}
