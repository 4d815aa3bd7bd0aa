//! Tokens that end while they are in use.

use std::cell::Cell;
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use longhand_coordinator::control::rpc::{Access, ServiceOptions, Tokens};
use longhand_coordinator::domain::state::State;
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::{WorkerId, clock, v1};
use longhand_worker::client::{Credentials, WorkerError, WorkerOptions};
use longhand_worker::engine::mock::MockOptions;

use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::{Code, Status};

use crate::harness::{Harness, document, mock, within};

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
    let file = file(folder.path(), &format!("worker {OLD} 2026-01-01T01:00:00Z\nworker {NEW}\n"));
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

/// A token file with these lines and an operator's.
fn file(folder: &Path, lines: &str) -> PathBuf {
    let file = folder.join("tokens");
    std::fs::write(&file, format!("{lines}operator an-operator-of-some-length\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

fn lease_request(wait: Duration) -> v1::LeaseRequest {
    v1::LeaseRequest {
        worker: WorkerId::mint("waits").to_string(),
        request_id: "one".into(),
        slots: 1,
        wait_ms: wait.as_millis() as u64,
        model: "mock".into(),
        weights_hash: "mock".into(),
        kinds: v1::TaskKind::known(),
    }
}

/// Asks for work with a token, and waits for it.
async fn lease(harness: &Harness, token: &str) -> Result<v1::LeaseReply, Status> {
    let mut request = tonic::Request::new(lease_request(Duration::from_secs(10)));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    within(CoordinatorClient::new(harness.channel()).lease(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_call_that_waits_for_work_gets_none_once_its_token_ended() {
    clock::simulate(|| NOW.get());
    for is_withdrawn in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let lines = format!("worker {OLD} 2026-01-01T00:01:00Z\nworker {NEW}\n");
        let tokens = Tokens::read(&file(folder.path(), &lines)).unwrap();
        let access = Access { tokens: Some(tokens.clone()), tls: None };
        let harness = Harness::with_access(0, ServiceOptions::default(), access).await;
        let waits = lease(&harness, OLD);
        let ends = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            match is_withdrawn {
                true => tokens.reload(&file(folder.path(), &format!("worker {NEW}\n"))).unwrap(),
                false => NOW.set(NOW.get() + Duration::from_secs(61)),
            }
            harness.submit(1).await;
        };
        let (answer, ()) = tokio::join!(waits, ends);
        assert_eq!(answer.expect_err("no work").code(), Code::Unauthenticated);
        assert_eq!(harness.records().await[0].state, State::Ready, "nobody holds it");
        assert_eq!(lease(&harness, NEW).await.unwrap().leases.len(), 1);
    }
}

#[tokio::test]
async fn a_message_that_comes_slowly_is_not_processed_once_its_token_was_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = Tokens::read(&file(folder.path(), &format!("worker {OLD}\nworker {NEW}\n"))).unwrap();
    let access = Access { tokens: Some(tokens.clone()), tls: None };
    let harness = Harness::with_access(1, ServiceOptions::default(), access).await;
    let message = lease_request(Duration::ZERO).encode_to_vec();
    let begin = [&[0][..], &(message.len() as u32).to_be_bytes()].concat();
    let (sender, rest) = oneshot::channel::<()>();
    let parts = stream::iter([begin]).chain(stream::once(async move {
        rest.await.unwrap();
        message
    }));
    let body = Body::new(StreamBody::new(parts.map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))))));
    let request = Request::post(format!("http://{}/longhand.v1.Coordinator/Lease", harness.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {OLD}"));
    let mut channel = harness.channel();
    within(std::future::poll_fn(|context| channel.poll_ready(context))).await.unwrap();
    let called = channel.call(request.body(body).unwrap());
    let ends = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        tokens.reload(&file(folder.path(), &format!("worker {NEW}\n"))).unwrap();
        sender.send(()).unwrap();
    };
    let (answer, ()) = within(async { tokio::join!(called, ends) }).await;
    assert_eq!(answer.unwrap().headers()["grpc-status"], (Code::Unauthenticated as i32).to_string());
    assert_eq!(harness.records().await[0].state, State::Ready);
}
