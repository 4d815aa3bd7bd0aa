//! Servers behind Sentinels, in a cluster, with passwords, or with TLS.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Committed, Next, RedisOptions, RedisStore, RedisTls, StoreError, open};
use longhand_tests::cluster::Cluster;
use longhand_tests::sentinel::SentinelSet;
use longhand_tests::server::{Kind, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::conformance;
use crate::fixture::*;

const PASSWORD: &str = "hidden-0123456789";

/// A fail-over is over within this time, or the test has failed.
const FAILOVER_LIMIT: Duration = Duration::from_secs(30);

async fn refusal(url: &str) -> String {
    let error = RedisStore::open(url, RedisOptions::default()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(_)), "{error}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error}");
    error.to_string()
}

/// Repeats a call while the store is unreachable, as the callers of a coordinator do.
async fn when_back<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> T {
    let again = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(StoreError::Unreachable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(FAILOVER_LIMIT, again).await.expect("the store is back")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_does_all_that_a_server_does_and_outlives_a_primary() {
    let mut cluster = Cluster::start();
    conformance::on_cluster(&cluster).await;

    let fixture = Fixture::of_cluster(&cluster).await;
    let mut runs = Vec::new();
    for number in 0..12 {
        runs.push(fixture.run(&format!("run-{number}"), 2).await);
    }
    let leased = fixture.lease("w", "q", 12).await;
    let mut held: Vec<_> = leased.iter().map(|record| record.run.clone()).collect();
    held.sort();
    held.dedup();
    assert_eq!(held.len(), 12, "each run got its share, regardless of its node");
    for primary in &cluster.primaries {
        assert!(redis::cmd("DBSIZE").query::<u64>(&mut primary.connect()).unwrap() > 0, "no node was left out");
    }
    let append = |word: &str| {
        let mut ask = redis::cmd("CONFIG");
        ask.arg("SET").arg("appendonly").arg(word).exec(&mut cluster.primaries[1].connect()).unwrap();
    };
    append("no");
    assert!(refusal(&cluster.url()).await.contains("--appendonly yes"), "one volatile node is enough");
    append("yes");
    // What a replica has not received is lost with its primary: here it has received all.
    redis::cmd("WAIT").arg(1).arg(10_000).query::<u64>(&mut cluster.primaries[2].connect()).unwrap();
    cluster.primaries[2].kill();
    for record in &leased {
        let done =
            when_back(async || fixture.store.commit(&commit(lease_of(record), ended(State::Accepted, ""))).await);
        assert!(matches!(done.await, Committed::Done(None) | Committed::Repeated(None)));
    }
    for run in &runs {
        fixture.assert_sound(run).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_lead_to_the_new_primary_and_nothing_acknowledged_is_lost() {
    let mut watched = SentinelSet::start(PASSWORD);
    let fixture = Fixture::at(&watched.url(), RedisOptions::default()).await;
    assert!(!format!("{fixture:?}").contains(PASSWORD), "{fixture:?}");
    let run = fixture.run("r", 3).await;
    let (_, done) = fixture.lease_one().await;
    fixture.end(done, State::Accepted).await;
    let (_, live) = fixture.lease_one().await;
    let before = fixture.all(&run).await;
    let mut admin = redis::Client::open(format!("redis://:{PASSWORD}@127.0.0.1:{}", watched.primary.port())).unwrap();
    redis::cmd("WAIT").arg(1).arg(10_000).query::<u64>(&mut admin).unwrap();

    watched.kill_sentinel(0);
    watched.primary.kill();
    assert_eq!(when_back(async || fixture.store.list(&run, &Default::default(), None, 9).await).await.records, before);
    assert_eq!(fixture.commit(done, ended(State::Accepted, "")).await, Committed::Repeated(None));
    assert_eq!(fixture.commit(live, Next::Release).await, Committed::Done(None));

    // The old primary comes back and is made a replica: nothing is written there.
    watched.primary.start_again();
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    fixture.assert_sound(&run).await;

    let unknown = watched.url().replace("/ships", "/boats");
    assert!(refusal(&unknown).await.contains("unknown service boats"));
    let wrong = watched.url().replace(PASSWORD, "wrong");
    assert!(refusal(&wrong).await.contains("use a user that may run scripts"));
}

#[tokio::test]
async fn a_url_of_another_kind_than_the_server_is_refused_with_the_right_one() {
    let server = Server::start(Kind::Redis);
    let cluster = server.url().replace("redis://", "redis+cluster://");
    assert!(refusal(&cluster).await.contains("expected redis://HOST:PORT"));
    let sentinel = server.url().replace("redis://", "redis+sentinel://") + "/ships";
    assert!(refusal(&sentinel).await.contains("is not a Sentinel"));
    let node = Server::durable(Kind::Redis, &["--cluster-enabled", "yes"]);
    assert!(refusal(&node.url()).await.contains("expected redis+cluster://"));
}

/// Rights that docs/fleet.md names, and no more.
const RIGHTS: [&str; 8] =
    ["on", ">hidden-0123456789", "~lh:*", "+@all", "-@admin", "-@dangerous", "+info", "resetchannels"];

#[tokio::test]
async fn a_user_with_few_rights_can_do_all_and_a_wrong_password_nothing() {
    let server = Server::start(Kind::Redis);
    redis::cmd("ACL").arg("SETUSER").arg("longhand").arg(RIGHTS.as_slice()).exec(&mut server.connect()).unwrap();
    redis::cmd("ACL").arg("SETUSER").arg("default").arg("off").exec(&mut server.connect()).unwrap();
    let url = |user: &str| server.url().replace("redis://", &format!("redis://{user}@"));
    let fixture = Fixture::at(&url(&format!("longhand:{PASSWORD}")), RedisOptions::default()).await;
    let run = fixture.run("r", 2).await;
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    fixture.assert_sound(&run).await;
    assert_eq!(fixture.sweep().await, []);
    for wrong in ["longhand:wrong", &format!("somebody:{PASSWORD}")] {
        assert!(refusal(&url(wrong)).await.contains("use a user that may run scripts"));
    }
    assert!(refusal(&server.url()).await.contains("redis://USER:PASSWORD@HOST"));
}

/// A CA, and a certificate and key of this machine: the paths of three files.
fn certificates(dir: &Path) -> [std::path::PathBuf; 3] {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate with its issuer's name for a self-signed one.
    params.distinguished_name.push(DnType::CommonName, "CA of a test");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    [("cert", signed.pem()), ("key", key.serialize_pem()), ("ca", ca.pem())].map(|(name, text)| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    })
}

#[tokio::test]
async fn a_server_with_tls_is_known_by_its_ca_and_knows_its_callers() {
    let dir = tempfile::tempdir().unwrap();
    let [certificate, key, ca] = certificates(dir.path());
    let server = Server::tls(&certificate, &key, &ca);
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let identity = Some((read(&certificate), read(&key)));
    let with =
        |ca: Option<String>, identity| RedisOptions { tls: RedisTls { ca, identity }, ..RedisOptions::default() };

    let fixture = Fixture::at(&server.url(), with(Some(read(&ca)), identity.clone())).await;
    let run = fixture.run("r", 1).await;
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    fixture.assert_sound(&run).await;
    assert!(!format!("{fixture:?}").contains("PRIVATE KEY"), "{fixture:?}");

    for (options, remedy) in
        [(with(None, identity), "--store-tls-ca"), (with(Some(read(&ca)), None), "--store-tls-cert")]
    {
        let error = open(&server.url(), options).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(text) if text.contains(remedy)), "{error}");
    }
}

/// Collects what is logged.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_log_line_and_no_error_holds_the_password() {
    let log = Log::default();
    let writer = log.clone();
    let everything =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::durable(Kind::Redis, &["--requirepass", PASSWORD]);
    tracing::subscriber::with_default(everything.finish(), || {
        runtime.block_on(async {
            let at = server.url().replace("redis://", "");
            let store = open(&format!("redis://:{PASSWORD}@{at}"), RedisOptions::default()).await.unwrap();
            store.runs().await.unwrap();
            tracing::info!(?store, "the store itself");
            for url in [
                format!("redis://:{PASSWORD}@127.0.0.1:1"),
                format!("redis://nobody:{PASSWORD}@{at}"),
                format!("rediss://:{PASSWORD}@{at}"),
                format!("redis+sentinel://:{PASSWORD}@{at}/ships"),
                format!("redis+cluster://:{PASSWORD}@{at}"),
                format!("postgres://:{PASSWORD}@{at}"),
                format!("redis://:{PASSWORD}@{at}/many"),
            ] {
                let quick = Duration::from_millis(300);
                let options = RedisOptions { connect_timeout: quick, ..RedisOptions::default() };
                let error = open(&url, options).await.unwrap_err();
                tracing::error!(%error, ?error, "refused");
            }
        });
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("refused") && text.contains("the store itself"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
}
