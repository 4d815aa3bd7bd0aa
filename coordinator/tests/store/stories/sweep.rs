//! What happens to the documents of workers that died or hung.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Committed, Counters, Next, Renewal, SweepLimits};

use crate::bench::*;

on_every_store!(
    a_sweep_takes_only_what_is_over_at_that_moment,
    two_sweepers_count_one_loss,
    errors_losses_and_releases_never_mix,
    a_document_that_kills_its_workers_fails_as_poison,
    a_lease_that_is_renewed_without_progress_is_taken_away,
    what_a_dead_worker_had_handed_in_is_not_lost,
    a_document_that_waits_out_its_back_off_comes_back,
    a_sweep_touches_no_more_than_its_batch,
);

async fn a_sweep_takes_only_what_is_over_at_that_moment(bench: &Bench) {
    let run = bench.run("r", 3).await;
    let (_, renewed) = bench.lease_one().await;
    let (_, completed) = bench.lease_one().await;
    let (dead, lease) = bench.lease_one().await;
    bench.pass(TTL - MINUTE);
    assert_eq!(bench.sweep().await, []);
    bench.store.renew(&[Renewal { lease: renewed, progress: 1, checkpoint: None }], TTL).await.unwrap();
    bench.end(completed, State::Accepted).await;
    bench.pass(MINUTE);

    let swept = bench.sweep().await;
    assert_eq!(swept.len(), 1);
    assert_eq!((swept[0].document, swept[0].state, &swept[0].run), (dead.id, State::Ready, &run));
    assert_eq!(Some(&swept[0].lease), dead.lease.as_ref());
    assert_eq!(bench.sweep().await, []);
    let after = bench.get(dead.id).await;
    assert_eq!((after.state, after.lease, after.counters.losses), (State::Ready, None, 1));
    let attempts = bench.store.attempts(dead.id).await.unwrap();
    assert_eq!((attempts[0].lease, attempts[0].end), (lease, AttemptEnd::Lost));
    assert_eq!(attempts[0].detail, serde_json::json!({}));
    bench.assert_sound(&run).await;
}

async fn two_sweepers_count_one_loss(bench: &Bench) {
    let run = bench.run("r", 20).await;
    bench.lease("w", "q", 20).await;
    bench.pass(TTL);
    let (one, two) = tokio::join!(bench.sweep(), bench.sweep());
    assert_eq!(one.len() + two.len(), 20);
    for record in bench.all(&run).await {
        assert_eq!(record.counters.losses, 1);
    }
}

async fn errors_losses_and_releases_never_mix(bench: &Bench) {
    bench.run("r", 1).await;
    let id = document(&run("r"), 0);
    let counters = |errors, losses, releases| Counters { errors, losses, releases };

    let (_, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Release).await;
    assert_eq!(bench.get(id).await.counters, counters(0, 0, 1), "a worker that drains costs nothing");
    bench.lease_one().await;
    bench.pass(TTL);
    bench.sweep().await;
    assert_eq!(bench.get(id).await.counters, counters(0, 1, 1));
    let (_, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Retry { delay_ms: 0 }).await;
    assert_eq!(bench.get(id).await.counters, counters(1, 1, 1));
    let (_, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Continue { lease: None }).await;
    assert_eq!(bench.get(id).await.counters, counters(0, 0, 1), "the next task begins with a clean sheet");
    let (_, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Retry { delay_ms: 0 }).await;
    let (_, lease) = bench.lease_one().await;
    bench.end(lease, State::Accepted).await;
    assert_eq!(bench.get(id).await.counters, counters(0, 0, 1));

    let ends: Vec<AttemptEnd> = bench.store.attempts(id).await.unwrap().iter().map(|attempt| attempt.end).collect();
    use AttemptEnd::{Completed, Error, Lost, Released};
    assert_eq!(ends, [Released, Lost, Error, Completed, Error, Completed]);
}

