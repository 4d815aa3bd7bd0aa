//! A server whose append-only file ends in the middle: it is set back to a moment that was, never to one that was not.

use std::fs;
use std::path::PathBuf;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Attempt, Next, Record, RedisOptions, Renewal, Swap};
use longhand_proto::LeaseId;
use longhand_tests::server::{Kind, Server};

use crate::bench::*;

/// Bytes between two cuts.
const EVERY: usize = 50;
/// Cuts that are tried unless all are asked for: starting a server takes a while.
const SAMPLE: usize = 24;

/// All that is known of the documents at one moment.
type Moment = Vec<(Record, Vec<Attempt>)>;

async fn moment(bench: &Bench) -> Moment {
    let mut documents = Vec::new();
    for run in bench.store.runs().await.unwrap() {
        for record in bench.all(&run.id).await {
            let attempts = bench.store.attempts(record.id).await.unwrap();
            documents.push((record, attempts));
        }
    }
    documents
}

/// A few documents' lives, and each moment between two steps of them.
async fn history(bench: &Bench) -> Vec<Moment> {
    let store = &bench.store;
    let run = bench.run("r", 0).await;
    let mut moments = vec![moment(bench).await];
    macro_rules! step {
        ($call:expr) => {{
            let answer = $call.await.unwrap();
            moments.push(moment(bench).await);
            answer
        }};
    }
    step!(store.submit(&run, &[new(&run, 0)]));
    step!(store.submit(&run, &[new(&run, 1), new(&run, 2)]));
    let leased = step!(store.lease(&query("w", "q", 2)));
    let (one, two) = (lease_of(&leased[0]), lease_of(&leased[1]));
    step!(store.renew(&[Renewal { lease: one, progress: 3, checkpoint: Some(checkpoint(&[1, 2, 3])) }], TTL));
    let next = LeaseId::mint();
    step!(store.commit(&commit(one, Next::Continue { lease: Some(next) })));
    step!(store.commit(&commit(two, Next::Retry { delay_ms: 1 })));
    step!(store.commit(&commit(next, ended(State::Accepted, ""))));
    step!(store.mark_flushed(&run, &[leased[0].id]));
    let version = bench.get(leased[0].id).await.version;
    let swap = Swap {
        document: leased[0].id,
        version,
        state: State::Ready,
        reason: String::new(),
        judge: false,
        body: Some("{}".into()),
    };
    step!(store.swap(&swap));
    step!(store.lease(&query("w", "q2", 1)));
    bench.pass(TTL + 1);
    step!(store.sweep(&LIMITS));
    moments
}

fn append_only_file(server: &Server) -> PathBuf {
    let files = fs::read_dir(server.folder().join("appendonlydir")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().ends_with(".incr.aof")).max().unwrap()
}

#[tokio::test]
async fn a_server_with_a_torn_file_is_set_back_to_a_moment_that_was() {
    let mut server = Server::durable(Kind::Redis, &["--appendfsync", "always"]);
    let bench = Bench::at(&server.url(), RedisOptions::default()).await;
    let moments = history(&bench).await;
    server.kill();
    let file = append_only_file(&server);
    let whole = fs::read(&file).unwrap();
    let all: Vec<usize> = (0..whole.len()).step_by(EVERY).collect();
    let every = if std::env::var_os("LONGHAND_CHAOS_SECONDS").is_some() { 1 } else { all.len().div_ceil(SAMPLE) };
    let mut met = vec![false; moments.len()];
    for cut in all.into_iter().rev().step_by(every) {
        fs::write(&file, &whole[..cut]).unwrap();
        server.start_again();
        let now = moment(&bench).await;
        let was = moments.iter().position(|moment| *moment == now);
        let was = was.unwrap_or_else(|| panic!("cut at byte {cut}, the documents never were so: {now:#?}"));
        met[was] = true;
        for run in bench.store.runs().await.unwrap() {
            bench.assert_sound(&run.id).await;
        }
        server.kill();
    }
    assert!(met.iter().filter(|met| **met).count() >= 6, "the cuts fell into many moments: {met:?}");
    // Whole again, so that it can go on.
    fs::write(&file, &whole).unwrap();
    server.start_again();
    assert_eq!(moment(&bench).await, moments[moments.len() - 1]);
    let (_, lease) = bench.lease_one().await;
    bench.end(lease, State::Accepted).await;
}

/// The server alone passes half a step over at its first start, leaves it in its file, and takes it up at its second.
#[tokio::test]
async fn half_a_step_that_was_mended_away_never_comes_back() {
    let mut server = Server::durable(Kind::Redis, &["--appendfsync", "always"]);
    let bench = Bench::at(&server.url(), RedisOptions::default()).await;
    bench.run("r", 1).await;
    let (record, lease) = bench.lease_one().await;
    let file = append_only_file(&server);
    let before = fs::metadata(&file).unwrap().len();
    bench.end(lease, State::Accepted).await;
    server.kill();
    let after = fs::metadata(&file).unwrap().len();
    fs::File::options().write(true).open(&file).unwrap().set_len((before + after) / 2).unwrap();
    assert!(server.repair_aof());
    assert!(!server.repair_aof(), "once is enough");
    server.start_again();
    // Nobody was told that it was done.
    bench.end(lease, State::Accepted).await;
    server.restart();
    assert_eq!(bench.store.attempts(record.id).await.unwrap().len(), 1);
    bench.assert_sound(&record.run).await;
}
