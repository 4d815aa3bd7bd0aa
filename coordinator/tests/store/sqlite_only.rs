//! What only a file can do: be reopened, be another program's, be damaged.

use std::fs;
use std::path::Path;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{RedisOptions, RunStore, SqliteStore, StoreError, open};
use longhand_proto::clock;
use rusqlite::Connection;

use crate::fixture::*;

fn refusal(path: &Path) -> String {
    match SqliteStore::open(path, clock::unix_ms) {
        Err(StoreError::Refused(text)) => {
            assert!(text.contains(&path.display().to_string()), "names the file: {text}");
            text
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_file_that_is_opened_again_holds_all_that_it_held() {
    let folder = tempfile::tempdir().unwrap();
    let run = run("r");
    let (before, attempts, lease) = {
        let fixture = Fixture::file_at(folder.path());
        fixture.run("r", 3).await;
        let (_, lease) = fixture.lease_one().await;
        fixture.end(lease, State::Accepted).await;
        let (_, live) = fixture.lease_one().await;
        let renewal = longhand_coordinator::store::Renewal {
            lease: live,
            progress: 2,
            checkpoint: Some(checkpoint(&[1, 2])),
            from: 0,
        };
        fixture.store.renew(&[renewal], TTL).await.unwrap();
        (fixture.all(&run).await, fixture.store.attempts(document(&run, 0)).await.unwrap(), lease)
    };
    let fixture = Fixture::file_at(folder.path());
    assert_eq!(fixture.all(&run).await, before);
    assert_eq!(fixture.store.attempts(document(&run, 0)).await.unwrap(), attempts);
    assert_eq!(fixture.store.run(&run).await.unwrap(), Some(a_run("r", 7)));
    assert!(matches!(
        fixture.commit(lease, ended(State::Accepted, "")).await,
        longhand_coordinator::store::Committed::Repeated(None)
    ));
    fixture.assert_sound(&run).await;
}

#[test]
fn a_file_of_a_newer_build_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    drop(SqliteStore::open(&path, clock::unix_ms).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(refusal(&path).contains("schema version 99"));
}

#[test]
fn a_file_of_another_program_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photos.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE photo (name TEXT)").unwrap();
    let before = fs::read(&path).unwrap();
    assert!(refusal(&path).contains("another program"));
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_not_a_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "Dear diary, ".repeat(500);
    fs::write(&path, &text).unwrap();
    assert!(refusal(&path).contains("not a database"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.sqlite");
    Fixture::file_at(folder.path()).run("r", 200).await;
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[4096..end].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    // The schema's own page is whole, so the damage shows at the first call that meets it.
    let error = match SqliteStore::open(&path, clock::unix_ms) {
        Ok(store) => store.runs().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("restore a backup of it")), "{error}");
}

#[test]
fn a_folder_that_does_not_exist_is_named() {
    assert!(refusal(Path::new("/nowhere/at/all/store.sqlite")).contains("check that its folder exists"));
}

#[tokio::test]
async fn the_audit_finds_a_wrong_count_and_repairs_it() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::file_at(folder.path());
    let run = fixture.run("r", 5).await;
    fixture.lease_one().await;
    let right = fixture.store.counts(&run).await.unwrap();
    let admin = Connection::open(folder.path().join("store.sqlite")).unwrap();
    admin
        .execute_batch("UPDATE tally SET n = 40 WHERE state = 'ready'; DELETE FROM tally WHERE state = 'leased'")
        .unwrap();

    let found = fixture.store.audit(&run, false).await.unwrap();
    assert_eq!((found.documents, found.mismatches.len(), found.repaired), (5, 2, 0));
    assert!(found.mismatches[0].contains("counted 40 ready documents, found 4"), "{:?}", found.mismatches);
    assert_eq!(fixture.store.audit(&run, true).await.unwrap().repaired, 2);
    fixture.assert_sound(&run).await;
    assert_eq!(fixture.store.counts(&run).await.unwrap(), right);
}

#[tokio::test]
async fn a_store_is_opened_by_url_or_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b.sqlite");
    for url in
        [format!("sqlite:{}", path.display()), format!("sqlite://{}", path.display()), path.display().to_string()]
    {
        let store = open(&url, RedisOptions::default()).await.unwrap();
        store.create_run(&a_run("r", 1)).await.unwrap();
        assert_eq!(store.runs().await.unwrap().len(), 1, "{url}");
    }
    for url in ["postgres://localhost/db", "sqlite:", ""] {
        assert!(matches!(open(url, RedisOptions::default()).await, Err(StoreError::Refused(_))), "{url}");
    }
}
