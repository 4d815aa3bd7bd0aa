//! Access control: certificates, tokens, and where a coordinator may listen.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::fleet::Fleet;
use crate::program::run;

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
        (token(WORKER), "for workers, and the call requires one for operators"),
    ] {
        let error = fleet.rejected(&["status", "--token-file", &shown]);
        assert!(error.contains(says) && error.contains("use"), "{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }
    let error = fleet.rejected(&["status"]);
    assert!(error.contains("--token-file"), "{error}");
    let error = fleet.rejected(&["worker", "--engine", "mock", "--token-file", &token(OPERATOR)]);
    assert!(error.contains("for operators, and the call requires one for workers"), "{error}");
}

#[test]
fn a_coordinator_and_its_callers_verify_each_others_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(dir.path(), "ours"), Authority::new(dir.path(), "theirs"));
    let server = ["--tls-cert", &ours.certificate, "--tls-key", &ours.key, "--tls-client-ca", &ours.ca];
    let fleet = Fleet::start(&server);
    assert!(fleet.url.starts_with("https://"), "{}", fleet.url);
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
