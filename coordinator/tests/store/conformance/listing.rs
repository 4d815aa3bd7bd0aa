//! Finding documents again.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Counts, Filter, Renewal, StoreError};

use crate::fixture::*;

const NONE: [u64; 0] = [];

on_every_store!(
    a_listing_goes_page_by_page_in_the_order_of_submission,
    documents_are_found_by_state_and_by_reason,
    a_reason_without_a_state_is_refused,
    who_follows_the_changes_misses_none_and_sees_each_document_once,
);

async fn a_listing_goes_page_by_page_in_the_order_of_submission(fixture: &Fixture) {
    let run = fixture.run("r", 7).await;
    fixture.run("other", 2).await;
    let mut after = None;
    let mut seen = Vec::new();
    for expected in [3, 3, 1] {
        let page = fixture.store.list(&run, &Filter::default(), after, 3).await.unwrap();
        assert_eq!(page.records.len(), expected);
        assert_eq!(page.next.is_some(), expected == 3, "a next page is announced only if there is one");
        seen.extend(ids(&page.records));
        after = page.next;
    }
    assert_eq!(seen, (0..7).map(|number| document(&run, number)).collect::<Vec<_>>());
    let page = fixture.store.list(&run, &Filter::default(), None, 7).await.unwrap();
    assert_eq!((page.records.len(), page.next), (7, None));
}

async fn documents_are_found_by_state_and_by_reason(fixture: &Fixture) {
    let run = fixture.run("r", 6).await;
    let ends = [
        (State::Rejected, "too_short"),
        (State::Rejected, "refusal"),
        (State::Rejected, "too_short"),
        (State::Accepted, ""),
    ];
    for (state, reason) in ends {
        let (_, lease) = fixture.lease_one().await;
        fixture.commit(lease, ended(state, reason)).await;
    }
    fixture.lease_one().await;
    let find = async |state, reason: Option<&str>| {
        let filter = Filter { state, reason: reason.map(str::to_owned) };
        let page = fixture.store.list(&run, &filter, None, 10).await.unwrap();
        page.records.iter().map(|record| record.seq).collect::<Vec<u64>>()
    };
    assert_eq!(find(Some(State::Rejected), None).await, [0, 1, 2]);
    assert_eq!(find(Some(State::Rejected), Some("too_short")).await, [0, 2]);
    assert_eq!(find(Some(State::Rejected), Some("")).await, NONE);
    assert_eq!(find(Some(State::Accepted), Some("")).await, [3]);
    assert_eq!(find(Some(State::Leased), None).await, [4]);
    assert_eq!(find(Some(State::Leased), Some("")).await, [4]);
    assert_eq!(find(Some(State::Ready), Some("too_short")).await, NONE);
    assert_eq!(find(Some(State::Failed), None).await, NONE);
    assert_eq!(find(None, None).await, [0, 1, 2, 3, 4, 5]);
    let counts = fixture.store.counts(&run).await.unwrap();
    assert_eq!(counts, Counts { ready: 1, leased: 1, accepted: 1, rejected: 3, ..Counts::default() });

    let filter = Filter { state: Some(State::Rejected), reason: Some("too_short".into()) };
    let page = fixture.store.list(&run, &filter, None, 1).await.unwrap();
    assert_eq!(page.next, Some(0));
    let page = fixture.store.list(&run, &filter, page.next, 1).await.unwrap();
    assert_eq!((page.records[0].seq, page.next), (2, None));
}

async fn a_reason_without_a_state_is_refused(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let filter = Filter { state: None, reason: Some("refusal".into()) };
    let error = fixture.store.list(&run, &filter, None, 1).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("name the state too")), "{error}");
}

async fn who_follows_the_changes_misses_none_and_sees_each_document_once(fixture: &Fixture) {
    let run = fixture.run("r", 5).await;
    let other = fixture.run("other", 2).await;
    fixture.store.pause(&other, true).await.unwrap();
    let follow = async |after: u64| {
        let records = fixture.store.changed(&run, after, 100).await.unwrap();
        (
            records.iter().map(|record| record.seq).collect::<Vec<u64>>(),
            records.last().map_or(after, |last| last.change_seq),
        )
    };
    let (seen, latest) = follow(0).await;
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(follow(latest).await, (vec![], latest));

    // Leased and committed count as changes, a renewal does not: nothing of a document but its lease's times moves.
    let (_, first) = fixture.lease_one().await;
    let (_, second) = fixture.lease_one().await;
    let (seen, latest) = follow(latest).await;
    assert_eq!(seen, [0, 1]);
    let renewal = Renewal { lease: first, progress: 1, checkpoint: None, from: 0 };
    assert_eq!(fixture.store.renew(&[renewal], 60_000).await.unwrap().lost, []);
    assert_eq!(follow(latest).await, (vec![], latest));
    fixture.commit(second, ended(State::Accepted, "")).await;
    fixture.commit(first, ended(State::Rejected, "refusal")).await;
    let (accepted, after) = (document(&run, 1), latest);
    fixture.store.mark_flushed(&run, &[accepted]).await.unwrap();
    let (seen, _) = follow(after).await;
    assert_eq!(seen, [0, 1], "once each, in the order of the latest change");

    let page = fixture.store.changed(&run, after, 1).await.unwrap();
    let rest = fixture.store.changed(&run, page[0].change_seq, 1).await.unwrap();
    assert_eq!((page[0].seq, rest[0].seq), (0, 1), "page by page");
    let now = fixture.store.now_ms().await.unwrap();
    assert!(rest[0].changed_ms > 0 && rest[0].changed_ms <= now, "{} at {now}", rest[0].changed_ms);
    assert_eq!(fixture.store.audit(&run, false).await.unwrap().mismatches, Vec::<String>::new());
}
