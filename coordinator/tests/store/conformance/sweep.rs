//! What happens to the documents of workers that died or hung.

use std::collections::BTreeMap;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Committed, Counters, Next, Renewal, Renewed, SweepLimits};
use longhand_proto::LeaseId;
use longhand_proto::task::{Backtrack, BacktrackCause, Checkpoint};

use crate::fixture::*;

on_every_store!(
    a_sweep_takes_only_what_is_over_at_that_moment,
    two_sweepers_count_one_loss,
    errors_losses_and_releases_never_mix,
    a_document_that_kills_its_workers_fails_as_poison,
    a_run_may_bear_more_losses_than_others,
    a_lease_that_is_renewed_without_progress_is_taken_away,
    a_checkpoint_outlives_its_worker,
    tokens_are_appended_once_and_only_to_those_before_them,
    a_document_that_waits_out_its_back_off_comes_back,
    a_sweep_touches_no_more_than_its_batch,
);

async fn a_sweep_takes_only_what_is_over_at_that_moment(fixture: &Fixture) {
    let run = fixture.run("r", 3).await;
    let (_, renewed) = fixture.lease_one().await;
    let (_, completed) = fixture.lease_one().await;
    let (dead, lease) = fixture.lease_one().await;
    fixture.pass(TTL - MINUTE);
    assert_eq!(fixture.sweep().await, []);
    fixture.store.renew(&[Renewal { lease: renewed, progress: 1, checkpoint: None, from: 0 }], TTL).await.unwrap();
    fixture.end(completed, State::Accepted).await;
    fixture.pass(MINUTE);

    let swept = fixture.sweep().await;
    assert_eq!(swept.len(), 1);
    assert_eq!((swept[0].document, swept[0].state, &swept[0].run), (dead.id, State::Ready, &run));
    assert_eq!(Some(&swept[0].lease), dead.lease.as_ref());
    assert_eq!(fixture.sweep().await, []);
    let after = fixture.get(dead.id).await;
    assert_eq!((after.state, after.lease, after.counters.losses), (State::Ready, None, 1));
    let attempts = fixture.store.attempts(dead.id).await.unwrap();
    assert_eq!((attempts[0].lease, attempts[0].end), (lease, AttemptEnd::Lost));
    assert_eq!(attempts[0].detail, serde_json::json!({}));
    fixture.assert_sound(&run).await;
}

async fn two_sweepers_count_one_loss(fixture: &Fixture) {
    let run = fixture.run("r", 20).await;
    fixture.lease("w", "q", 20).await;
    fixture.pass(TTL);
    let (one, two) = tokio::join!(fixture.sweep(), fixture.sweep());
    assert_eq!(one.len() + two.len(), 20);
    for record in fixture.all(&run).await {
        assert_eq!(record.counters.losses, 1);
    }
}

async fn errors_losses_and_releases_never_mix(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let id = document(&run("r"), 0);
    let counters = |errors, losses, releases| Counters { errors, losses, releases };

    let (_, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Release).await;
    assert_eq!(fixture.get(id).await.counters, counters(0, 0, 1), "a worker that drains costs nothing");
    fixture.lease_one().await;
    fixture.pass(TTL);
    fixture.sweep().await;
    assert_eq!(fixture.get(id).await.counters, counters(0, 1, 1));
    let (_, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Retry { delay_ms: 0 }).await;
    assert_eq!(fixture.get(id).await.counters, counters(1, 1, 1));
    let (_, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Continue { lease: None }).await;
    assert_eq!(fixture.get(id).await.counters, counters(0, 0, 1), "the next task begins with a clean sheet");
    let (_, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Retry { delay_ms: 0 }).await;
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    assert_eq!(fixture.get(id).await.counters, counters(0, 0, 1));

    let ends: Vec<AttemptEnd> = fixture.store.attempts(id).await.unwrap().iter().map(|attempt| attempt.end).collect();
    use AttemptEnd::{Completed, Error, Lost, Released};
    assert_eq!(ends, [Released, Lost, Error, Completed, Error, Completed]);
}

