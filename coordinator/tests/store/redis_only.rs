//! What only a server can do: have settings that lose data, run out of memory, drop its scripts, die and restart.

use std::collections::BTreeSet;
use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Committed, Next, RedisOptions, RedisStore, RunStore, StoreError, open};
use redis::Commands;

use crate::fixture::*;
use longhand_tests::server::{Kind, Server};

async fn refusal(server: &Server) -> String {
    match RedisStore::open(&server.url(), RedisOptions::default()).await {
        Err(StoreError::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_would_lose_documents_is_refused() {
    let server = Server::with(Kind::Redis, &["--appendonly", "no", "--maxmemory-policy", "noeviction"]);
    assert!(refusal(&server).await.contains("appendonly yes"));
    assert!(open(&server.url(), RedisOptions::default()).await.is_err());
    open(&server.url(), RedisOptions { allow_volatile: true, ..RedisOptions::default() }).await.unwrap();

    let server = Server::with(Kind::Valkey, &["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"]);
    assert!(refusal(&server).await.contains("maxmemory-policy noeviction"));
}

#[tokio::test]
async fn documents_of_a_newer_build_are_refused() {
    let server = Server::start(Kind::Redis);
    server.connect().set::<_, _, ()>("lh:schema", 99).unwrap();
    assert!(refusal(&server).await.contains("schema 99"));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_and_a_wrong_url_is_refused() {
    let url = Server::start(Kind::Redis).url();
    let gone = open(&url, RedisOptions::default()).await.unwrap_err();
    assert!(matches!(&gone, StoreError::Unreachable(text) if text.contains("127.0.0.1:")), "{gone}");
    let error = open("redis://user:secret@", RedisOptions::default()).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(_)), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn a_full_server_changes_nothing_and_goes_on_when_there_is_room() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::start(kind);
        let fixture = Fixture::of_server(&server).await;
        let run = fixture.run("r", 3).await;
        let (_, lease) = fixture.lease_one().await;
        let before = fixture.all(&run).await;
        let mut admin = server.connect();
        let memory = |bytes: &str, admin: &mut redis::Connection| {
            redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec(admin).unwrap();
        };
        memory("1", &mut admin);
        for full in [
            fixture.store.commit(&commit(lease, ended(State::Accepted, ""))).await.map(drop),
            fixture.store.lease(&query("w", "q", 1)).await.map(drop),
            fixture.store.submit(&run, &[new(&run, 9)]).await.map(drop),
        ] {
            assert!(matches!(&full, Err(StoreError::Full(text)) if text.contains("maxmemory")), "{full:?}");
        }
        assert_eq!(fixture.all(&run).await, before, "and it can still be read");
        memory("0", &mut admin);
        fixture.end(lease, State::Accepted).await;
        fixture.assert_sound(&run).await;
    }
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_or_dropped_the_connection_is_served_on() {
    let server = Server::start(Kind::Redis);
    let fixture = Fixture::of_server(&server).await;
    fixture.run("r", 2).await;
    let mut admin = server.connect();
    let (_, lease) = fixture.lease_one().await;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut admin).unwrap();
    fixture.end(lease, State::Accepted).await;
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").exec(&mut admin).unwrap();
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
}

#[tokio::test]
async fn a_server_that_was_killed_comes_back_with_all_that_it_wrote() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let mut server = Server::start(kind);
        let fixture = Fixture::of_server(&server).await;
        // What `everysec` has not written yet may be lost; here nothing may.
        redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg("always").exec(&mut server.connect()).unwrap();
        let run = fixture.run("r", 3).await;
        let (_, done) = fixture.lease_one().await;
        fixture.end(done, State::Accepted).await;
        let (_, live) = fixture.lease_one().await;
        let before = fixture.all(&run).await;
        server.restart();
        assert_eq!(fixture.all(&run).await, before);
        assert_eq!(fixture.commit(done, ended(State::Accepted, "")).await, Committed::Repeated(None));
        assert_eq!(fixture.commit(live, Next::Release).await, Committed::Done(None));
        fixture.assert_sound(&run).await;
    }
}

#[tokio::test]
async fn a_server_that_hangs_times_out() {
    let server = Server::start(Kind::Redis);
    let options = RedisOptions { response_timeout: Duration::from_millis(100), ..RedisOptions::default() };
    let store = RedisStore::open(&server.url(), options).await.unwrap();
    let mut admin = server.connect();
    redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("ALL").exec(&mut admin).unwrap();
    let error = store.runs().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "the outcome is unknown: {error}");
}