async fn a_document_that_kills_its_workers_fails_as_poison(bench: &Bench) {
    let run = bench.run("r", 1).await;
    for loss in 1..=3 {
        let (record, lease) = bench.lease_one().await;
        assert_eq!(record.counters.losses, loss - 1);
        let renewal = Renewal { lease, progress: 1, checkpoint: Some(checkpoint(&[1])) };
        bench.store.renew(&[renewal], TTL).await.unwrap();
        bench.pass(TTL);
        bench.sweep().await;
    }
    let poison = bench.get(document(&run, 0)).await;
    assert_eq!((poison.state, poison.reason.as_str(), poison.checkpoint), (State::Failed, "poison", None));
    assert_eq!(bench.lease("w", "q", 1).await, []);
    assert_eq!(bench.store.attempts(poison.id).await.unwrap().len(), 3, "its history stays");
    bench.assert_sound(&run).await;
}

async fn a_lease_that_is_renewed_without_progress_is_taken_away(bench: &Bench) {
    bench.run("r", 2).await;
    let limits = SweepLimits { no_progress_ms: 3 * TTL, ..LIMITS };
    let (_, works) = bench.lease_one().await;
    let (hung, hangs) = bench.lease_one().await;
    for turn in 1..=6 {
        bench.pass(TTL / 2);
        assert_eq!(bench.store.sweep(&limits).await.unwrap().len(), usize::from(turn == 6));
        let renewals = [
            Renewal { lease: works, progress: turn, checkpoint: None },
            Renewal { lease: hangs, progress: 0, checkpoint: None },
        ];
        let gone = bench.store.renew(&renewals, TTL).await.unwrap();
        assert_eq!(gone.len(), usize::from(turn == 6));
    }
    assert_eq!(bench.get(hung.id).await.counters.losses, 1);
    bench.end(works, State::Accepted).await;
}

async fn what_a_dead_worker_had_handed_in_is_not_lost(bench: &Bench) {
    bench.run("r", 1).await;
    let (record, lease) = bench.lease_one().await;
    let renewal = |checkpoint| Renewal { lease, progress: 3, checkpoint };
    bench.store.renew(&[renewal(Some(checkpoint(&[1, 2, 3])))], TTL).await.unwrap();
    bench.store.renew(&[renewal(None)], TTL).await.unwrap();
    bench.pass(TTL);
    bench.sweep().await;
    let (again, lease) = bench.lease_one().await;
    assert_eq!(again.checkpoint, Some(checkpoint(&[1, 2, 3])));

    bench.commit(lease, Next::Release).await;
    assert_eq!(bench.get(record.id).await.checkpoint, Some(checkpoint(&[1, 2, 3])), "a release without one keeps it");
    let (_, lease) = bench.lease_one().await;
    let mut release = commit(lease, Next::Release);
    release.checkpoint = Some(checkpoint(&[1, 2, 3, 4]));
    bench.store.commit(&release).await.unwrap();
    assert_eq!(bench.get(record.id).await.checkpoint, Some(checkpoint(&[1, 2, 3, 4])));
    let (_, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Retry { delay_ms: 0 }).await;
    assert_eq!(bench.get(record.id).await.checkpoint, None, "the tokens of an attempt that failed are thrown away");
}

async fn a_document_that_waits_out_its_back_off_comes_back(bench: &Bench) {
    let run = bench.run("r", 1).await;
    let (record, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Retry { delay_ms: 5 * MINUTE }).await;
    let waiting = bench.get(record.id).await;
    let now = bench.store.now_ms().await.unwrap();
    assert_eq!(waiting.state, State::Delayed);
    assert!(waiting.due_ms > now && waiting.due_ms <= now + 5 * MINUTE);
    bench.pass(4 * MINUTE);
    assert_eq!(bench.lease("w", "q", 1).await, []);
    assert_eq!(bench.store.counts(&run).await.unwrap().delayed, 1);
    bench.pass(MINUTE);
    let (again, lease) = bench.lease_one().await;
    assert_eq!((again.id, again.due_ms), (record.id, 0));
    assert!(matches!(bench.commit(lease, ended(State::Accepted, "")).await, Committed::Done(None)));
    bench.assert_sound(&run).await;
}

async fn a_sweep_touches_no_more_than_its_batch(bench: &Bench) {
    bench.run("a", 4).await;
    bench.run("b", 4).await;
    assert_eq!(bench.lease("w", "q", 8).await.len(), 8);
    bench.pass(TTL);
    let limits = SweepLimits { batch: 3, ..LIMITS };
    let mut left = [3, 3, 2, 0].into_iter();
    for expected in left.by_ref() {
        assert_eq!(bench.store.sweep(&limits).await.unwrap().len(), expected);
    }
}
