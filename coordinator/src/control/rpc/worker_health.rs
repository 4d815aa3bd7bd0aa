//! How the workers of this replica do. One whose tasks fail while those of others do not is quarantined: it gets no work for a
//! while, and its failures are not charged to the documents.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longhand_proto::WorkerId;

/// Time in quarantine; tallies are forgotten after as long without an attempt.
const QUARANTINE: Duration = Duration::from_secs(600);
/// Failures of a worker that are charged in any case.
const MIN_FAILURES: u32 = 8;
/// Finished tasks of others, without which there is nothing to compare with.
const MIN_OTHERS: u32 = 8;
/// Its failures must be that many times as frequent as those of others.
const FAR_MORE: f64 = 4.0;
/// Workers and addresses that are remembered; so many workers may report their status in that time.
const MAX_KEYS: usize = 8_192;

/// Whose attempts are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Worker(WorkerId),
    /// Workers at one address that have finished nothing yet: a name is made up at will.
    Unproven(IpAddr),
}

#[derive(Debug, Clone, Copy)]
struct Tally {
    finished: u32,
    failed: u32,
    last: Instant,
    quarantined: Option<Instant>,
}

/// Attempts by worker.
#[derive(Debug, Default)]
pub(super) struct WorkerHealth {
    /// A lock, as all results pass here; held for one look-up or, for a failure, one pass over the tallies.
    tallies: Mutex<HashMap<Key, Tally>>,
}

impl WorkerHealth {
    /// Whether there is room to remember this worker.
    pub(super) fn admit(&self, worker: &WorkerId, now: Instant) -> bool {
        let mut tallies = self.tallies();
        let key = Key::Worker(worker.clone());
        if tallies.len() >= MAX_KEYS && !tallies.contains_key(&key) {
            tallies.retain(|_, tally| now.duration_since(tally.last) < QUARANTINE);
            if tallies.len() >= MAX_KEYS {
                return false;
            }
        }
        tally(&mut tallies, key, now);
        true
    }

    /// Counts a finished task.
    pub(super) fn finished(&self, worker: &WorkerId, now: Instant) {
        if self.admit(worker, now) {
            tally(&mut self.tallies(), Key::Worker(worker.clone()), now).finished += 1;
        }
    }

    /// Counts a failed task; false if it is not to be charged.
    pub(super) fn failed(&self, worker: &WorkerId, address: Option<IpAddr>, now: Instant) -> bool {
        let key = Key::Worker(worker.clone());
        let is_remembered = self.admit(worker, now);
        let mut tallies = self.tallies();
        let is_proven = tallies.get(&key).is_some_and(|tally| tally.finished > 0);
        let unproven = address.filter(|_| !is_proven).map(|address| Key::Unproven(address.to_canonical()));
        let mut is_charged = true;
        for key in is_remembered.then_some(key).into_iter().chain(unproven) {
            let mut mine = *tally(&mut tallies, key.clone(), now);
            mine.failed += 1;
            if mine.quarantined.is_none() && is_outlier(&tallies, &key, mine) {
                mine.quarantined = Some(now);
                tracing::warn!(%worker, ?address, failed = mine.failed, finished = mine.finished,
                    "worker quarantined: its tasks fail far more often than those of others");
            }
            is_charged &= mine.quarantined.is_none();
            tallies.insert(key, mine);
        }
        is_charged
    }

    /// Whether it gets no work.
    pub(super) fn is_quarantined(&self, worker: &WorkerId, now: Instant) -> bool {
        let mut tallies = self.tallies();
        let key = Key::Worker(worker.clone());
        tallies.contains_key(&key) && tally(&mut tallies, key, now).quarantined.is_some()
    }

    fn tallies(&self) -> MutexGuard<'_, HashMap<Key, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tally(tallies: &mut HashMap<Key, Tally>, key: Key, now: Instant) -> &mut Tally {
    let fresh = Tally { finished: 0, failed: 0, last: now, quarantined: None };
    let tally = tallies.entry(key).or_insert(fresh);
    let began = tally.quarantined.unwrap_or(tally.last);
    if now.duration_since(began) >= QUARANTINE {
        *tally = fresh;
    }
    tally.last = now;
    tally
}

fn is_outlier(tallies: &HashMap<Key, Tally>, key: &Key, mine: Tally) -> bool {
    // Those in quarantine are no measure of what is usual.
    let others = tallies.iter().filter(|(other, tally)| {
        *other != key && matches!(other, Key::Worker(_)) && tally.quarantined.is_none() && tally.finished > 0
    });
    let (finished, failed) =
        others.fold((0, 0), |(finished, failed), (_, tally)| (finished + tally.finished, failed + tally.failed));
    let rate = |failed: u32, finished: u32| f64::from(failed) / f64::from((failed + finished).max(1));
    mine.failed > MIN_FAILURES
        && finished >= MIN_OTHERS
        && rate(mine.failed, mine.finished) > FAR_MORE * rate(failed, finished)
}

#[cfg(test)]
mod tests {
    use longhand_proto::clock;

    use super::*;

    fn worker(name: &str) -> WorkerId {
        name.parse().unwrap()
    }

    /// Failures that were charged, of so many.
    fn charged(health: &WorkerHealth, names: impl Fn(u32) -> String, count: u32, now: Instant) -> usize {
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        (0..count).filter(|number| health.failed(&worker(&names(*number)), address, now)).count()
    }

    #[test]
    fn a_worker_that_fails_alone_is_quarantined_for_a_while_under_whatever_name() {
        let (health, now) = (WorkerHealth::default(), clock::now());
        (0..20).for_each(|_| health.finished(&worker("good"), now));
        assert_eq!(charged(&health, |_| "bad".into(), 2_000, now), 8);
        assert!(health.is_quarantined(&worker("bad"), now) && !health.is_quarantined(&worker("good"), now));
        assert!(charged(&health, |number| format!("bad-{number}"), 2_000, now) <= 8, "names are made up at will");
        assert!(health.failed(&worker("good"), None, now), "a failure now and then is charged");
        assert!(!health.is_quarantined(&worker("bad"), now + QUARANTINE));
    }

    #[test]
    fn where_all_fail_or_there_is_no_other_the_fault_is_not_the_workers() {
        let (health, now) = (WorkerHealth::default(), clock::now());
        assert_eq!(charged(&health, |_| "only".into(), 100, now), 100);
        (0..10).for_each(|_| health.finished(&worker("other"), now));
        assert_eq!(charged(&health, |_| "other".into(), 100, now), 100);
    }

    #[test]
    fn the_workers_that_are_remembered_are_bounded() {
        let (health, now) = (WorkerHealth::default(), clock::now());
        let admitted = (0..10_000).filter(|number| health.admit(&worker(&format!("w-{number}")), now)).count();
        assert_eq!(admitted, MAX_KEYS);
        assert!(health.admit(&worker("next"), now + QUARANTINE));
    }
}
