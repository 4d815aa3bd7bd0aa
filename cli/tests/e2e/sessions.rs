//! Tokens and sessions while a coordinator runs: guessing, logging out, replacing tokens.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use longhand_proto::clock;

use crate::fleet::{Fleet, Process};
use crate::metrics::request;
use crate::program::run;

const OPERATOR: &str = "operator-0123456789abcdef";

fn write(path: &Path, text: &str, mode: u32) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn tokens(dir: &Path, operator: &str) -> String {
    write(&dir.join("tokens"), &format!("worker worker-0123456789abcdef\noperator {operator}\n"), 0o600)
}

fn start(dir: &tempfile::TempDir) -> Fleet {
    Fleet::start(&["--token-file", &tokens(dir.path(), OPERATOR), "--http", "127.0.0.1:0"])
}

/// Logs in with a token; the cookie of the session.
fn log_in(fleet: &Fleet, token: &str) -> Option<String> {
    let address = fleet.dashboard.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let form = format!("token={token}");
    write!(
        stream,
        "POST /login HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let cookie = lines.filter_map(|line| line.strip_prefix("set-cookie: ").map(str::to_owned)).next()?;
    let port = address.rsplit_once(':').unwrap().1;
    assert!(cookie.starts_with(&format!("longhand_session_{port}=")), "each port has a cookie of its own: {cookie}");
    Some(cookie.split(';').next().unwrap().to_owned())
}

fn runs(fleet: &Fleet, header: &str) -> u16 {
    request(&format!("{}/api/runs", fleet.dashboard), &format!("GET\n{header}")).0
}

#[test]
fn guesses_are_counted_and_keep_out_nobody_who_has_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = start(&dir);
    let cookie = log_in(&fleet, OPERATOR).unwrap();
    let answers: Vec<u16> =
        (0..150).map(|number| runs(&fleet, &format!("Authorization: Bearer guess-{number}-of-some-length"))).collect();
    assert!(answers[..100].iter().all(|status| *status == 401) && answers[100..].iter().all(|status| *status == 429));
    assert!(log_in(&fleet, OPERATOR).is_some(), "the right one is let in");
    assert_eq!(runs(&fleet, &format!("Authorization: Bearer {OPERATOR}")), 200);
    assert_eq!(runs(&fleet, &format!("Cookie: {cookie}")), 200);
    let (_, metrics) = request(&format!("{}/metrics", fleet.dashboard), &format!("GET\nCookie: {cookie}"));
    assert!(metrics.contains("longhand_rejected_tokens_total 150"), "{metrics}");
    let [guess, right] = ["guess-of-some-length", OPERATOR].map(|token| write(&dir.path().join(token), token, 0o600));
    let error = fleet.run(&["status", "--token-file", &guess]).stderr;
    assert!(error.contains("too many rejected tokens"), "{error}");
    fleet.ask(&["status", "--token-file", &right]);
}

#[test]
fn logging_out_ends_the_session_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = start(&dir);
    assert_eq!(log_in(&fleet, "wrong-0123456789abcdef"), None);
    let (one, other) = (log_in(&fleet, OPERATOR).unwrap(), log_in(&fleet, OPERATOR).unwrap());
    let log_out = format!("POST\nCookie: {one}\nx-longhand: 1");
    assert_eq!(request(&format!("{}/logout", fleet.dashboard), &log_out).0, 204);
    assert_eq!(runs(&fleet, &format!("Cookie: {one}")), 401);
    assert_eq!(runs(&fleet, &format!("Cookie: {other}")), 200);
}

