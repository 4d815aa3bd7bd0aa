//! kill -9 at any moment: acknowledged results are durable, and nothing is in the corpus twice.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use longhand_coordinator::domain::document::Document;
use longhand_coordinator::store::{AttemptEnd, Filter, Record, Source, SqliteStore};
use longhand_proto::{DocumentId, RunId, clock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::program::{Ended, accepted, longhand, rejected};

const DOCUMENTS: usize = 40;
const KILLS: usize = 20;
/// Longest wait for one more task to be acknowledged.
const PATIENCE: Duration = Duration::from_secs(60);

struct CrashTest {
    _dir: TempDir,
    input: PathBuf,
    out: PathBuf,
}

impl CrashTest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let input = dir.path().join("in.jsonl");
        let row = |n| format!("{{\"id\": \"row-{n}\", \"prompt\": \"Describe ship number {n}.\", \"length\": 1000}}");
        fs::write(&input, (0..DOCUMENTS).map(row).collect::<Vec<_>>().join("\n")).unwrap();
        let out = dir.path().join("out");
        Self { _dir: dir, input, out }
    }

    fn command(&self, tokens_per_second: u32) -> Command {
        let mut command = longhand();
        command.arg("run").arg(&self.input).arg("-o").arg(&self.out).args(["--engine", "mock", "--json"]);
        command.args(["--run-id", "crash", "--mock-tokens-per-second", &tokens_per_second.to_string()]);
        Command::from(command)
    }

    /// The run's store, looked at from outside.
    fn store(&self) -> SqliteStore {
        SqliteStore::open(&self.out.join(".longhand").join("store.sqlite"), clock::unix_ms).unwrap()
    }
}

/// The texts that were acknowledged, and how often an attempt at each task was completed.
#[derive(Debug, Default)]
struct Seen {
    texts: BTreeMap<(DocumentId, usize), String>,
    completed: BTreeMap<(DocumentId, String, u64), usize>,
}

impl Seen {
    async fn in_store(store: &SqliteStore) -> Self {
        let mut seen = Self::default();
        for record in records(store).await {
            let document: Document = record.document().unwrap();
            for (index, section) in document.sections().iter().enumerate() {
                seen.texts.insert((record.id, index), section.text.clone());
            }
            for attempt in store.attempts(record.id).await.unwrap() {
                if attempt.end == AttemptEnd::Completed {
                    let kind = attempt.detail["kind"].as_str().unwrap().to_owned();
                    let section = attempt.detail["section"].as_u64().unwrap();
                    *seen.completed.entry((record.id, kind, section)).or_default() += 1;
                }
            }
        }
        seen
    }
}

async fn records(store: &SqliteStore) -> Vec<Record> {
    let run: RunId = "crash".parse().unwrap();
    // Before the first submission there is no run.
    store.list(&run, &Filter::default(), None, 1_000).await.map(|page| page.records).unwrap_or_default()
}

/// Waits until `more` tasks are acknowledged than `before`; false if the run came to its end first.
async fn progress(child: &mut Child, test: &CrashTest, before: usize, more: usize) -> bool {
    let begin = clock::now();
    let file = test.out.join(".longhand").join("store.sqlite");
    loop {
        assert!(begin.elapsed() < PATIENCE, "no task was acknowledged for a minute");
        if more == 0 || (file.exists() && Seen::in_store(&test.store()).await.completed.len() >= before + more) {
            return true;
        }
        if timeout(Duration::from_millis(5), child.wait()).await.is_ok() {
            return false;
        }
    }
}

#[tokio::test]
async fn twenty_kills_lose_duplicate_and_regenerate_nothing() {
    let test = CrashTest::new();
    let mut random = StdRng::seed_from_u64(20);
    let mut acknowledged = Seen::default();
    let mut kills = 0;
    for _ in 0..KILLS {
        let mut child = test.command(1_000).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let more = random.random_range(0..=3);
        if !progress(&mut child, &test, acknowledged.completed.len(), more).await {
            break;
        }
        // Any moment: in a start, between two steps, in the middle of a commit or of a shard.
        let moment = Duration::from_micros(random.random_range(0..150_000));
        if timeout(moment, child.wait()).await.is_ok() {
            break;
        }
        child.kill().await.unwrap();
        kills += 1;
        if test.out.join(".longhand").join("store.sqlite").exists() {
            let now = Seen::in_store(&test.store()).await;
            for (key, text) in &acknowledged.texts {
                assert_eq!(now.texts.get(key), Some(text), "an acknowledged section changed: {key:?}");
            }
            acknowledged = now;
        }
    }
    assert_eq!(kills, KILLS, "the run came to its end too soon for the test");
    assert!(!acknowledged.texts.is_empty(), "the kills left no time for any section");

    let ended: Ended = test.command(0).output().await.unwrap().into();
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let end = Seen::in_store(&test.store()).await;
    for (key, text) in &acknowledged.texts {
        assert_eq!(end.texts.get(key), Some(text), "an acknowledged section changed: {key:?}");
    }
    let again: Vec<_> = end.completed.iter().filter(|&(_, &times)| times > 1).collect();
    assert!(again.is_empty(), "written again after it was acknowledged: {again:?}");

    let ids = accepted(&test.out);
    assert!(ids.values().all(|&records| records == 1), "{ids:?}");
    // A filter may turn away what the mock engine babbles; nothing may be missing or stand twice for all that.
    let rejected = rejected(&test.out);
    assert!(rejected.iter().all(|id| !ids.contains_key(id)), "accepted and rejected: {rejected:?}");
    assert_eq!(ids.len() + rejected.len(), DOCUMENTS, "{ids:?} {rejected:?}");
    assert!(ids.len() > DOCUMENTS / 2, "{rejected:?}");
}
