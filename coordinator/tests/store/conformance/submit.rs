//! How runs and documents come to be.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{NewDocument, StoreError, Submitted};

use crate::fixture::*;

on_every_store!(
    a_run_is_what_it_was_when_it_was_first_created,
    submitting_a_file_twice_changes_nothing,
    a_bad_row_starts_as_failed_and_is_counted,
    nothing_is_submitted_to_a_run_that_does_not_exist,
);

async fn a_run_is_what_it_was_when_it_was_first_created(fixture: &Fixture) {
    let first = a_run("b", 20);
    assert_eq!(fixture.store.create_run(&first).await.unwrap(), first);
    let mut other = first.clone();
    other.recipe = "[other]".into();
    other.created_ms = 99;
    assert_eq!(fixture.store.create_run(&other).await.unwrap(), first);
    let older = fixture.store.create_run(&a_run("z", 10)).await.unwrap();
    let younger = fixture.store.create_run(&a_run("a", 20)).await.unwrap();
    assert_eq!(fixture.store.runs().await.unwrap(), [older, younger, first.clone()]);
    assert_eq!(fixture.store.run(&run("b")).await.unwrap(), Some(first));
    assert_eq!(fixture.store.run(&run("none")).await.unwrap(), None);
}

async fn submitting_a_file_twice_changes_nothing(fixture: &Fixture) {
    let run = fixture.run("r", 3).await;
    let (leased, _) = fixture.lease_one().await;
    let mut rows: Vec<NewDocument> = (0..5).map(|number| new(&run, number)).collect();
    rows[0].body = "another body under the same id".into();
    rows.push(rows[4].clone());
    let submitted = fixture.store.submit(&run, &rows).await.unwrap();
    assert_eq!(submitted, Submitted { inserted: 2, existing: 4 });
    assert_eq!(fixture.store.submit(&run, &rows).await.unwrap(), Submitted { inserted: 0, existing: 6 });
    assert_eq!(fixture.store.submit(&run, &[]).await.unwrap(), Submitted::default());

    let all = fixture.all(&run).await;
    assert_eq!(all.iter().map(|record| record.seq).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(all[0], leased);
    for (number, record) in all.iter().enumerate().skip(1) {
        assert_eq!((record.id, &record.body), (document(&run, number), &new(&run, number).body));
        assert_eq!((record.state, record.open, record.version), (State::Ready, false, 1));
    }
    fixture.assert_sound(&run).await;
}

async fn a_bad_row_starts_as_failed_and_is_counted(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let bad = NewDocument { failed: Some("bad_row".into()), ..new(&run, 1) };
    fixture.store.submit(&run, std::slice::from_ref(&bad)).await.unwrap();
    let record = fixture.get(bad.id).await;
    assert_eq!((record.state, record.reason.as_str(), &record.body), (State::Failed, "bad_row", &bad.body));
    let counts = fixture.store.counts(&run).await.unwrap();
    assert_eq!((counts.ready, counts.failed, counts.total()), (1, 1, 2));
    assert_eq!(fixture.lease("w", "q", 9).await.len(), 1);
    fixture.assert_sound(&run).await;
}

async fn nothing_is_submitted_to_a_run_that_does_not_exist(fixture: &Fixture) {
    let run = run("nowhere");
    let unknown = |error: StoreError| assert_eq!(error.to_string(), "no such run: nowhere");
    unknown(fixture.store.submit(&run, &[new(&run, 0)]).await.unwrap_err());
    unknown(fixture.store.submit(&run, &[]).await.unwrap_err());
    unknown(fixture.store.counts(&run).await.unwrap_err());
    unknown(fixture.store.list(&run, &Default::default(), None, 1).await.unwrap_err());
    unknown(fixture.store.unflushed(&run, 1).await.unwrap_err());
    unknown(fixture.store.mark_flushed(&run, &[]).await.unwrap_err());
    unknown(fixture.store.audit(&run, true).await.unwrap_err());
    assert_eq!(fixture.store.get(document(&run, 0)).await.unwrap(), None);
}
