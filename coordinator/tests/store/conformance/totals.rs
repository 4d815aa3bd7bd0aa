//! The totals that somebody counted.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::StoreError;

use crate::fixture::*;

on_every_store!(totals_are_kept_replaced_and_deleted_with_their_run, the_latest_change_is_that_of_a_document,);

async fn totals_are_kept_replaced_and_deleted_with_their_run(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    assert_eq!(fixture.store.totals(&run).await.unwrap(), None);
    for json in ["{\"words\": 1}", "{\"words\": 2}"] {
        fixture.store.set_totals(&run, json).await.unwrap();
        assert_eq!(fixture.store.totals(&run).await.unwrap().as_deref(), Some(json));
    }
    while fixture.store.delete_run(&run, 9).await.unwrap() {}
    assert!(matches!(fixture.store.totals(&run).await, Err(StoreError::NotFound { kind: "run", .. })));
    assert!(matches!(fixture.store.set_totals(&run, "{}").await, Err(StoreError::NotFound { kind: "run", .. })));
    fixture.run("r", 1).await;
    assert_eq!(fixture.store.totals(&run).await.unwrap(), None);
}

async fn the_latest_change_is_that_of_a_document(fixture: &Fixture) {
    let run = fixture.run("r", 2).await;
    let latest = async || {
        let latest = fixture.store.latest_change(&run).await.unwrap();
        let changed = fixture.store.changed(&run, 0, 9).await.unwrap();
        assert_eq!(changed.last().unwrap().change_seq, latest);
        latest
    };
    let before = latest().await;
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    assert!(latest().await > before);
    let empty = fixture.run("empty", 0).await;
    assert_eq!(fixture.store.latest_change(&empty).await.unwrap(), 0);
}
