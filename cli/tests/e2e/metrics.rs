//! The metrics of the real program, scraped over HTTP and checked by promtool.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::fleet::{Fleet, Process};

/// One request over a connection of its own: status and body. `head` is method, headers and, after an empty line, a body.
pub(crate) fn request(url: &str, head: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").unwrap();
    let (address, path) = address.split_once('/').unwrap_or((address, ""));
    let mut stream = TcpStream::connect(address).unwrap();
    let (head, sent) = head.split_once("\n\n").unwrap_or((head, ""));
    let method = if head.is_empty() { "GET" } else { head.lines().next().unwrap() };
    let more: String = head.lines().skip(1).map(|line| format!("{line}\r\n")).collect();
    let length = sent.len();
    // By 1.0 the answer comes whole and the connection ends with it.
    write!(stream, "{method} /{path} HTTP/1.0\r\nHost: {address}\r\n{more}").unwrap();
    write!(stream, "Content-Length: {length}\r\n\r\n{sent}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn scrape(url: &str) -> String {
    let (status, body) = request(&format!("{url}/metrics"), "");
    assert_eq!(status, 200, "{body}");
    body
}

fn promtool(text: &str) {
    let mut tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: run `make test-deps`");
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let all = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && all.is_empty(), "{}", String::from_utf8_lossy(&all));
}

/// The value of a series, written with its labels as Prometheus shows it.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn coordinator_and_worker_are_scraped_and_every_documented_series_has_data() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let worker = Process::start(&["worker", "--engine", "mock", "--coordinator", &fleet.url, "--http", "127.0.0.1:0"]);
    let metrics = worker.event("started")["metrics"].as_str().unwrap().to_owned();
    fleet.submit("ships", 3);
    fleet.ask(&["watch", "ships"]);
    // A run that waits.
    let input = fleet.input(1).display().to_string();
    fleet.ask(&["submit", &input, "--run-id", "waits", "--require-model", "big"]);
    let ours = scrape(&fleet.dashboard);
    let theirs = scrape(metrics.strip_suffix("/metrics").unwrap());
    promtool(&ours);
    promtool(&theirs);

    let documented = include_str!("../../../METRICS.md");
    let names: Vec<&str> = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in &names {
        let text =
            if name.starts_with("longhand_worker") || name.starts_with("longhand_engine") { &theirs } else { &ours };
        let has_data = text.lines().any(|line| !line.starts_with('#') && line.starts_with(name));
        assert!(has_data, "{name} is documented and has no data:\n{text}");
    }
    for line in ours.lines().chain(theirs.lines()) {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next()) {
            assert!(names.contains(&name), "{name} is not in METRICS.md");
        }
    }
    assert_eq!(value(&ours, r#"longhand_documents{run="ships",state="accepted"}"#), Some(3.0));
    assert_eq!(value(&ours, r#"longhand_run_stalled{cause="no_model",run="waits"}"#), Some(1.0));
    assert_eq!(value(&ours, r#"longhand_attempts_total{end="completed",task="plan"}"#), Some(3.0));
    assert!(value(&ours, "longhand_words_accepted_total") > Some(1_000.0));
    assert!(value(&theirs, r#"longhand_worker_attempts_total{end="completed"}"#) > Some(3.0));
}

#[test]
fn metrics_need_a_token_and_pages_need_an_operator() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "worker 0123456789abcdef-worker\noperator 0123456789abcdef-operator\n").unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let fleet = Fleet::start(&["--http", "127.0.0.1:0", "--token-file", tokens.to_str().unwrap()]);
    let at = |path: &str, head: &str| request(&format!("{}{path}", fleet.dashboard), head);
    assert_eq!(at("/metrics", "").0, 401);
    assert_eq!(at("/metrics", "GET\nAuthorization: Bearer 0123456789abcdef-worker").0, 200, "Prometheus");
    assert_eq!(at("/metrics", "GET\nAuthorization: Bearer 0123456789abcdef-nobody").0, 401);
    assert_eq!(at("/", "").0, 303, "a person is asked to log in");
    assert_eq!(at("/", "GET\nAuthorization: Bearer 0123456789abcdef-worker").0, 303, "pages are for operators");
    assert_eq!(at("/login", "").0, 200);
    assert_eq!(at("/healthz", "").0, 200, "a machine that asks whether it lives needs no token");
    assert_eq!(at("/readyz", "").0, 200);
}

#[test]
fn a_foreign_host_header_is_rejected() {
    let fleet = Fleet::start(&["--http", "127.0.0.1:0"]);
    let address = fleet.dashboard.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}
