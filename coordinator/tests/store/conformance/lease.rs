//! Leases: which worker may write a document.

use std::collections::HashSet;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Committed, CompareAndSwap, Lookup, NewDocument, Next, Renewal};
use longhand_proto::LeaseId;

use crate::fixture::*;

on_every_store!(
    a_stale_lease_changes_nothing,
    a_repeated_complete_is_answered_as_the_first_time,
    a_repeated_complete_still_finds_the_lease_it_was_given,
    a_worker_goes_on_with_the_document_that_it_has_in_its_cache,
    a_repeated_request_gives_the_leases_that_it_gave_before,
    a_repeated_request_finds_its_leases_over_several_runs,
    a_request_that_was_given_nothing_may_be_asked_again,
    a_request_sent_twice_at_once_is_served_once,
    workers_that_ask_together_never_share_a_document,
    open_documents_come_before_new_ones_and_old_runs_before_young_ones,
    an_expired_lease_lives_until_a_sweep_has_seen_it,
    a_lease_says_who_holds_it_and_until_when,
    a_document_of_500_kilobytes_comes_back_whole,
);

async fn a_stale_lease_changes_nothing(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (_, lost) = fixture.lease_one().await;
    fixture.pass(TTL);
    assert_eq!(fixture.sweep().await.len(), 1);
    let (_, live) = fixture.lease_one().await;
    let before = fixture.get(document(&run("r"), 0)).await;

    for next in [
        Next::Continue { lease: Some(LeaseId::mint()) },
        Next::Retry { delay_ms: 5 },
        Next::Release,
        ended(State::Accepted, ""),
    ] {
        let mut late = commit(lost, next);
        late.body = Some("the text of a worker that was too late".into());
        late.checkpoint = Some(checkpoint(&[6, 6, 6]));
        assert_eq!(fixture.store.commit(&late).await.unwrap(), Committed::Stale);
    }
    let late = Renewal { lease: lost, progress: 99, checkpoint: Some(checkpoint(&[6])), from: 0 };
    assert_eq!(fixture.store.renew(&[late], TTL).await.unwrap().lost, [lost]);
    assert_eq!(fixture.store.lookup(lost).await.unwrap(), Lookup::Stale);

    assert_eq!(fixture.get(before.id).await, before);
    assert_eq!(lease_of(&before), live);
    assert_eq!(fixture.store.attempts(before.id).await.unwrap().len(), 1);
}

async fn a_repeated_complete_is_answered_as_the_first_time(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    let mut done = commit(lease, ended(State::Accepted, ""));
    done.body = Some("as written".into());
    assert_eq!(fixture.store.commit(&done).await.unwrap(), Committed::Done(None));
    let after = fixture.get(record.id).await;

    done.body = Some("as written by the repetition".into());
    assert_eq!(fixture.store.commit(&done).await.unwrap(), Committed::Repeated(None));
    assert_eq!(fixture.get(record.id).await, after);
    assert_eq!(after.body, "as written");
    assert_eq!(fixture.store.attempts(record.id).await.unwrap().len(), 1, "one attempt, however often it is committed");
    assert_eq!(fixture.store.lookup(lease).await.unwrap(), Lookup::Committed(Box::new(after)));
}

async fn a_repeated_complete_still_finds_the_lease_it_was_given(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, first) = fixture.lease_one().await;
    let minted = LeaseId::mint();
    let committed = fixture.commit(first, Next::Continue { lease: Some(minted) }).await;
    let Committed::Done(Some(grant)) = committed else { panic!("{committed:?}") };
    assert_eq!(grant.id, minted);

    let late = Renewal { lease: first, progress: 9, checkpoint: Some(checkpoint(&[6])), from: 0 };
    assert_eq!(fixture.store.renew(&[late], TTL).await.unwrap().lost, [first], "a committed lease renews nothing");
    assert_eq!(fixture.get(record.id).await.lease.as_ref(), Some(&grant));
    assert_eq!(fixture.get(record.id).await.checkpoint, None);

    // The caller repeats with another fresh id, as a retry through another replica would.
    let again = Next::Continue { lease: Some(LeaseId::mint()) };
    assert_eq!(fixture.commit(first, again.clone()).await, Committed::Repeated(Some(grant)));
    fixture.pass(TTL);
    fixture.sweep().await;
    assert_eq!(fixture.commit(first, again.clone()).await, Committed::Repeated(None), "that lease is gone by now");
    let (_, second) = fixture.lease_one().await;
    fixture.commit(second, again.clone()).await;
    assert_eq!(fixture.commit(first, again).await, Committed::Stale, "only the last commit is remembered");
    assert_eq!(fixture.store.attempts(record.id).await.unwrap().len(), 3);
}

