//! A server whose append-only file is truncated: it goes back to a state that was, never to one that was not.

use std::fs;
use std::path::PathBuf;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Attempt, CompareAndSwap, Next, Record, RedisOptions, Renewal};
use longhand_proto::LeaseId;
use longhand_tests::server::{Kind, Server};

use crate::fixture::*;

/// Bytes between two cuts.
const EVERY: usize = 50;
/// Cuts that are tried unless all are asked for: starting a server takes a while.
const SAMPLE: usize = 24;

/// All that the store holds of the documents at one time.
type Snapshot = Vec<(Record, Vec<Attempt>)>;

async fn snapshot(fixture: &Fixture) -> Snapshot {
    let mut documents = Vec::new();
    for run in fixture.store.runs().await.unwrap() {
        for record in fixture.all(&run.id).await {
            let attempts = fixture.store.attempts(record.id).await.unwrap();
            documents.push((record, attempts));
        }
    }
    documents
}

/// A few documents from submission to end, and a snapshot between each two steps of them.
async fn history(fixture: &Fixture) -> Vec<Snapshot> {
    let store = &fixture.store;
    let run = fixture.run("r", 0).await;
    let mut snapshots = vec![snapshot(fixture).await];
    macro_rules! step {
        ($call:expr) => {{
            let answer = $call.await.unwrap();
            snapshots.push(snapshot(fixture).await);
            answer
        }};
    }
    step!(store.submit(&run, &[new(&run, 0)]));
    step!(store.submit(&run, &[new(&run, 1), new(&run, 2)]));
    let leased = step!(store.lease(&query("w", "q", 2)));
    let (one, two) = (lease_of(&leased[0]), lease_of(&leased[1]));
    step!(store.renew(&[Renewal { lease: one, progress: 3, checkpoint: Some(checkpoint(&[1, 2, 3])), from: 0 }], TTL));
    let next = LeaseId::mint();
    step!(store.commit(&commit(one, Next::Continue { lease: Some(next) })));
    step!(store.commit(&commit(two, Next::Retry { delay_ms: 1 })));
    step!(store.commit(&commit(next, ended(State::Accepted, ""))));
    step!(store.mark_flushed(&run, &[leased[0].id]));
    let version = fixture.get(leased[0].id).await.version;
    let swap = CompareAndSwap {
        document: leased[0].id,
        version,
        state: State::Ready,
        reason: String::new(),
        judge: false,
        body: Some("{}".into()),
    };
    step!(store.swap(&swap));
    step!(store.lease(&query("w", "q2", 1)));
    fixture.pass(TTL + 1);
    step!(store.sweep(&LIMITS));
    snapshots
}

fn append_only_file(server: &Server) -> PathBuf {
    let files = fs::read_dir(server.folder().join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().unwrap()
}

#[tokio::test]
async fn a_server_with_a_torn_file_goes_back_to_a_state_that_was() {
    let mut server = Server::durable(Kind::Redis, &["--appendfsync", "always"]);
    let fixture = Fixture::at(&server.url(), RedisOptions::default()).await;
    let snapshots = history(&fixture).await;
    server.kill();
    let file = append_only_file(&server);
    let whole = fs::read(&file).unwrap();
    let all: Vec<usize> = (0..whole.len()).step_by(EVERY).collect();
    let every = if std::env::var_os("LONGHAND_CHAOS_SECONDS").is_some() { 1 } else { all.len().div_ceil(SAMPLE) };
    let mut met = vec![false; snapshots.len()];
    for cut in all.into_iter().rev().step_by(every) {
        fs::write(&file, &whole[..cut]).unwrap();
        server.start_again();
        let now = snapshot(&fixture).await;
        let was = snapshots.iter().position(|snapshot| *snapshot == now);
        let was = was.unwrap_or_else(|| panic!("cut at byte {cut}, the documents were never in this state: {now:#?}"));
        met[was] = true;
        for run in fixture.store.runs().await.unwrap() {
            fixture.assert_sound(&run.id).await;
        }
        server.kill();
    }
    assert!(met.iter().filter(|met| **met).count() >= 6, "the cuts fell between many steps: {met:?}");
    // With the whole file it continues.
    fs::write(&file, &whole).unwrap();
    server.start_again();
    assert_eq!(snapshot(&fixture).await, snapshots[snapshots.len() - 1]);
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
}

/// The server by itself skips half a step at its first start, leaves it in its file, and executes it at its second.
#[tokio::test]
async fn half_a_step_that_was_repaired_away_never_comes_back() {
    let mut server = Server::durable(Kind::Redis, &["--appendfsync", "always"]);
    let fixture = Fixture::at(&server.url(), RedisOptions::default()).await;
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    let file = append_only_file(&server);
    let before = fs::metadata(&file).unwrap().len();
    fixture.end(lease, State::Accepted).await;
    server.kill();
    let after = fs::metadata(&file).unwrap().len();
    fs::File::options().write(true).open(&file).unwrap().set_len((before + after) / 2).unwrap();
    assert!(server.repair_aof());
    assert!(!server.repair_aof(), "once is enough");
    server.start_again();
    // No caller was told that it was done.
    fixture.end(lease, State::Accepted).await;
    server.restart();
    assert_eq!(fixture.store.attempts(record.id).await.unwrap().len(), 1);
    fixture.assert_sound(&record.run).await;
}
