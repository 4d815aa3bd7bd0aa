//! Access control: certificates, tokens, and where a coordinator may listen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::fleet::{Fleet, Process};
use crate::metrics::request;
use crate::program::{longhand, run};

const WORKER: &str = "worker-0123456789abcdef";
const OPERATOR: &str = "operator-0123456789abcdef";
const EXPIRED: &str = "expired-0123456789abcdef";

fn file(dir: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A CA with one certificate that it has signed for this machine.
struct Authority {
    ca: String,
    certificate: String,
    key: String,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let signed = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        Self {
            ca: file(dir, &format!("{name}-ca.pem"), &ca.pem()),
            certificate: file(dir, &format!("{name}.pem"), &signed.pem()),
            key: file(dir, &format!("{name}-key.pem"), &key.serialize_pem()),
        }
    }
}

fn tokens(dir: &Path) -> String {
    let text = format!("worker {WORKER}\noperator {OPERATOR}\noperator {EXPIRED} 2001-01-01T00:00:00Z\n");
    file(dir, "tokens", &text)
}

#[test]
fn each_token_has_its_own_role_and_a_wrong_one_none() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(&["--token-file", &tokens(dir.path())]);
    let token = |text| file(dir.path(), text, text);
    fleet.ask(&["status", "--token-file", &token(OPERATOR)]);
    for (shown, says) in [
        (token(EXPIRED), "has expired"),
        (token("somebody-0123456789abcdef"), "unknown token"),
        (token(WORKER), "its role is worker, and this requires the role operator"),
    ] {
        let error = fleet.rejected(&["status", "--token-file", &shown]);
        assert!(error.contains(says) && error.contains("use"), "{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }
    let error = fleet.rejected(&["status"]);
    assert!(error.contains("--token-file"), "{error}");
    let error = fleet.rejected(&["worker", "--engine", "mock", "--token-file", &token(OPERATOR)]);
    assert!(error.contains("its role is operator, and this requires the role worker"), "{error}");
}

#[test]
fn a_coordinator_and_its_callers_verify_each_others_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let server = ["--tls-cert", &ours.certificate, "--tls-key", &ours.key, "--tls-client-ca", &ours.ca];
    let fleet = Fleet::start(&server);
    assert!(fleet.url.starts_with("https://"), "{}", fleet.url);
    // A token that names a certificate counts only with it, and here both have one of the right CA.
    let lines = |name: &str| format!("worker {WORKER}\noperator {OPERATOR} anna cert={name}\n");
    let own_token = file(dir.path(), "own-token", OPERATOR);
    for (name, code) in [("localhost", 0), ("elsewhere.example.org", 2)] {
        let tokens = file(dir.path(), name, &lines(name));
        let bound = Fleet::start(&[&server[..], &["--token-file", &tokens]].concat());
        let caller = ["--tls-ca", &ours.ca, "--tls-cert", &ours.certificate, "--tls-key", &ours.key];
        let ended = bound.run(&[&["status", "--token-file", &own_token][..], &caller].concat());
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert_eq!(ended.stderr.contains("only with a client certificate of its name"), code == 2, "{}", ended.stderr);
    }
    let own = |it: &Authority| ["--tls-cert".into(), it.certificate.clone(), "--tls-key".into(), it.key.clone()];
    let ask = |ca: &str, own: &[String]| {
        let mut args = vec!["status", "--tls-ca", ca];
        args.extend(own.iter().map(String::as_str));
        fleet.run(&args)
    };
    let well = ask(&ours.ca, &own(&ours));
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    for (ended, says) in [
        (ask(&theirs.ca, &own(&ours)), "give the CA that signed it with --tls-ca"),
        (ask(&ours.ca, &[]), "give --tls-cert and --tls-key"),
        (ask(&ours.ca, &own(&theirs)), "--tls-client-ca"),
    ] {
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
}

#[test]
fn a_reachable_port_needs_tls_and_tokens_or_insecure() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, tokens) = (Authority::new(dir.path(), "ours"), tokens(dir.path()));
    let store = format!("sqlite:{}", dir.path().join("store.sqlite").display());
    let listen = ["coordinator", "--store", &store, "--listen", "0.0.0.0:0"];
    let tls = ["--tls-cert", &ours.certificate, "--tls-key", &ours.key];
    let token = ["--token-file", &tokens];
    for (more, missing) in [
        (vec![], "--tls-cert, --tls-key and --token-file"),
        (tls.to_vec(), "add --token-file"),
        (token.to_vec(), "add --tls-cert and --tls-key"),
    ] {
        let ended = run(listen.iter().chain(&more));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(missing) && ended.stderr.contains("--insecure"), "{}", ended.stderr);
    }
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = run(listen[..3].iter().chain(&token));
    assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn without_tokens_a_coordinator_lets_its_own_user_in_and_nobody_else() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let home = |dir: &tempfile::TempDir| dir.path().to_str().unwrap().to_owned();
    let (store, archive) = (dir.path().join("store.sqlite"), dir.path().join("archive"));
    let url = format!("sqlite:{}", store.display());
    let args = ["coordinator", "--store", &url, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--archive"];
    let args = [&args[..], &[archive.to_str().unwrap()]].concat();
    let mut coordinator = Process::start_in(&args, &[("HOME", &home(&dir)), ("XDG_STATE_HOME", "")]);
    let listening = coordinator.event("listening");
    let status = |dir: &tempfile::TempDir| {
        let mut command = longhand();
        command.env("HOME", dir.path()).env("XDG_STATE_HOME", "").arg("status");
        let ended = command.args(["--coordinator", listening["url"].as_str().unwrap()]).output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    assert_eq!(status(&dir).0, Some(0), "{}", status(&dir).1);
    let (code, error) = status(&other);
    assert!(code == Some(2) && error.contains("no token"), "{error}");

    let page = listening["dashboard"].as_str().unwrap();
    let token = fs::read_to_string(listening["token_file"].as_str().unwrap()).unwrap();
    assert_eq!(request(&format!("{page}/api/runs"), "").0, 401);
    assert_eq!(request(&format!("{page}/metrics"), "").0, 401);
    assert_eq!(request(&format!("{page}/?token={token}x"), "").0, 303);
    assert_eq!(request(&format!("{page}/api/runs"), &format!("GET\nAuthorization: Bearer {token}")).0, 200);
    let opened = headers(&format!("{page}/runs/ships?token={token}"));
    for path in ["//evil.example/", "/\\evil.example/"] {
        let elsewhere = headers(&format!("{page}{path}?token={token}"));
        assert!(elsewhere.contains("location: /\r\n"), "nobody is sent to another site: {elsewhere}");
    }
    let cookie = opened.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a session");
    assert!(opened.contains("location: /runs/ships\r\n"), "the token leaves the address: {opened}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(request(&format!("{page}/api/runs"), &format!("GET\nCookie: {cookie}")).0, 200);

    let port = listening["address"].as_str().unwrap().rsplit_once(':').unwrap().1;
    let file = dir.path().join(format!(".local/state/longhand/coordinator-{port}.token"));
    assert_eq!((mode(&file), mode(file.parent().unwrap()), mode(&store), mode(&archive)), (0o600, 0o700, 0o600, 0o700));
    coordinator.signal("TERM");
    assert_eq!(coordinator.wait(), Some(0));
    assert!(!file.exists(), "it ends with its process");
}

/// The head of an answer.
fn headers(url: &str) -> String {
    use std::io::{Read, Write};
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_run_opens_one_port_which_needs_its_token_and_keeps_its_state_to_its_user() {
    let dir = tempfile::tempdir().unwrap();
    let input = file(dir.path(), "in.jsonl", "{\"prompt\": \"Describe a ship.\", \"length\": 1000}");
    let out = dir.path().join("out");
    let args = ["run", &input, "-o", out.to_str().unwrap(), "--engine", "mock", "--mock-tokens-per-second", "20"];
    let home = [("HOME", dir.path().to_str().unwrap()), ("XDG_STATE_HOME", "")];
    let run = Process::start_in(&[&args[..], &["--http", "127.0.0.1:0"]].concat(), &home);
    let dashboard = run.event("dashboard");
    let page = dashboard["url"].as_str().unwrap();
    let token = fs::read_to_string(dashboard["token_file"].as_str().unwrap()).unwrap();
    assert_eq!(request(&format!("{page}/api/runs"), "").0, 401);
    assert_eq!(request(&format!("{page}/api/runs"), &format!("GET\nAuthorization: Bearer {token}")).0, 200);
    assert_eq!(listening_sockets(run.pid()), 1, "the dashboard's");
    let state = out.join(".longhand");
    assert_eq!((mode(&state), mode(&state.join("store.sqlite"))), (0o700, 0o600));
    assert_eq!(mode(&out) & 0o055, 0o055, "what is exported is for others, as far as the umask lets it");
}

/// Listening TCP sockets of a process.
fn listening_sockets(pid: u32) -> usize {
    let table =
        [format!("/proc/{pid}/net/tcp"), format!("/proc/{pid}/net/tcp6")].map(|path| fs::read_to_string(path).unwrap());
    let columns =
        table.iter().flat_map(|text| text.lines().skip(1)).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening: Vec<String> =
        columns.filter(|columns| columns[3] == "0A").map(|columns| format!("socket:[{}]", columns[9])).collect();
    let open =
        fs::read_dir(format!("/proc/{pid}/fd")).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    open.filter(|link| listening.iter().any(|socket| *socket == link.to_string_lossy())).count()
}

#[test]
fn output_that_goes_to_a_file_names_the_file_of_the_token_and_not_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", dir.path().join("store.sqlite").display());
    let input = file(dir.path(), "in.jsonl", "{\"prompt\": \"Describe a ship.\", \"length\": 1000}");
    let out = dir.path().join("out");
    let engine = ["--engine", "mock", "--mock-tokens-per-second", "20"];
    for args in [
        vec!["coordinator", "--store", &store, "--listen", "127.0.0.1:0"],
        [&["run", &input, "-o", out.to_str().unwrap()][..], &engine].concat(),
    ] {
        let log = dir.path().join(format!("{}.log", args[0]));
        let mut command = longhand();
        command.args(&args).args(["--http", "127.0.0.1:0"]).env("HOME", dir.path()).env("XDG_STATE_HOME", "");
        let mut process = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let named = || {
            let text = fs::read_to_string(&log).unwrap();
            let line = text.lines().find(|line| line.contains("dashboard at"))?.to_owned();
            Some((line.rsplit_once(", its token in ")?.1.to_owned(), text))
        };
        let found = (0..600).find_map(|_| {
            std::thread::sleep(Duration::from_millis(100));
            named()
        });
        let (path, text) = found.unwrap_or_else(|| panic!("{}", fs::read_to_string(&log).unwrap()));
        let token = fs::read_to_string(&path).unwrap();
        assert!(token.len() >= 32 && !text.contains(&token), "{text}");
        assert_eq!(mode(Path::new(&path)), 0o600);
        let page = text.lines().find_map(|line| line.split_once("dashboard at ")?.1.split(',').next()).unwrap();
        assert_eq!(request(&format!("{page}/api/runs"), &format!("GET\nAuthorization: Bearer {token}")).0, 200);
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
