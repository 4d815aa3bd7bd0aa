//! Attacks on the ports of a coordinator by peers without a token: the fleet goes on, probes are answered, and the memory
//! stays bounded. Each lasts some seconds with a few documents in work, or `LONGHAND_ATTACK_SECONDS` with 64.

use std::convert::Infallible;
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use futures::{StreamExt, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use longhand_proto::clock;
use longhand_worker::client::endpoint;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::transport::Channel;

use crate::fleet::Fleet;

/// Beyond what 64 documents in work take.
const MEMORY: u64 = 50 << 20;
/// Longest time for two probes, by a build without optimisation.
const PROBE: Duration = Duration::from_secs(4);
const WORKER: &str = "worker-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";

/// Seconds of the attack, and documents in work meanwhile.
fn extent() -> (u64, usize) {
    match std::env::var("LONGHAND_ATTACK_SECONDS").ok().and_then(|text| text.parse().ok()) {
        Some(seconds) => (seconds, 64),
        None => (6, 8),
    }
}

/// A coordinator with tokens, and files of them.
struct Target {
    fleet: Fleet,
    worker: String,
    operator: String,
}

impl Target {
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let tokens = file("tokens", &format!("worker {WORKER}\noperator {OPERATOR}\n"));
        let (worker, operator) = (file("worker", WORKER), file("operator", OPERATOR));
        let store = format!("sqlite:{}", dir.path().join("store.sqlite").display());
        let args = [&["--token-file", &tokens, "--lease-seconds", "3", "--http", "127.0.0.1:0"], more].concat();
        Self { fleet: Fleet::over(&store, dir, &args, &[]), worker, operator }
    }

    /// Resident memory of the coordinator in bytes, now and at most.
    fn memory(&self) -> (u64, u64) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.fleet.coordinator.pid())).unwrap();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// Address of the gRPC port.
    fn grpc(&self) -> &str {
        self.fleet.url.strip_prefix("http://").unwrap()
    }

    /// Address of the HTTP port.
    fn http(&self) -> &str {
        self.fleet.dashboard.strip_prefix("http://").unwrap()
    }

    /// Writes documents while the attack runs; then nothing may be lost, every probe answered and the memory within bounds.
    async fn withstands<A>(&self, attack: impl AsyncFnOnce() -> A) {
        let token = ["--token-file", &self.operator];
        let (seconds, documents) = extent();
        let input = self.fleet.input(documents);
        // Once without an attack: what the work itself needs is in memory then.
        self.fleet.ask(&[&["submit", input.to_str().unwrap(), "--run-id", "before"][..], &token].concat());
        let mut worker = self.fleet.worker(&["--token-file", &self.worker, "--exit-idle", "1"]);
        assert_eq!(worker.wait(), Some(0));
        let (before, _) = self.memory();
        self.fleet.ask(&[&["submit", input.to_str().unwrap(), "--run-id", "ships"][..], &token].concat());
        // As slow as the attack is long.
        let speed = (6_000 / seconds).to_string();
        let worker = ["--token-file", &self.worker, "--mock-tokens-per-second", &speed, "--max-sequences", "64"];
        let _worker = self.fleet.worker(&worker);
        let held = attack().await;
        let end = clock::now() + Duration::from_secs(seconds);
        while clock::now() < end {
            let begun = clock::now();
            health(&self.fleet.url).await;
            ready(self.http()).await;
            assert!(begun.elapsed() < PROBE, "probes took {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let (_, most) = self.memory();
        drop(held);

        let watched = self.fleet.ask(&[&["watch", "ships"][..], &token].concat());
        assert!(!watched.is_empty());
        let status = self.fleet.ask(&[&["status", "ships"][..], &token].concat());
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(&format!("\"accepted\":{documents}")), "{text}");
        let (_, metrics) = crate::metrics::request(
            &format!("http://{}/metrics", self.http()),
            &format!("GET\nAuthorization: Bearer {OPERATOR}"),
        );
        let lost = metrics.lines().find(|line| line.starts_with("longhand_attempts_total{end=\"lost\""));
        assert!(lost.is_none_or(|line| line.ends_with(" 0")), "{lost:?}");
        let more = most.saturating_sub(before);
        assert!(more < MEMORY, "{} MB more than before", more >> 20);
    }
}

