//! A finished folder is read without a coordinator: in the terminal and in the browser.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use longhand_proto::clock;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::metrics::request;
use crate::program::{longhand, run};

/// Two candidates of each of two rows.
fn corpus(dir: &TempDir) -> PathBuf {
    let (input, out) = (dir.path().join("in.jsonl"), dir.path().join("corpus"));
    let rows = ["tides", "glass"].map(|id| json!({ "id": id, "prompt": format!("Write a 300-word essay on {id}.") }));
    fs::write(&input, rows.map(|row| row.to_string()).join("\n")).unwrap();
    let (input, at) = (input.display().to_string(), out.display().to_string());
    let ended = run(["run", &input, "-o", &at, "--engine", "mock", "--http", "off", "-q", "--candidates", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    out
}

/// `longhand serve`, killed when the test ends.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut command = longhand();
        command.arg("serve").arg(dir).args(["--http", "127.0.0.1:0", "--insecure"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, url }
    }

    fn get(&self, path: &str) -> String {
        let (status, body) = request(&format!("{}{path}", self.url), "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn documents_and_show_take_a_folder_and_the_id_of_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let folder = corpus(&dir).display().to_string();
    let listed = run(["documents", &folder, "--json"]);
    let rows: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 4, "{}", listed.stderr);
    let ended = run(["show", &folder, "tides"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("row tides has 2 documents; name one"), "{}", ended.stderr);
    let id = rows[0]["document"].as_str().unwrap();
    let shown = run(["show", &folder, id, "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["state"], "accepted");
    let ended = run(["show", &folder, "ink"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("no document or row \"ink\""), "{}", ended.stderr);
    let ended = run(["documents", "no such name"]);
    assert!(ended.code == Some(2) && ended.stderr.contains("or the folder of a corpus"), "{}", ended.stderr);

    // An export of one candidate a row, without its store.
    let (input, one) =
        (dir.path().join("in.jsonl").display().to_string(), dir.path().join("one").display().to_string());
    run(["run", &input, "-o", &one, "--engine", "mock", "--http", "off", "-q"]);
    fs::remove_dir_all(dir.path().join("one/.longhand")).unwrap();
    let text = run(["show", &one, "tides", "--text"]);
    assert!(text.code == Some(0) && text.stdout.split_whitespace().count() > 200, "{}", text.stderr);
}

#[test]
fn a_corpus_is_served_read_only_with_or_without_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let folder = corpus(&dir);
    for with_store in [true, false] {
        if !with_store {
            fs::remove_dir_all(folder.join(".longhand")).unwrap();
        }
        let server = Server::start(&folder);
        let site = server.json("/api/site");
        assert_eq!((&site["read_only"], &site["finished"]), (&true.into(), &true.into()));
        let run = &server.json("/api/runs")["runs"][0];
        assert_eq!((&run["id"], &run["counts"]["accepted"]), (&json!("corpus"), &json!(4)));
        let listed = server.json("/api/runs/corpus/documents?q=tides");
        assert_eq!((&listed["total"], &listed["candidates"]), (&json!(2), &json!(true)));
        let id = listed["items"][0]["id"].as_str().unwrap();
        let document = server.json(&format!("/api/runs/corpus/documents/{id}"));
        assert_eq!(document["candidates"].as_array().unwrap().len(), 2);
        assert!(document["measures"].as_array().unwrap().iter().any(|it| it["rule"] == "too_short"), "{document}");
        assert!(server.get(&format!("/api/runs/corpus/documents/{id}/text")).split_whitespace().count() > 200);
        let details = &server.json("/api/runs/corpus")["details"];
        assert_eq!((&details["models"], &details["lengths"]["documents"]), (&json!(["mock"]), &json!(4)));

        // What is downloaded is what an export holds.
        let lines = server.get("/corpus/corpus/corpus.jsonl");
        let mut ids: Vec<String> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        assert_eq!(ids, crate::program::accepted(&folder).into_keys().collect::<Vec<_>>());
        assert_eq!(server.get("/corpus/corpus/corpus.md").matches("\n---\n").count(), 4);
        // Measured in the background: the page comes at once, and again until it is whole.
        let until = clock::now() + Duration::from_secs(60);
        while !server.get("/report/corpus").contains("4 documents measured") {
            assert!(clock::now() < until, "the report is never whole");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(server.get("/report/corpus").contains("id=thresholds"));

        let head = "POST\nContent-Type: application/json\nx-longhand: 1\n\n{\"paused\": true}";
        let (status, _) = request(&format!("{}/api/runs/corpus/pause", server.url), head);
        assert!(matches!(status, 404 | 405), "nothing can be changed: {status}");
    }
}