async fn a_document_that_kills_its_workers_fails_as_poison(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    for loss in 1..=3 {
        let (record, lease) = fixture.lease_one().await;
        assert_eq!(record.counters.losses, loss - 1);
        let renewal = Renewal { lease, progress: 1, checkpoint: Some(checkpoint(&[1])), from: 0 };
        fixture.store.renew(&[renewal], TTL).await.unwrap();
        fixture.pass(TTL);
        fixture.sweep().await;
    }
    let poison = fixture.get(document(&run, 0)).await;
    assert_eq!((poison.state, poison.reason.as_str(), poison.checkpoint), (State::Failed, "poison", None));
    assert_eq!(fixture.lease("w", "q", 1).await, []);
    assert_eq!(fixture.store.attempts(poison.id).await.unwrap().len(), 3, "its history stays");
    fixture.assert_sound(&run).await;
}

async fn a_run_may_bear_more_losses_than_others(fixture: &Fixture) {
    let runs = [fixture.run("once", 1).await, fixture.run("thrice", 1).await];
    let limits = SweepLimits { max_losses_of: BTreeMap::from([(runs[0].clone(), 1)]), ..LIMITS };
    let states = async || {
        let ids = runs.each_ref().map(|run| document(run, 0));
        [fixture.get(ids[0]).await.state, fixture.get(ids[1]).await.state]
    };
    for after in [[State::Failed, State::Ready], [State::Failed, State::Ready], [State::Failed, State::Failed]] {
        fixture.lease("w", &LeaseId::mint().to_string(), 2).await;
        fixture.pass(TTL);
        fixture.store.sweep(&limits).await.unwrap();
        assert_eq!(states().await, after);
    }
}

async fn a_lease_that_is_renewed_without_progress_is_taken_away(fixture: &Fixture) {
    fixture.run("r", 2).await;
    let limits = SweepLimits { no_progress_ms: 3 * TTL, ..LIMITS };
    let (_, works) = fixture.lease_one().await;
    let (hung, hangs) = fixture.lease_one().await;
    for turn in 1..=6 {
        fixture.pass(TTL / 2);
        assert_eq!(fixture.store.sweep(&limits).await.unwrap().len(), usize::from(turn == 6));
        let renewals = [
            Renewal { lease: works, progress: turn, checkpoint: None, from: 0 },
            Renewal { lease: hangs, progress: 0, checkpoint: None, from: 0 },
        ];
        let gone = fixture.store.renew(&renewals, TTL).await.unwrap().lost;
        assert_eq!(gone.len(), usize::from(turn == 6));
    }
    assert_eq!(fixture.get(hung.id).await.counters.losses, 1);
    fixture.end(works, State::Accepted).await;
}

async fn a_checkpoint_outlives_its_worker(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    let renewal = |checkpoint| Renewal { lease, progress: 3, checkpoint, from: 0 };
    fixture.store.renew(&[renewal(Some(checkpoint(&[1, 2, 3])))], TTL).await.unwrap();
    fixture.store.renew(&[renewal(None)], TTL).await.unwrap();
    fixture.pass(TTL);
    fixture.sweep().await;
    let (again, lease) = fixture.lease_one().await;
    assert_eq!(again.checkpoint, Some(checkpoint(&[1, 2, 3])));

    fixture.commit(lease, Next::Release).await;
    assert_eq!(fixture.get(record.id).await.checkpoint, Some(checkpoint(&[1, 2, 3])), "a release without one keeps it");
    let (_, lease) = fixture.lease_one().await;
    let mut release = commit(lease, Next::Release);
    release.checkpoint = Some(checkpoint(&[1, 2, 3, 4]));
    fixture.store.commit(&release).await.unwrap();
    assert_eq!(fixture.get(record.id).await.checkpoint, Some(checkpoint(&[1, 2, 3, 4])));
    let (_, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Retry { delay_ms: 0 }).await;
    assert_eq!(fixture.get(record.id).await.checkpoint, None, "the tokens of an attempt that failed are thrown away");
}

