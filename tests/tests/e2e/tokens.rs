//! Expiry of a token while it is in use.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use longhand_coordinator::control::rpc::{Access, ServiceOptions, Tokens};
use longhand_coordinator::domain::state::State;
use longhand_proto::{WorkerId, clock};
use longhand_worker::client::{Credentials, WorkerError, WorkerOptions};
use longhand_worker::engine::mock::MockOptions;

use crate::harness::{Harness, document, mock};

const OLD: &str = "the-old-token-of-workers";
const NEW: &str = "the-new-token-of-workers";

thread_local! {
    /// 2026-01-01T00:00:00Z.
    static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1_767_225_600)) };
}

#[tokio::test]
async fn a_worker_whose_token_expires_exits_with_the_remedy_and_its_documents_continue_under_the_next() {
    clock::simulate(|| NOW.get());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    let lines = format!("worker {OLD} 2026-01-01T01:00:00Z\nworker {NEW}\noperator an-operator-of-some-length\n");
    std::fs::write(&file, lines).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let access = Access { tokens: Some(Tokens::read(&file).unwrap()), tls: None };
    let harness = Harness::with_access(3, ServiceOptions::default(), access).await;

    let start = |token: &str| {
        let mut options = WorkerOptions::new(WorkerId::mint("test"));
        options.checkpoint_every = Duration::from_millis(5);
        // As many slots as documents: a waiting request would get the swept ones.
        let engine = mock(MockOptions { slots: 3, tokens_per_second: 2_000.0, ..MockOptions::default() });
        harness.start_worker_with(engine, options, Credentials::with_token(token).unwrap())
    };
    let first = start(OLD);
    let written = |records: &[longhand_coordinator::store::Record]| {
        records.iter().map(|record| document(record).sections().len()).sum::<usize>()
    };
    let records = harness.until(|records| written(records) > 0).await;
    let acknowledged: Vec<_> = records.iter().map(|record| document(record).sections().to_vec()).collect();

    NOW.set(NOW.get() + Duration::from_secs(3_600));
    let error = first.end().await.expect_err("it cannot continue");
    let WorkerError::Refused(remedy) = &error else { panic!("{error}") };
    assert!(remedy.contains("the token has expired; add a new one"), "{remedy}");

    harness.expire().await;
    let second = start(NEW);
    let records = harness.finished().await;
    second.stop().await;
    for (record, before) in records.iter().zip(acknowledged) {
        assert_eq!(record.state, State::Accepted);
        assert!(document(record).sections().starts_with(&before), "acknowledged sections stay");
    }
}
