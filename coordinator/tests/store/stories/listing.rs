//! Finding documents again.

use longhand_coordinator::store::{Counts, Filter, State, StoreError};

use crate::bench::*;

const NONE: [u64; 0] = [];

on_every_store!(
    a_listing_goes_page_by_page_in_the_order_of_submission,
    documents_are_found_by_state_and_by_reason,
    a_reason_without_a_state_is_refused,
);

async fn a_listing_goes_page_by_page_in_the_order_of_submission(bench: &Bench) {
    let run = bench.run("r", 7).await;
    bench.run("other", 2).await;
    let mut after = None;
    let mut seen = Vec::new();
    for expected in [3, 3, 1] {
        let page = bench.store.list(&run, &Filter::default(), after, 3).await.unwrap();
        assert_eq!(page.records.len(), expected);
        assert_eq!(page.next.is_some(), expected == 3, "a next page is announced only if there is one");
        seen.extend(ids(&page.records));
        after = page.next;
    }
    assert_eq!(seen, (0..7).map(|number| document(&run, number)).collect::<Vec<_>>());
    let page = bench.store.list(&run, &Filter::default(), None, 7).await.unwrap();
    assert_eq!((page.records.len(), page.next), (7, None));
}

async fn documents_are_found_by_state_and_by_reason(bench: &Bench) {
    let run = bench.run("r", 6).await;
    let ends = [
        (State::Rejected, "too_short"),
        (State::Rejected, "refusal"),
        (State::Rejected, "too_short"),
        (State::Accepted, ""),
    ];
    for (state, reason) in ends {
        let (_, lease) = bench.lease_one().await;
        bench.commit(lease, ended(state, reason)).await;
    }
    bench.lease_one().await;
    let find = async |state, reason: Option<&str>| {
        let filter = Filter { state, reason: reason.map(str::to_owned) };
        let page = bench.store.list(&run, &filter, None, 10).await.unwrap();
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
    let counts = bench.store.counts(&run).await.unwrap();
    assert_eq!(counts, Counts { ready: 1, leased: 1, accepted: 1, rejected: 3, ..Counts::default() });

    let filter = Filter { state: Some(State::Rejected), reason: Some("too_short".into()) };
    let page = bench.store.list(&run, &filter, None, 1).await.unwrap();
    assert_eq!(page.next, Some(0));
    let page = bench.store.list(&run, &filter, page.next, 1).await.unwrap();
    assert_eq!((page.records[0].seq, page.next), (2, None));
}

async fn a_reason_without_a_state_is_refused(bench: &Bench) {
    let run = bench.run("r", 1).await;
    let filter = Filter { state: None, reason: Some("refusal".into()) };
    let error = bench.store.list(&run, &filter, None, 1).await.unwrap_err();
    assert!(matches!(&error, StoreError::Refused(text) if text.contains("name the state too")), "{error}");
}
