//! Runs whose documents have ended: out of the way, deleted, and brought back.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{CompareAndSwap, EndedDocument, Next, StoreError, SweepLimits};
use longhand_proto::RunId;

use crate::fixture::*;

on_every_store!(
    the_active_runs_are_those_with_unfinished_documents,
    the_latest_runs_come_first,
    a_run_is_deleted_with_all_that_belongs_to_it,
    a_run_with_a_live_lease_is_not_deleted,
    a_deleted_run_is_loaded_as_it_was,
);

async fn active(fixture: &Fixture) -> Vec<RunId> {
    // A sweep takes out what has ended.
    fixture.store.sweep(&SweepLimits { ..LIMITS }).await.unwrap();
    fixture.store.active_runs().await.unwrap().into_iter().map(|run| run.id).collect()
}

fn swap(record: &longhand_coordinator::store::Record, state: State) -> CompareAndSwap {
    let (document, version) = (record.id, record.version);
    CompareAndSwap { document, version, state, reason: String::new(), judge: false, body: None }
}

async fn the_active_runs_are_those_with_unfinished_documents(fixture: &Fixture) {
    let (one, two) = (fixture.run("one", 1).await, fixture.run("two", 1).await);
    fixture.run("empty", 0).await;
    assert_eq!(active(fixture).await, [one.clone(), two.clone()]);
    for _ in 0..2 {
        let (_, lease) = fixture.lease_one().await;
        assert_eq!(active(fixture).await.len(), 2, "a leased document has not ended");
        fixture.commit(lease, Next::Retry { delay_ms: 10 }).await;
        assert_eq!(active(fixture).await.len(), 2, "nor has a delayed one");
    }
    fixture.pass(SECOND);
    for left in [1, 0] {
        let (_, lease) = fixture.lease_one().await;
        fixture.end(lease, State::Accepted).await;
        assert_eq!(active(fixture).await.len(), left);
    }
    let record = fixture.all(&two).await.remove(0);
    fixture.store.swap(&swap(&record, State::Ready)).await.unwrap();
    assert_eq!(active(fixture).await, [two]);
    fixture.store.submit(&one, &[new(&one, 7)]).await.unwrap();
    assert_eq!(active(fixture).await.len(), 2);
    fixture.store.refresh_active().await.unwrap();
    assert_eq!(active(fixture).await.len(), 2);
}

async fn the_latest_runs_come_first(fixture: &Fixture) {
    for (name, created) in [("a", 10), ("b", 30), ("c", 20)] {
        fixture.store.create_run(&a_run(name, created)).await.unwrap();
    }
    let latest = fixture.store.latest_runs(2).await.unwrap();
    assert_eq!(latest.iter().map(|run| run.id.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(fixture.store.latest_runs(0).await.unwrap(), []);
}

async fn a_run_is_deleted_with_all_that_belongs_to_it(fixture: &Fixture) {
    let (gone, kept) = (fixture.run("gone", 3).await, fixture.run("kept", 2).await);
    let (record, lease) = fixture.lease_one().await;
    assert_eq!(record.run, gone);
    fixture.end(lease, State::Accepted).await;
    assert!(fixture.store.delete_run(&gone, 2).await.unwrap(), "one is left");
    assert!(!fixture.store.delete_run(&gone, 2).await.unwrap());
    assert!(!fixture.store.delete_run(&gone, 2).await.unwrap(), "again, as after a lost reply");
    assert_eq!(fixture.store.run(&gone).await.unwrap(), None);
    assert_eq!(fixture.store.get(record.id).await.unwrap(), None);
    assert!(matches!(fixture.store.counts(&gone).await, Err(StoreError::NotFound { .. })));
    assert_eq!(active(fixture).await, std::slice::from_ref(&kept));
    assert_eq!(fixture.store.counts(&kept).await.unwrap().ready, 2);
    fixture.assert_sound(&kept).await;
    let again = fixture.run("gone", 1).await;
    let documents = fixture.all(&again).await;
    assert_eq!((documents.len(), documents[0].seq, documents[0].version), (1, 0, 1));
    assert_eq!(fixture.store.attempts(documents[0].id).await.unwrap(), []);
    fixture.assert_sound(&again).await;
}

async fn a_run_with_a_live_lease_is_not_deleted(fixture: &Fixture) {
    let run = fixture.run("r", 2).await;
    let (_, lease) = fixture.lease_one().await;
    let refused = fixture.store.delete_run(&run, 10).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(why) if why.contains("leased")), "{refused}");
    assert_eq!(fixture.all(&run).await.len(), 2);
    fixture.commit(lease, Next::Release).await;
    assert!(!fixture.store.delete_run(&run, 10).await.unwrap());
}

async fn a_deleted_run_is_loaded_as_it_was(fixture: &Fixture) {
    let run = fixture.run("r", 3).await;
    let (first, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    fixture.store.mark_flushed(&run, &[first.id]).await.unwrap();
    let (second, lease) = fixture.lease_one().await;
    fixture.commit(lease, ended(State::Rejected, "too_short")).await;
    fixture.store.swap(&swap(&fixture.get(second.id).await, State::Ready)).await.unwrap();
    fixture.store.swap(&swap(&fixture.get(second.id).await, State::Cancelled)).await.unwrap();
    let third = fixture.all(&run).await.remove(2);
    fixture.store.swap(&swap(&third, State::Failed)).await.unwrap();

    let stored = fixture.store.run(&run).await.unwrap().unwrap();
    let whole = async |fixture: &Fixture| {
        let mut whole = Vec::new();
        for record in fixture.all(&run).await {
            let attempts = fixture.store.attempts(record.id).await.unwrap();
            let history = fixture.store.history(record.id).await.unwrap();
            whole.push(EndedDocument::of(&record, attempts, history).unwrap());
        }
        whole
    };
    let before = whole(fixture).await;
    assert_eq!((before[1].history.len(), before[0].attempts.len()), (1, 1));
    let counts = fixture.store.counts(&run).await.unwrap();
    assert!(!fixture.store.delete_run(&run, 10).await.unwrap());

    assert!(fixture.store.load(&run, &before).await.is_err(), "the run comes first");
    fixture.store.create_run(&stored).await.unwrap();
    assert_eq!(fixture.store.load(&run, &before[..2]).await.unwrap(), 2);
    assert_eq!(fixture.store.load(&run, &before).await.unwrap(), 1, "those that are there stay");
    assert_eq!(fixture.store.load(&run, &before).await.unwrap(), 0);
    assert_eq!(whole(fixture).await, before);
    assert_eq!(fixture.store.counts(&run).await.unwrap(), counts);
    assert_eq!(fixture.store.unflushed(&run, 9).await.unwrap(), []);
    assert_eq!(active(fixture).await, []);
    fixture.assert_sound(&run).await;
}
