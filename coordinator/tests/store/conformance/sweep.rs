//! What happens to the documents of workers that died or hung.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Committed, Counters, Next, Renewal, SweepLimits};

use crate::fixture::*;

on_every_store!(
    a_sweep_takes_only_what_is_over_at_that_moment,
    two_sweepers_count_one_loss,
    errors_losses_and_releases_never_mix,
    a_document_that_kills_its_workers_fails_as_poison,
    a_lease_that_is_renewed_without_progress_is_taken_away,
    a_checkpoint_outlives_its_worker,
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
    fixture.store.renew(&[Renewal { lease: renewed, progress: 1, checkpoint: None }], TTL).await.unwrap();
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
        let renewal = Renewal { lease, progress: 1, checkpoint: Some(checkpoint(&[1])) };
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

async fn a_lease_that_is_renewed_without_progress_is_taken_away(fixture: &Fixture) {
    fixture.run("r", 2).await;
    let limits = SweepLimits { no_progress_ms: 3 * TTL, ..LIMITS };
    let (_, works) = fixture.lease_one().await;
    let (hung, hangs) = fixture.lease_one().await;
    for turn in 1..=6 {
        fixture.pass(TTL / 2);
        assert_eq!(fixture.store.sweep(&limits).await.unwrap().len(), usize::from(turn == 6));
        let renewals = [
            Renewal { lease: works, progress: turn, checkpoint: None },
            Renewal { lease: hangs, progress: 0, checkpoint: None },
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
    let renewal = |checkpoint| Renewal { lease, progress: 3, checkpoint };
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
