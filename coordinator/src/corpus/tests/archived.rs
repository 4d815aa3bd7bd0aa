//! What the archive does with a run or a document that cannot be read.

use std::collections::BTreeMap;

use longhand_proto::RunId;

use super::super::{Archive, StorageLocation};
use super::{document, run, run_id};
use crate::domain::document::Document;
use crate::domain::language::Language;
use crate::domain::state::State;
use crate::store::{CompareAndSwap, DocumentStore, NewDocument, Run, RunStore, Source, SqliteStore};

/// Accepts a document with this body.
async fn accept(store: &SqliteStore, run: &RunId, document: &Document, body: String) {
    let new = NewDocument { id: document.id, body: body.clone(), failed: None };
    store.submit(run, &[new]).await.unwrap();
    let version = store.get(document.id).await.unwrap().unwrap().version;
    let accepted = CompareAndSwap {
        document: document.id,
        version,
        state: State::Accepted,
        reason: String::new(),
        judge: false,
        body: Some(body),
    };
    store.swap(&accepted).await.unwrap();
}

#[tokio::test]
async fn a_run_or_a_document_that_cannot_be_read_does_not_keep_the_others_from_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::in_memory(|| 1).unwrap();
    let broken = Run { id: "broken".parse().unwrap(), recipe: "[no such recipe".into(), ..run() };
    for run in [&broken, &Run { created_ms: 1, ..run() }] {
        store.create_run(run).await.unwrap();
    }
    let document = |number| document(number, Language::En, 2);
    // More than are read at once.
    for number in 0..super::super::flush::BATCH {
        accept(&store, &run_id(), &document(number), "not a document".into()).await;
    }
    let good: Vec<Document> = (1_000..1_003).map(document).collect();
    for document in &good {
        accept(&store, &run_id(), document, serde_json::to_string(document).unwrap()).await;
    }

    let archive = Archive::open(StorageLocation::open(dir.path().to_str().unwrap()).unwrap());
    let mut before = BTreeMap::new();
    assert_eq!(archive.flush_round(&store, &mut before, true).await.unwrap(), 3);
    assert_eq!(archive.flush_round(&store, &mut before, true).await.unwrap(), 0);
    let ids: Vec<_> = good.iter().map(|document| document.id).collect();
    assert_eq!(archive.find(&run_id(), &ids).await.unwrap().len(), 3);
    // Somebody else wrote into the archive: what was read once is not trusted.
    let shard =
        std::fs::read_dir(dir.path().join(run_id().as_str()).join("shards")).unwrap().next().unwrap().unwrap().path();
    let changed = std::fs::read_to_string(&shard).unwrap().replacen("ship", "shop", 1);
    std::fs::write(&shard, changed + "\n").unwrap();
    assert!(archive.find(&run_id(), &ids).await.unwrap_err().to_string().contains("damaged"));

    let left = store.unflushed(&run_id(), 1_000).await.unwrap();
    assert_eq!(left.len(), super::super::flush::BATCH as usize);
}

#[tokio::test]
async fn a_round_looks_at_active_runs_and_at_those_that_have_just_ended() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::in_memory(|| 1).unwrap();
    let archive = Archive::open(StorageLocation::open(dir.path().to_str().unwrap()).unwrap());
    let [ended, active] = ["ended", "active"].map(|id| Run { id: id.parse().unwrap(), ..run() });
    let add = async |run: &Run, number| {
        let document = Document { run: run.id.clone(), ..document(number, Language::En, 2) };
        accept(&store, &run.id, &document, serde_json::to_string(&document).unwrap()).await;
    };
    for run in [&ended, &active] {
        store.create_run(run).await.unwrap();
    }
    add(&ended, 1).await;
    let waiting = document(9, Language::En, 2).id;
    let new = NewDocument { id: waiting, body: "{}".into(), failed: None };
    store.submit(&active.id, &[new]).await.unwrap();
    add(&active, 2).await;
    let mut before = BTreeMap::new();
    assert_eq!(
        archive.flush_round(&store, &mut before, false).await.unwrap(),
        1,
        "the run that ended is not looked at"
    );
    assert_eq!(before.keys().collect::<Vec<_>>(), [&active.id]);
    add(&active, 3).await;
    let version = store.get(waiting).await.unwrap().unwrap().version;
    let cancel = CompareAndSwap {
        document: waiting,
        version,
        state: State::Cancelled,
        reason: "cancelled".into(),
        judge: false,
        body: None,
    };
    store.swap(&cancel).await.unwrap();
    assert!(store.active_runs().await.unwrap().is_empty());
    assert_eq!(archive.flush_round(&store, &mut before, false).await.unwrap(), 1, "it was active the last time");
    assert!(before.is_empty());
    assert_eq!(
        archive.flush_round(&store, &mut before, true).await.unwrap(),
        1,
        "a round over all runs finds the rest"
    );
}