async fn a_worker_goes_on_with_the_document_that_it_has_in_its_cache(fixture: &Fixture) {
    fixture.run("r", 2).await;
    let (record, plan) = fixture.lease_one().await;
    let section = LeaseId::mint();
    let mut written = commit(plan, Next::Continue { lease: Some(section) });
    written.body = Some("with a plan".into());
    fixture.store.commit(&written).await.unwrap();

    let Lookup::Live(now) = fixture.store.lookup(section).await.unwrap() else { panic!("the next lease lives") };
    assert_eq!((now.id, now.body.as_str(), now.state), (record.id, "with a plan", State::Leased));
    assert_eq!(now.lease.as_ref().map(|grant| &grant.worker), Some(&worker("w")));
    // One that declines leaves the document to the next worker that asks.
    assert_eq!(fixture.commit(section, Next::Continue { lease: None }).await, Committed::Done(None));
    let (next, _) = fixture.lease_one().await;
    assert_eq!(next.id, record.id);
}

async fn a_repeated_request_gives_the_leases_that_it_gave_before(fixture: &Fixture) {
    fixture.run("r", 4).await;
    let first = fixture.lease("w", "q1", 2).await;
    assert_eq!(fixture.lease("w", "q1", 2).await, first, "the reply was lost, the leases were not");
    assert_eq!(fixture.lease("other", "q1", 1).await.len(), 1, "request ids are the worker's own");

    fixture.end(lease_of(&first[0]), State::Accepted).await;
    assert_eq!(fixture.lease("w", "q1", 2).await, first[1..], "what is no longer held is not returned, nor is more");
    let mut kept = LeaseId::mint();
    for left in [TTL / 2, TTL] {
        fixture.pass(left);
        kept = lease_of(&first[1]);
        fixture.store.renew(&[Renewal { lease: kept, progress: left, checkpoint: None, from: 0 }], TTL).await.unwrap();
    }
    assert_eq!(fixture.lease("w", "q1", 2).await.len(), 1, "forgotten after one time to live: a new request");
    assert_ne!(lease_of(&fixture.lease("w", "q1", 2).await[0]), kept);
}

async fn a_repeated_request_finds_its_leases_over_several_runs(fixture: &Fixture) {
    fixture.run("a", 1).await;
    fixture.run("b", 2).await;
    let first = fixture.lease("w", "q", 2).await;
    assert_eq!(ids(&first), [document(&run("a"), 0), document(&run("b"), 0)]);
    assert_eq!(fixture.lease("w", "q", 2).await, first);
    fixture.end(lease_of(&first[0]), State::Accepted).await;
    fixture.end(lease_of(&first[1]), State::Accepted).await;
    assert_eq!(fixture.lease("w", "q", 2).await, []);
    assert_eq!(fixture.lease("w", "q2", 2).await.len(), 1);
}

async fn a_request_that_was_given_nothing_may_be_asked_again(fixture: &Fixture) {
    assert_eq!(fixture.lease("w", "poll", 2).await, []);
    fixture.run("r", 1).await;
    assert_eq!(fixture.lease("w", "poll", 0).await, []);
    assert_eq!(fixture.lease("w", "poll", 2).await.len(), 1, "a long poll repeats one request");
}

async fn a_request_sent_twice_at_once_is_served_once(fixture: &Fixture) {
    fixture.run("r", 8).await;
    let (one, two) = tokio::join!(fixture.lease("w", "q", 3), fixture.lease("w", "q", 3));
    assert_eq!(one, two);
    assert_eq!(fixture.store.counts(&run("r")).await.unwrap().leased, 3);
}

async fn workers_that_ask_together_never_share_a_document(fixture: &Fixture) {
    let run = fixture.run("r", 60).await;
    let calls = (0..16).map(|number| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.lease(&query(&format!("w{number}"), "q", 5)).await.unwrap() })
    });
    let mut seen = HashSet::new();
    for call in calls.collect::<Vec<_>>() {
        for record in call.await.unwrap() {
            assert!(seen.insert(record.id), "{} was leased twice", record.id);
        }
    }
    assert_eq!(seen.len(), 60);
    assert_eq!(fixture.store.counts(&run).await.unwrap().leased, 60);
    fixture.assert_sound(&run).await;
}