#[test]
fn a_reader_looks_at_everything_and_changes_nothing_and_a_scraper_sees_metrics_only() {
    const READER: &str = "reader-0123456789abcdef";
    const SCRAPER: &str = "scraper-0123456789abcdef";
    let dir = tempfile::tempdir().unwrap();
    let lines = format!("worker worker-0123456789abcdef\noperator {OPERATOR}\nreader {READER}\nmetrics {SCRAPER}\n");
    let tokens = write(&dir.path().join("tokens"), &lines, 0o600);
    let fleet = Fleet::start(&["--token-file", &tokens, "--http", "127.0.0.1:0"]);
    let own = |token: &str| write(&dir.path().join(token), token, 0o600);
    let input = fleet.input(2);
    let submit =
        |token: &str| fleet.run(&["submit", input.to_str().unwrap(), "--run-id", "ships", "--token-file", &own(token)]);
    assert_eq!(submit(OPERATOR).code, Some(0));
    let answer = |token: &str, path: &str, method: &str| {
        let head = format!("{method}\nAuthorization: Bearer {token}\nx-longhand: 1");
        request(&format!("{}{path}", fleet.dashboard), &head)
    };
    for path in ["/", "/api/runs", "/api/runs/ships", "/api/runs/ships/documents", "/api/workers", "/metrics"] {
        assert_eq!(answer(READER, path, "GET").0, 200, "{path}");
        let scraped = answer(SCRAPER, path, "GET").0;
        assert!(if path == "/metrics" { scraped == 200 } else { matches!(scraped, 303 | 401) }, "{path}: {scraped}");
    }
    for path in ["/api/runs/ships/pause", "/api/runs/ships/cancel", "/api/runs/ships/requeue", "/api/workers/a-1/drain"]
    {
        let (status, body) = answer(READER, path, "POST");
        assert!(status == 403 && body.contains("a reader's token changes nothing"), "{path}: {status} {body}");
        assert_eq!(answer(SCRAPER, path, "POST").0, 401, "{path}");
    }
    // The same by session, and over gRPC.
    let cookie = log_in(&fleet, READER).unwrap();
    assert_eq!(log_in(&fleet, SCRAPER), None);
    let with = |method: &str, path: &str| {
        request(&format!("{}{path}", fleet.dashboard), &format!("{method}\nCookie: {cookie}\nx-longhand: 1"))
    };
    assert!(with("GET", "/api/site").1.contains("\"read_only\":true"));
    assert_eq!(with("POST", "/api/runs/ships/pause").0, 403);
    assert_eq!(with("POST", "/logout").0, 204);
    let reader = own(READER);
    let output = dir.path().join("corpus");
    for reads in
        [&["status", "ships"][..], &["documents", "ships"], &["export", "ships", "-o", output.to_str().unwrap()]]
    {
        let ended = fleet.run(&[reads, &["--token-file", &reader]].concat());
        assert_eq!(ended.code, Some(0), "{reads:?}: {}", ended.stderr);
    }
    for changes in [&["pause", "ships"][..], &["cancel", "ships"], &["requeue", "ships", "--failed"]] {
        let ended = fleet.run(&[changes, &["--token-file", &reader]].concat());
        assert_eq!(ended.code, Some(2), "{changes:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("its role is reader, and this requires the role operator"), "{}", ended.stderr);
    }
    assert!(submit(READER).stderr.contains("requires the role operator"));
    assert!(fleet.run(&["status", "--token-file", &own(SCRAPER)]).stderr.contains("its role is metrics"));
}

#[test]
fn a_hang_up_replaces_the_tokens_and_ends_what_the_old_ones_opened() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = start(&dir);
    let cookie = log_in(&fleet, OPERATOR).unwrap();
    let address = fleet.dashboard.strip_prefix("http://").unwrap();
    let mut events = TcpStream::connect(address).unwrap();
    write!(events, "GET /api/events HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(events).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("event: change")));

    // What cannot be read changes nothing.
    write(&dir.path().join("tokens"), "root nonsense", 0o600);
    fleet.coordinator.signal("HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(runs(&fleet, &format!("Authorization: Bearer {OPERATOR}")), 200);

    const NEW: &str = "another-0123456789abcdef";
    tokens(dir.path(), NEW);
    fleet.coordinator.signal("HUP");
    let begun = clock::now();
    while runs(&fleet, &format!("Authorization: Bearer {NEW}")) != 200 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the new token was not read");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(runs(&fleet, &format!("Authorization: Bearer {OPERATOR}")), 401);
    assert_eq!(runs(&fleet, &format!("Cookie: {cookie}")), 401);
    // The stream ends; a read that waited would hang the test.
    lines.for_each(drop);
    assert!(begun.elapsed() < Duration::from_secs(20), "the stream outlived its token");
}

#[test]
fn a_secret_is_sent_in_the_clear_or_read_from_a_public_file_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let token = write(&dir.path().join("token"), OPERATOR, 0o600);
    let remote = ["--coordinator", "http://192.0.2.1:7070"];
    let ended = run([&["status", "--token-file", &token][..], &remote].concat());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("in the clear: use https://"), "{}", ended.stderr);
    let public = write(&dir.path().join("public"), OPERATOR, 0o644);
    let ended = run(["status", "--token-file", &public]);
    assert!(ended.code == Some(2) && ended.stderr.contains("chmod 600"), "{}", ended.stderr);
    for store in ["redis://me:secret@192.0.2.1/0", "redis+sentinel://127.0.0.1:1,192.0.2.1:2/s"] {
        let ended = run(["coordinator", "--store", store, "--listen", "127.0.0.1:0", "--http", "off"]);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("rediss://") && !ended.stderr.contains("secret"), "{}", ended.stderr);
    }
}