async fn tokens_are_appended_once_and_only_to_those_before_them(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    let renew = async |from, tokens: &[u32], backtracks: &[Backtrack]| {
        let text = Checkpoint { backtracks: backtracks.to_vec(), ..checkpoint(tokens) };
        let renewed = fixture.store.renew(&[Renewal { lease, progress: 1, checkpoint: Some(text), from }], TTL).await;
        let renewed = renewed.unwrap();
        assert_eq!((renewed.lost, renewed.cancelled), (vec![], vec![]));
        assert!(renewed.unsaved.is_empty() || renewed.unsaved == [lease]);
        let stored = fixture.get(record.id).await.checkpoint.map(|it| it.tokens);
        (renewed.unsaved.is_empty(), stored.unwrap_or_default())
    };
    assert_eq!(renew(2, &[3], &[]).await, (false, vec![]), "nothing is stored yet");
    assert_eq!(renew(0, &[1, 12], &[]).await, (true, vec![1, 12]));
    assert_eq!(renew(1, &[2], &[]).await, (false, vec![1, 12]), "12 ends as 2 does");
    for _ in 0..2 {
        assert_eq!(renew(2, &[3, 4], &[]).await, (true, vec![1, 12, 3, 4]), "a call whose reply was lost is repeated");
    }
    assert_eq!(renew(2, &[5, 6], &[]).await, (false, vec![1, 12, 3, 4]), "other tokens");
    assert_eq!(renew(9, &[5], &[]).await, (false, vec![1, 12, 3, 4]), "a gap");
    let [first, second] = [(3, 4), (1, 12)].map(|(position, token)| Backtrack {
        position,
        token,
        discarded: 1,
        cause: BacktrackCause::Phrase,
    });
    assert_eq!(renew(4, &[5], &[first]).await, (false, vec![1, 12, 3, 4]), "its end was taken back meanwhile");
    assert_eq!(renew(0, &[1, 12, 3, 7], &[first]).await, (true, vec![1, 12, 3, 7]));
    assert_eq!(renew(4, &[8], &[first]).await, (true, vec![1, 12, 3, 7, 8]));
    assert_eq!(renew(5, &[9], &[first, second]).await.1, [1, 12, 3, 7, 8]);
    assert_eq!(renew(5, &[], &[first]).await, (true, vec![1, 12, 3, 7, 8]));
    let whole: Vec<u32> = (0..100_000).collect();
    assert!(renew(0, &whole[..99_998], &[]).await.0);
    assert_eq!(renew(99_998, &whole[99_998..], &[]).await, (true, whole));

    // A release stores a whole text; the next worker begins with one, too, as it does not know who wrote this.
    let mut release = commit(lease, Next::Release);
    release.checkpoint = Some(checkpoint(&[1, 2]));
    fixture.store.commit(&release).await.unwrap();
    let (again, lease) = fixture.lease_one().await;
    assert_eq!(again.checkpoint, Some(checkpoint(&[1, 2])));
    let whole = Renewal { lease, progress: 1, checkpoint: Some(checkpoint(&[1, 2, 3])), from: 0 };
    let later = Renewal { lease, progress: 2, checkpoint: Some(checkpoint(&[4])), from: 3 };
    assert_eq!(fixture.store.renew(&[whole, later], TTL).await.unwrap(), Renewed::default());
    assert_eq!(fixture.get(record.id).await.checkpoint, Some(checkpoint(&[1, 2, 3, 4])));
    fixture.pass(TTL);
    fixture.sweep().await;
    let late = Renewal { lease, progress: 3, checkpoint: Some(checkpoint(&[5])), from: 4 };
    assert_eq!(fixture.store.renew(&[late], TTL).await.unwrap().lost, [lease]);
    assert_eq!(fixture.get(record.id).await.checkpoint, Some(checkpoint(&[1, 2, 3, 4])), "of a lost lease");
}

async fn a_document_that_waits_out_its_back_off_comes_back(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Retry { delay_ms: 5 * MINUTE }).await;
    let waiting = fixture.get(record.id).await;
    let now = fixture.store.now_ms().await.unwrap();
    assert_eq!(waiting.state, State::Delayed);
    assert!(waiting.due_ms > now && waiting.due_ms <= now + 5 * MINUTE);
    fixture.pass(4 * MINUTE);
    assert_eq!(fixture.lease("w", "q", 1).await, []);
    assert_eq!(fixture.store.counts(&run).await.unwrap().delayed, 1);
    fixture.pass(MINUTE);
    let (again, lease) = fixture.lease_one().await;
    assert_eq!((again.id, again.due_ms), (record.id, 0));
    assert!(matches!(fixture.commit(lease, ended(State::Accepted, "")).await, Committed::Done(None)));
    fixture.assert_sound(&run).await;
}

async fn a_sweep_touches_no_more_than_its_batch(fixture: &Fixture) {
    fixture.run("a", 4).await;
    fixture.run("b", 4).await;
    assert_eq!(fixture.lease("w", "q", 8).await.len(), 8);
    fixture.pass(TTL);
    let limits = SweepLimits { batch: 3, ..LIMITS };
    let mut left = [3, 3, 2, 0].into_iter();
    for expected in left.by_ref() {
        assert_eq!(fixture.store.sweep(&limits).await.unwrap().len(), expected);
    }
}