async fn open_documents_come_before_new_ones_and_old_runs_before_young_ones(fixture: &Fixture) {
    let old = fixture.run("old", 0).await;
    let bad = NewDocument { failed: Some("bad_row".into()), ..new(&old, 0) };
    fixture.store.submit(&old, &[bad, new(&old, 1), new(&old, 2), new(&old, 3)]).await.unwrap();
    let leased = fixture.lease("w", "q1", 2).await;
    assert_eq!(ids(&leased), [document(&old, 1), document(&old, 2)]);
    let young = run("young");
    fixture.store.create_run(&a_run("young", 8)).await.unwrap();
    fixture.store.submit(&young, &[new(&young, 0)]).await.unwrap();
    fixture.commit(lease_of(&leased[1]), Next::Continue { lease: None }).await;
    fixture.commit(lease_of(&leased[0]), Next::Release).await;
    // The first row is fixed and requeued: new, though it was submitted first.
    let fixed = fixture.get(document(&old, 0)).await;
    let requeue = CompareAndSwap {
        document: fixed.id,
        version: fixed.version,
        state: State::Ready,
        reason: String::new(),
        judge: false,
        body: None,
    };
    fixture.store.swap(&requeue).await.unwrap();
    let leased = fixture.lease("w", "q2", 9).await;
    let order = [1, 2, 0, 3].map(|number| document(&old, number));
    assert_eq!(ids(&leased[..4]), order);
    assert_eq!(ids(&leased[4..]), [document(&young, 0)]);
}

async fn an_expired_lease_lives_until_a_sweep_has_seen_it(fixture: &Fixture) {
    fixture.run("r", 2).await;
    let (_, one) = fixture.lease_one().await;
    let (_, two) = fixture.lease_one().await;
    fixture.pass(3 * TTL);
    // Nobody else can hold the documents: workers continue after a coordinator was away.
    assert_eq!(
        fixture.store.renew(&[Renewal { lease: one, progress: 1, checkpoint: None, from: 0 }], TTL).await.unwrap().lost,
        []
    );
    fixture.end(two, State::Accepted).await;
    assert_eq!(fixture.sweep().await, []);
}

async fn a_lease_says_who_holds_it_and_until_when(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let asked = fixture.store.now_ms().await.unwrap();
    let (record, id) = fixture.lease_one().await;
    let answered = fixture.store.now_ms().await.unwrap();
    let grant = record.lease.clone().unwrap();
    assert!((asked..=answered).contains(&grant.granted_ms));
    assert_eq!(grant.expires_ms, grant.granted_ms + TTL);
    assert_eq!((grant.progress, grant.progress_ms), (0, grant.granted_ms));
    assert_eq!((record.state, record.open, record.version), (State::Leased, true, 2));

    fixture.pass(MINUTE);
    for (progress, seen) in [(5, 5), (3, 5), (u64::MAX, u64::MAX)] {
        fixture.store.renew(&[Renewal { lease: id, progress, checkpoint: None, from: 0 }], TTL).await.unwrap();
        let renewed = fixture.get(record.id).await.lease.unwrap();
        assert_eq!(renewed.progress, seen, "progress never shrinks");
        assert!(renewed.expires_ms >= grant.expires_ms + MINUTE);
        assert!(renewed.progress_ms >= grant.granted_ms + MINUTE);
    }
    assert_eq!(fixture.get(record.id).await.version, 2, "a heartbeat is no change of the document");
}

async fn a_document_of_500_kilobytes_comes_back_whole(fixture: &Fixture) {
    let run = fixture.run("r", 0).await;
    let body: String = "a long document, 很长的文章\n".chars().cycle().take(300_000).collect();
    assert!(body.len() > 400_000);
    let mut large = new(&run, 0);
    large.body.clone_from(&body);
    fixture.store.submit(&run, &[large.clone(), new(&run, 1)]).await.unwrap();
    let (record, lease) = fixture.lease_one().await;
    assert_eq!(record.body, body);
    let tokens: Vec<u32> = (0..8000).collect();
    let renewal = Renewal { lease, progress: 8000, checkpoint: Some(checkpoint(&tokens)), from: 0 };
    fixture.store.renew(&[renewal], TTL).await.unwrap();
    let record = fixture.get(large.id).await;
    assert_eq!((record.body, record.checkpoint), (body, Some(checkpoint(&tokens))));
}
