//! How runs and documents come to be.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{NewDocument, StoreError, Submitted};

use crate::bench::*;

on_every_store!(
    a_run_is_what_it_was_when_it_was_first_created,
    submitting_a_file_twice_changes_nothing,
    a_bad_row_starts_as_failed_and_is_counted,
    nothing_is_submitted_to_a_run_that_does_not_exist,
);

async fn a_run_is_what_it_was_when_it_was_first_created(bench: &Bench) {
    let first = a_run("b", 20);
    assert_eq!(bench.store.create_run(&first).await.unwrap(), first);
    let mut other = first.clone();
    other.recipe = "[other]".into();
    other.created_ms = 99;
    assert_eq!(bench.store.create_run(&other).await.unwrap(), first);
    let older = bench.store.create_run(&a_run("z", 10)).await.unwrap();
    let twin = bench.store.create_run(&a_run("a", 20)).await.unwrap();
    assert_eq!(bench.store.runs().await.unwrap(), [older, twin, first.clone()]);
    assert_eq!(bench.store.run(&run("b")).await.unwrap(), Some(first));
    assert_eq!(bench.store.run(&run("none")).await.unwrap(), None);
}

async fn submitting_a_file_twice_changes_nothing(bench: &Bench) {
    let run = bench.run("r", 3).await;
    let (leased, _) = bench.lease_one().await;
    let mut rows: Vec<NewDocument> = (0..5).map(|number| new(&run, number)).collect();
    rows[0].body = "another body under the same id".into();
    rows.push(rows[4].clone());
    let submitted = bench.store.submit(&run, &rows).await.unwrap();
    assert_eq!(submitted, Submitted { inserted: 2, existing: 4 });
    assert_eq!(bench.store.submit(&run, &rows).await.unwrap(), Submitted { inserted: 0, existing: 6 });
    assert_eq!(bench.store.submit(&run, &[]).await.unwrap(), Submitted::default());

    let all = bench.all(&run).await;
    assert_eq!(all.iter().map(|record| record.seq).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(all[0], leased);
    for (number, record) in all.iter().enumerate().skip(1) {
        assert_eq!((record.id, &record.body), (document(&run, number), &new(&run, number).body));
        assert_eq!((record.state, record.open, record.version), (State::Ready, false, 1));
    }
    bench.assert_sound(&run).await;
}

async fn a_bad_row_starts_as_failed_and_is_counted(bench: &Bench) {
    let run = bench.run("r", 1).await;
    let bad = NewDocument { failed: Some("bad_row".into()), ..new(&run, 1) };
    bench.store.submit(&run, std::slice::from_ref(&bad)).await.unwrap();
    let record = bench.get(bad.id).await;
    assert_eq!((record.state, record.reason.as_str(), &record.body), (State::Failed, "bad_row", &bad.body));
    let counts = bench.store.counts(&run).await.unwrap();
    assert_eq!((counts.ready, counts.failed, counts.total()), (1, 1, 2));
    assert_eq!(bench.lease("w", "q", 9).await.len(), 1);
    bench.assert_sound(&run).await;
}

async fn nothing_is_submitted_to_a_run_that_does_not_exist(bench: &Bench) {
    let run = run("nowhere");
    let unknown = |error: StoreError| assert_eq!(error.to_string(), "no such run: nowhere");
    unknown(bench.store.submit(&run, &[new(&run, 0)]).await.unwrap_err());
    unknown(bench.store.submit(&run, &[]).await.unwrap_err());
    unknown(bench.store.counts(&run).await.unwrap_err());
    unknown(bench.store.list(&run, &Default::default(), None, 1).await.unwrap_err());
    unknown(bench.store.unflushed(&run, 1).await.unwrap_err());
    unknown(bench.store.mark_flushed(&run, &[]).await.unwrap_err());
    unknown(bench.store.audit(&run, true).await.unwrap_err());
    assert_eq!(bench.store.get(document(&run, 0)).await.unwrap(), None);
}
