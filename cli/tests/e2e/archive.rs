//! Recovery after the store was emptied, from the archive and the submitted file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use longhand_proto::clock;
use longhand_tests::server::{Kind, Server};
use serde_json::Value;

use crate::fleet::Fleet;
use crate::program::accepted;

const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until there is a result.
fn until<T>(what: &str, poll: impl Fn() -> Option<T>) -> T {
    let begin = clock::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn empty(server: &Server) {
    redis::cmd("FLUSHALL").exec(&mut server.connect()).unwrap();
}

/// Records in the archive's shards by id.
fn archived(archive: &Path) -> BTreeMap<String, Value> {
    let Ok(manifest) = fs::read_dir(archive.join("ships/manifest")) else { return BTreeMap::new() };
    let names =
        manifest.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|it| it == "json"));
    let mut records = BTreeMap::new();
    for name in names {
        let shard = archive.join("ships/shards").join(name.with_extension("jsonl").file_name().unwrap());
        for line in fs::read_to_string(shard).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            records.insert(record["id"].as_str().unwrap().to_owned(), record);
        }
    }
    records
}

#[test]
fn an_emptied_store_is_detected_and_accepted_documents_are_not_generated_again() {
    let server = Server::start(Kind::Redis);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let more = ["--archive", archive.to_str().unwrap(), "--archive-seconds", "1", "--lease-seconds", "1"];
    let fleet = Fleet::over(&server.url(), dir, &more, &[]);
    // A second one, which archives and sweeps beside the first.
    let _second = Fleet::over(&server.url(), tempfile::tempdir().unwrap(), &more, &[]);
    fleet.submit("ships", 8);
    let worker = fleet.worker(&["--mock-tokens-per-second", "2000", "--max-sequences", "2"]);
    until("some documents are archived", || (archived(&archive).len() >= 3).then_some(()));
    empty(&server);
    let before = archived(&archive);
    let error = until("the loss is detected", || {
        let ended = fleet.run(&["status", "ships"]);
        ended.stderr.contains("emptied").then_some(ended.stderr)
    });
    assert!(error.contains("submit the file again under the same run id"), "{error}");

    fleet.submit("ships", 8);
    let last = fleet.ask(&["watch", "ships"]).pop().unwrap();
    assert_eq!(last["counts"]["accepted"], 8);
    drop(worker);
    for (id, record) in &before {
        let now = fleet.ask(&["show", "ships", id]).remove(0);
        let again = now["attempts"].as_array().unwrap().iter().any(|attempt| attempt["end"] == "completed");
        assert!(!again, "document {id} was generated again");
        for (section, was) in record["sections"].as_array().unwrap().iter().enumerate() {
            assert_eq!(now["body"]["progress"]["sections"][section]["text"], was["text"]);
        }
    }
    let out = fleet.dir.path().join("out");
    fleet.ask(&["export", "ships", "-o", out.to_str().unwrap()]);
    let ids = accepted(&out);
    assert_eq!((ids.len(), ids.values().sum::<usize>()), (8, 8));
}
