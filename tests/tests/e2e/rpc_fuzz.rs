//! Fuzzing of the gRPC services: any input is answered with a status in time, and the coordinator keeps working.

use std::convert::Infallible;
use std::time::Duration;

use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use longhand_coordinator::control::cancel::cancel_page;
use longhand_coordinator::control::rpc::ServiceOptions;
use longhand_proto::v1;
use longhand_worker::engine::mock::MockOptions;
use prost::Message;
use prost::bytes::{Buf, BufMut, Bytes};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{HeaderMap, Request, StatusCode};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Harness, RawClient, mock, run_id, within};

/// The protocol files list the calls, so that new calls are fuzzed automatically.
const PROTOCOLS: [(&str, &str); 2] = [
    ("longhand.v1.Coordinator", include_str!("../../../proto/proto/longhand/v1/coordinator.proto")),
    ("longhand.v1.Operator", include_str!("../../../proto/proto/longhand/v1/operator.proto")),
];
/// Messages per call.
const MESSAGES: u64 = 250;

fn calls() -> Vec<String> {
    let of = |(service, text): (&'static str, &'static str)| {
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next());
        // The one that deletes what the checks at the end look at.
        let names = names.filter(|name| *name != "DeleteRun");
        names.map(move |name| format!("/{service}/{name}")).collect::<Vec<_>>()
    };
    PROTOCOLS.into_iter().flat_map(of).collect()
}

/// Valid messages, one or more per call. Over 60 lines, because it is a list.
fn valid_messages(run: &str, document: &str, lease: &str) -> Vec<Vec<u8>> {
    let (run, document, lease_id) = (run.to_owned(), document.to_owned(), lease.to_owned());
    let worker = "fuzzer".to_owned();
    let checkpoint =
        Some(v1::Checkpoint { tokens: vec![1, 2, 3, u32::MAX], tokenizer_hash: "mock".into(), ..Default::default() });
    let output = v1::Output {
        text: "A ferry crosses. 渡口。".into(),
        finish_reason: 1,
        usage: Some(v1::Usage { generated: u32::MAX, ..Default::default() }),
        timings: Some(v1::Timings { decode_ms: u64::MAX, ..Default::default() }),
    };
    let failure = v1::Failure { class: "no_such_thing".into(), message: "x".repeat(5_000), permanent: true };
    let instruction = r#"{"id":null,"messages":[{"role":"user","content":"Write."}],"language":"en","required_words":200,
        "context":[],"metadata":{},"line":1}"#;
    let terms = Some(v1::Terms { priority: u32::MAX, model: String::new(), judge: String::new(), max_open: u32::MAX });
    let row = v1::Row { kind: Some(v1::row::Kind::Instruction(instruction.into())), format_version: 1 };
    let which = Some(v1::requeue_request::Which::Document(document.clone()));
    vec![
        v1::HelloRequest {
            protocol: longhand_proto::PROTOCOL,
            version: "0".into(),
            worker: worker.clone(),
            model: Some(v1::ModelInfo::default()),
        }
        .encode_to_vec(),
        v1::LeaseRequest {
            worker: worker.clone(),
            request_id: "r".into(),
            slots: u32::MAX,
            wait_ms: u64::MAX,
            model: "mock".into(),
            weights_hash: "mock".into(),
            kinds: vec![1, 9, i32::MAX],
        }
        .encode_to_vec(),
        v1::RenewRequest {
            worker: worker.clone(),
            renewals: vec![v1::Renewal {
                lease_id: lease_id.clone(),
                progress: u64::MAX,
                checkpoint: checkpoint.clone(),
                appended: checkpoint.clone(),
                from: 1,
            }],
            vitals: Some(v1::Vitals::default()),
        }
        .encode_to_vec(),
        v1::CompleteRequest {
            worker: worker.clone(),
            lease_id: lease_id.clone(),
            result: Some(v1::complete_request::Result::Output(output)),
            want_next: true,
            model: Some(v1::ModelInfo::default()),
            kinds: v1::TaskKind::known(),
            cost: 0.0,
        }
        .encode_to_vec(),
        v1::CompleteRequest {
            worker: worker.clone(),
            lease_id: lease_id.clone(),
            result: Some(v1::complete_request::Result::Failure(failure)),
            want_next: false,
            model: None,
            kinds: Vec::new(),
            cost: 0.0,
        }
        .encode_to_vec(),
        v1::ReleaseRequest { worker, lease_id, checkpoint, cost: 0.0, generated: 0 }.encode_to_vec(),
        v1::CreateRunRequest { run: "other".into(), recipe: "[retry]\nmax_errors = 1\n".into(), seed: u64::MAX, terms }
            .encode_to_vec(),
        v1::AddRowsRequest { run: run.clone(), candidates: 2, rows: vec![row; 2] }.encode_to_vec(),
        v1::GetRunRequest { run: run.clone() }.encode_to_vec(),
        v1::ListDocumentsRequest {
            run: run.clone(),
            state: "ready".into(),
            reason: "poison".into(),
            after: Some(u64::MAX),
            limit: u32::MAX,
            whole: true,
        }
        .encode_to_vec(),
        v1::GetDocumentRequest { run: run.clone(), document: document.clone() }.encode_to_vec(),
        v1::RequeueRequest {
            run: run.clone(),
            which,
            from_section: Some(u32::MAX),
            only: true,
            dry_run: false,
            after: Some(0),
        }
        .encode_to_vec(),
        v1::CancelRequest { run: run.clone(), document }.encode_to_vec(),
        v1::PauseRequest { run, paused: true }.encode_to_vec(),
    ]
}