#[test]
fn a_worker_goes_on_with_a_coordinator_that_was_restarted_and_has_another_token() {
    let home = tempfile::tempdir().unwrap();
    let environment = [("HOME", home.path().to_str().unwrap()), ("XDG_STATE_HOME", "")];
    let store = format!("sqlite:{}", home.path().join("store.sqlite").display());
    let start = |listen: &str| {
        let args = ["coordinator", "--store", &store, "--listen", listen, "--http", "off", "--lease-seconds", "3"];
        let coordinator = Process::start_in(&args, &environment);
        let listening = coordinator.event("listening");
        let token = fs::read_to_string(listening["token_file"].as_str().unwrap()).unwrap();
        (coordinator, listening["address"].as_str().unwrap().to_owned(), token)
    };
    let (mut coordinator, address, token) = start("127.0.0.1:0");
    let url = format!("http://{address}");
    let command = |args: &[&str]| {
        let mut command = crate::program::longhand();
        command.args(args).args(["--coordinator", &url]).envs(environment);
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout).unwrap()
    };
    let input = home.path().join("in.jsonl");
    fs::write(&input, "{\"id\": \"a\", \"prompt\": \"Describe a ship.\", \"length\": 1000}\n").unwrap();
    command(&["submit", input.to_str().unwrap(), "--run-id", "ships"]);
    let args = ["worker", "--engine", "mock", "--mock-tokens-per-second", "300", "--coordinator", &url];
    let _worker = Process::start_in(&args, &environment);
    std::thread::sleep(Duration::from_secs(1));
    coordinator.kill();
    let (_coordinator, _, another) = start(&address);
    assert_ne!(token, another);
    command(&["watch", "ships"]);
    assert!(command(&["status", "ships", "--json"]).contains("\"accepted\":1"));
}

#[test]
fn a_change_that_comes_slowly_is_not_made_once_its_token_was_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = start(&dir);
    let address = fleet.dashboard.strip_prefix("http://").unwrap();
    for (operator, status) in [(OPERATOR, 404), ("another-operator-0123456789", 401)] {
        let body = "{\"paused\": true}";
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "POST /api/runs/none/pause HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {OPERATOR}\r\nX-Longhand: 1\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{{",
            body.len()
        )
        .unwrap();
        std::thread::sleep(Duration::from_millis(500));
        tokens(dir.path(), operator);
        fleet.coordinator.signal("HUP");
        std::thread::sleep(Duration::from_millis(500));
        write!(stream, "{}", &body[1..]).unwrap();
        let answer = BufReader::new(stream).lines().map_while(Result::ok).next().unwrap();
        assert!(answer.contains(&status.to_string()), "{answer}");
    }
}