#[tokio::test]
async fn the_audit_finds_every_broken_index_and_repairs_it() {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = Server::start(kind);
        let fixture = Fixture::of_server(&server).await;
        let run = fixture.run("r", 5).await;
        let (leased, lease) = fixture.lease_one().await;
        let (accepted, done) = fixture.lease_one().await;
        fixture.end(done, State::Accepted).await;
        let (_, failed) = fixture.lease_one().await;
        fixture.commit(failed, ended(State::Failed, "poison")).await;
        let right = fixture.all(&run).await;

        let mut admin = server.connect();
        let names: BTreeSet<String> = admin.keys("lh:{r}:*").unwrap();
        let ghost = "f".repeat(32);
        let mut broken = 0;
        for key in names.iter().filter_map(|key| key.strip_prefix("lh:{r}:")) {
            let index = format!("lh:{{r}}:{key}");
            match key.split(':').next().unwrap() {
                // One entry lost, one too many.
                "s" | "r" | "q" | "all" => {
                    admin.zpopmin::<_, ()>(&index, 1).unwrap();
                    admin.zadd::<_, _, _, ()>(&index, &ghost, 3).unwrap();
                    broken += 2;
                }
                "leases" => {
                    admin.hdel::<_, _, ()>(&index, lease.to_string()).unwrap();
                    admin.hset::<_, _, _, ()>(&index, &ghost, accepted.id.to_string()).unwrap();
                    broken += 2;
                }
                "run" | "d" | "b" | "a" | "req" => {}
                other => panic!("{other} is a key that this test does not know"),
            }
        }
        assert!(broken >= 20, "{names:?}");

        let found = fixture.store.audit(&run, false).await.unwrap();
        assert_eq!((found.documents, found.mismatches.len(), found.repaired), (5, broken, 0), "{found:#?}");
        assert_eq!(fixture.store.audit(&run, true).await.unwrap().repaired, broken as u64);
        fixture.assert_sound(&run).await;
        assert_eq!(fixture.all(&run).await, right);
        assert_eq!(fixture.commit(lease, Next::Release).await, Committed::Done(None));
        assert_eq!(fixture.get(leased.id).await.counters.releases, 1);
    }
}

/// Entries at the head of an index whose documents are gone.
#[tokio::test]
async fn entries_without_a_document_stall_neither_the_sweep_nor_the_lists() {
    let server = Server::start(Kind::Redis);
    let fixture = Fixture::of_server(&server).await;
    let run = fixture.run("r", 1).await;
    let (leased, _) = fixture.lease_one().await;
    let mut admin = server.connect();
    for index in ["q:expiry", "q:progress", "all"] {
        for ghost in 0..300 {
            admin.zadd::<_, _, _, ()>(format!("lh:{{r}}:{index}"), format!("{ghost:032x}"), -1).unwrap();
        }
    }
    assert_eq!(fixture.all(&run).await.len(), 1);
    fixture.pass(TTL);
    let swept = fixture.sweep().await;
    assert_eq!(swept.iter().map(|swept| swept.document).collect::<Vec<_>>(), [leased.id]);
    for index in ["q:expiry", "q:progress"] {
        let left: u64 = admin.zcard(format!("lh:{{r}}:{index}")).unwrap();
        assert_eq!(left, 0, "{index}");
    }
    assert_eq!(fixture.store.audit(&run, true).await.unwrap().repaired, 300);
    fixture.assert_sound(&run).await;
}

#[tokio::test]
async fn a_waiting_document_takes_less_than_a_kilobyte_beside_its_body() {
    let server = Server::start(Kind::Redis);
    let fixture = Fixture::of_server(&server).await;
    let used = |admin: &mut redis::Connection| -> i64 {
        let info: String = redis::cmd("INFO").arg("memory").query(admin).unwrap();
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap()
    };
    let mut admin = server.connect();
    let run = fixture.run("r", 0).await;
    let before = used(&mut admin);
    let documents: Vec<_> = (0..5000).map(|number| new(&run, number)).collect();
    fixture.store.submit(&run, &documents).await.unwrap();
    let each = (used(&mut admin) - before) / 5000;
    assert!(each < 1000, "{each} bytes a document");
}

/// One address, behind which another server takes over: the old one stays, read-only.
#[tokio::test]
async fn a_server_that_becomes_a_replica_is_unreachable_until_a_primary_is_there() {
    let (server, other) = (Server::start(Kind::Redis), Server::start(Kind::Redis));
    let fixture = Fixture::of_server(&server).await;
    let run = fixture.run("r", 2).await;
    let (_, lease) = fixture.lease_one().await;
    let mut admin = server.connect();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(other.port()).exec(&mut admin).unwrap();
    let unreachable = |error: StoreError| assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    unreachable(fixture.store.commit(&commit(lease, ended(State::Accepted, ""))).await.unwrap_err());
    // Readiness asks for the time, which a replica knows.
    unreachable(fixture.store.now_ms().await.unwrap_err());
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut admin).unwrap();
    fixture.store.now_ms().await.unwrap();
    // What the replica copied is empty; the coordinator goes on with it.
    assert!(fixture.store.runs().await.unwrap().iter().all(|known| known.id == run));
    // Who gives the address of a replica at the start is told.
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(other.port()).exec(&mut admin).unwrap();
    assert!(refusal(&server).await.contains("not of a replica"));
}

#[tokio::test]
async fn a_user_whose_rights_or_password_change_is_unreachable_and_comes_back() {
    let server = Server::start(Kind::Redis);
    let fixture = Fixture::of_server(&server).await;
    let run = fixture.run("r", 2).await;
    let mut admin = server.connect();
    let acl = |rights: &[&str], admin: &mut redis::Connection| {
        redis::cmd("ACL").arg("SETUSER").arg("default").arg(rights).exec(admin).unwrap();
    };
    for (denied, restored) in [(&["-@write"][..], &["+@all"][..]), (&["-evalsha", "-eval"], &["+@all"])] {
        acl(denied, &mut admin);
        let error = fixture.store.lease(&query("w", denied[0], 1)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Unreachable(_)), "{denied:?}: {error}");
        acl(restored, &mut admin);
        assert_eq!(fixture.store.lease(&query("w", restored[0], 0)).await.unwrap(), []);
    }
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("other").exec(&mut admin).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").exec(&mut admin).unwrap();
    let error = fixture.store.counts(&run).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable(_)), "{error}");
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec(&mut admin).unwrap();
    assert_eq!(fixture.store.counts(&run).await.unwrap().ready, 2);
}