/// A mutated message, or noise.
fn mutate(random: &mut StdRng, valid: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = valid.choose(random).unwrap().clone();
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.random()),
            2 if at < bytes.len() => bytes[at] = random.random(),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            // The longest varint, and one that is too long.
            4 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([1]))),
            5 => drop(bytes.splice(at..at, [0xff; 12])),
            6 => bytes.extend_from_slice(valid.choose(random).unwrap()),
            _ => bytes = (0..random.random_range(0..64)).map(|_| random.random()).collect(),
        }
    }
    bytes
}

/// A codec for messages as raw bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

async fn send(channel: Channel, path: &str, message: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = path.parse().unwrap();
    within(client.unary(tonic::Request::new(message), path, Raw)).await.map(drop)
}

/// Whether the status is a proper answer. A panicking handler closes its connection or stream instead.
fn is_an_answer(status: &Status) -> bool {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented => true,
        // Tonic's status for invalid protobuf.
        Code::Internal => status.message().contains("decode"),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn options() -> ServiceOptions {
    let quick = Duration::from_millis(20);
    ServiceOptions { max_wait: quick, calls_per_second: 1_000_000, ..ServiceOptions::default() }
}

/// The store is consistent, and a worker can finish the run.
async fn assert_still_works(harness: &Harness) {
    let audit = harness.store.audit(&run_id(), false).await.unwrap();
    assert_eq!(audit.mismatches, Vec::<String>::new());
    harness.store.pause(&run_id(), false).await.unwrap();
    // Leases of fuzzed calls expire, and a run that one of them cancelled is ended, as the sweeper does it.
    harness.expire().await;
    if harness.store.run(&run_id()).await.unwrap().unwrap().cancelling {
        while cancel_page(harness.store.as_ref(), &run_id(), 0).await.unwrap() > 0 {}
    }
    let worker = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    worker.stop().await;
}

#[tokio::test]
async fn mutated_messages_and_noise_are_answered_and_do_no_harm() {
    let harness = Harness::with(3, options()).await;
    let lease = RawClient::of(&harness).take().await;
    let valid = valid_messages(run_id().as_str(), &lease.task.document.to_string(), &lease.id.to_string());
    let channel = harness.channel();
    let calls = calls();
    assert!(calls.len() >= 14, "{calls:?}");
    let all = calls.iter().flat_map(|path| (0..MESSAGES).map(move |seed| (path, seed)));
    let answered = stream::iter(all).map(|(path, seed)| {
        let message = mutate(&mut StdRng::seed_from_u64(seed), &valid);
        let channel = channel.clone();
        async move { (path, seed, send(channel, path, message).await) }
    });
    let mut refused = 0;
    let mut answered = std::pin::pin!(answered.buffer_unordered(16));
    while let Some((path, seed, answer)) = answered.next().await {
        if let Err(status) = answer {
            assert!(is_an_answer(&status), "{path}, seed {seed}: {status:?}");
            refused += 1;
        }
    }
    let all = calls.len() as u64 * MESSAGES;
    assert!(
        refused > all / 4 && refused < all,
        "{refused} of {all} were rejected: the mix of messages is too one-sided"
    );
    assert_still_works(&harness).await;
}

/// Sends a request with any body; returns status and headers of the answer.
async fn post(harness: &Harness, path: &str, body: Body) -> (StatusCode, HeaderMap) {
    let mut channel = harness.channel();
    let request = Request::post(format!("http://{}{path}", harness.address)).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(body).unwrap();
    within(async {
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        let answer = channel.call(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let mut headers = head.headers;
        if let Some(trailers) = body.collect().await.ok().and_then(|body| body.trailers().cloned()) {
            headers.extend(trailers);
        }
        (head.status, headers)
    })
    .await
}

fn frame(compressed: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[compressed][..], &length.to_be_bytes(), message].concat()
}

fn full(bytes: Vec<u8>) -> Body {
    Body::new(Full::new(Bytes::from(bytes)))
}

const RENEW: &str = "/longhand.v1.Coordinator/Renew";

#[tokio::test]
async fn invalid_frames_are_answered_with_a_status() {
    let harness = Harness::with(2, options()).await;
    let hello = v1::RenewRequest { worker: "fuzzer".into(), renewals: Vec::new(), vitals: None }.encode_to_vec();
    let length = hello.len() as u32;
    let mut random = StdRng::seed_from_u64(5);
    let noise = |_| (0..random.random_range(0..200)).map(|_| random.random()).collect::<Vec<u8>>();
    let mut frames = vec![
        ("compressed without an encoding", frame(1, length, &hello)),
        ("an unknown flag", frame(7, length, &hello)),
        ("length too large", frame(0, length + 1, &hello)),
        ("length too small", frame(0, length - 1, &hello)),
        ("four gigabytes", frame(0, u32::MAX, &hello)),
        ("two in one call", [frame(0, length, &hello), frame(0, length, &hello)].concat()),
        ("half a header", vec![0, 0, 0]),
        ("empty", Vec::new()),
        ("17 MB", frame(0, 17 << 20, &vec![0; 17 << 20])),
    ];
    frames.extend((0..40).map(noise).map(|bytes| ("noise", bytes)));
    for (what, bytes) in frames {
        let (status, headers) = post(&harness, RENEW, full(bytes)).await;
        assert_eq!(status, StatusCode::OK, "{what}");
        assert!(headers.contains_key("grpc-status"), "{what}: {headers:?}");
    }
    let good = || full(frame(0, length, &hello));
    for path in ["/longhand.v1.Coordinator/Obey", "/longhand.v2.Coordinator/Renew", "/"] {
        let (status, headers) = post(&harness, path, good()).await;
        let refused = headers.get("grpc-status").is_some_and(|code| code != "0");
        assert!(refused || status.is_client_error(), "{path}: {status} {headers:?}");
    }
    let (_, headers) = post(&harness, RENEW, good()).await;
    assert_eq!(headers["grpc-status"], "0", "and a valid one is still accepted");
    assert_still_works(&harness).await;
}

#[tokio::test]
async fn a_message_that_never_ends_releases_its_permit() {
    let options = ServiceOptions { max_calls: 1, call_timeout: Duration::from_millis(300), ..options() };
    let harness = Harness::with(1, options).await;
    let endless = || {
        let begin = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[0, 0])))]);
        Body::new(StreamBody::new(begin.chain(stream::pending())))
    };
    // One is processed, four wait.
    let asked = futures::future::join_all((0..5).map(|_| post(&harness, RENEW, endless()))).await;
    for (_, headers) in asked {
        assert_ne!(headers["grpc-status"], "0");
    }
    assert_still_works(&harness).await;
}

#[tokio::test]
async fn a_caller_above_the_rate_limit_is_rejected_with_retry_after_and_workers_obey_it() {
    let slow = ServiceOptions { calls_per_second: 20, ..ServiceOptions::default() };
    let harness = Harness::with(1, slow).await;
    let channel = harness.channel();
    let mut rejected = None;
    for _ in 0..200 {
        if let Err(status) = send(channel.clone(), "/longhand.v1.Operator/ListRuns", Vec::new()).await {
            rejected = Some(status);
            break;
        }
    }
    let status = rejected.expect("more than 80 calls at once exceed the limit");
    assert_eq!(status.code(), Code::ResourceExhausted);
    let wait: u64 = status.metadata().get(longhand_proto::RETRY_HEADER).unwrap().to_str().unwrap().parse().unwrap();
    assert!((1..=1_000).contains(&wait), "{wait} ms");
    // Another connection is another caller; a worker retries and completes its work.
    let options = MockOptions { tokens_per_second: 2_000.0, ..MockOptions::default() };
    let worker = harness.worker(mock(options));
    harness.finished().await;
    assert_eq!(worker.stop().await.lost, 0);
}