/// A kubelet's gRPC probe, over a connection of its own.
async fn health(url: &str) {
    let channel = endpoint(url).unwrap().connect().await.unwrap();
    let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
    let request = tonic_health::pb::HealthCheckRequest { service: "longhand.v1.Coordinator".into() };
    client.check(request).await.unwrap();
}

/// A kubelet's HTTP probe.
async fn ready(address: &str) {
    let url = format!("http://{address}");
    let (status, body) =
        tokio::task::spawn_blocking(move || crate::metrics::request(&format!("{url}/readyz"), "")).await.unwrap();
    assert_eq!(status, 200, "{body}");
}

/// Begins a call whose message never ends.
async fn endless(mut channel: Channel, url: &str, path: &str) {
    let begin = stream::iter([Ok::<_, Infallible>(Frame::data(axum::body::Bytes::from_static(&[0, 0])))]);
    let body = Body::new(StreamBody::new(begin.chain(stream::pending())));
    let request = Request::post(format!("{url}{path}")).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(body).unwrap();
    if std::future::poll_fn(|context| channel.poll_ready(context)).await.is_ok() {
        channel.call(request).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_calls_that_never_end_take_nothing_from_workers() {
    let target = Target::start(&[]);
    let url = target.fleet.url.clone();
    let attack = async || {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let channel = endpoint(&url).unwrap().connect().await.unwrap();
            for _ in 0..340 {
                for path in
                    ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/longhand.v1.Operator/AddRows"]
                {
                    let (channel, url) = (channel.clone(), url.clone());
                    calls.spawn(async move {
                        loop {
                            endless(channel.clone(), &url, path).await;
                            tokio::time::sleep(Duration::from_secs(2)).await;
                        }
                    });
                }
            }
        }
        calls
    };
    target.withstands(attack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_and_half_requests_take_nothing_from_workers() {
    // As few descriptors as many systems give a process.
    let target = Target::start(&[]);
    let attack = async || {
        let mut held = Vec::new();
        for _ in 0..600 {
            for (address, begin) in [
                (target.grpc(), &b""[..]),
                (target.grpc(), b"PRI * HTTP/2.0\r\n"),
                (target.http(), b""),
                (target.http(), b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: "),
                (target.http(), b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\ntoken="),
            ] {
                if let Ok(mut stream) = TcpStream::connect(address) {
                    stream.write_all(begin).ok();
                    held.push(stream);
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        held
    };
    target.withstands(attack).await;
}

/// A message of that many bytes, all of them empty entries of the repeated field with this key.
fn empty_entries(key: u8, bytes: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend((bytes as u32).to_be_bytes());
    message.extend([key, 0].repeat(bytes / 2));
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_empty_entries_take_no_more_memory_than_others() {
    let target = Target::start(&[]);
    let channel = endpoint(&target.fleet.url).unwrap().connect().await.unwrap();
    let send = async |call: &str, token: &str, key: u8, bytes: usize| {
        let request = Request::post(format!("{}/longhand.v1.{call}", target.fleet.url))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::new(Full::new(empty_entries(key, bytes).into()))).unwrap();
        let mut channel = channel.clone();
        std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
        let answer = channel.call(request).await.unwrap();
        answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
    };
    // What any message of the largest size takes: that of a field which nobody knows.
    for _ in 0..4 {
        send("Coordinator/Renew", WORKER, 0x7a, 16 << 20).await;
    }
    let (_, before) = target.memory();
    for (call, token, key) in [
        ("Coordinator/Renew", WORKER, 0x12),
        ("Coordinator/Lease", WORKER, 0x38),
        ("Coordinator/Complete", WORKER, 0x38),
        ("Operator/AddRows", OPERATOR, 0x1a),
        ("Operator/LoadRun", OPERATOR, 0x12),
    ] {
        let status = send(call, token, key, 16 << 20).await;
        assert_eq!(status, Some((Code::OutOfRange as i32).to_string()), "{call}");
        // Of a size whose entries are within bounds.
        send(call, token, key, 100 << 10).await;
    }
    let (_, most) = target.memory();
    let more = most.saturating_sub(before);
    assert!(more < MEMORY, "{} MB more than before", more >> 20);
    ready(target.http()).await;
}
