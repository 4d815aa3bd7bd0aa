//! How the workers of this replica do. One whose tasks fail while those of others do not is quarantined: it gets no work for a
//! while, and its failures are not charged to the documents.
//!
//! Names are made up at will, and so are addresses by whoever has many. So while others do well, a worker's failures are charged
//! on what it has written itself, and what goes beyond that on one allowance, which all workers with the same token share: whatever
//! names and addresses the holder of a token uses, it has no more charged than that.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longhand_proto::WorkerId;

/// Time in quarantine; tallies are forgotten after as long without an attempt.
const QUARANTINE: Duration = Duration::from_secs(600);
/// An allowance is whole again after so long without a failure that went beyond what its worker has written.
const ALLOWANCE_RENEWED: Duration = Duration::from_secs(3_600);
/// Failures beyond what was written: after so many a worker is quarantined, and the allowance of its token is used up.
const ALLOWANCE: u32 = 8;
/// Tasks that a worker finishes for each failure that is charged in any case.
const TASKS_PER_FAILURE: u32 = 16;
/// Finished tasks of others, without which there is nothing to compare with.
const MIN_OTHERS: u32 = 8;
/// Failures beyond what was written are charged up to so many times the frequency of those of others.
const FAR_MORE: f64 = 4.0;
/// Workers that are remembered. Half of the places are for those that have finished something: they cannot be kept out by names.
const MAX_WORKERS: usize = 8_192;

/// A worker as far as its name is not made up: another caller of that name is another worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct WorkerKey {
    pub(super) worker: WorkerId,
    /// None where no token is required.
    pub(super) token: Option<blake3::Hash>,
    pub(super) address: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy)]
struct Tally {
    finished: u32,
    failed: u32,
    last: Instant,
    quarantined: Option<Instant>,
}

impl Tally {
    fn new(now: Instant) -> Self {
        Self { finished: 0, failed: 0, last: now, quarantined: None }
    }

    /// Whether its failures are few for what it has finished.
    fn is_sound(&self) -> bool {
        self.quarantined.is_none() && self.failed.saturating_mul(TASKS_PER_FAILURE) <= self.finished
    }
}

/// Failures that went beyond what their workers have written, of all workers with one token.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    used: u32,
    last: Instant,
}

/// Attempts by worker.
#[derive(Debug, Default)]
pub(super) struct WorkerHealth {
    /// A lock, as all results pass here; held for one look-up or, for a failure, one pass over the tallies.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tallies: HashMap<WorkerKey, Tally>,
    allowances: HashMap<Option<blake3::Hash>, Allowance>,
}

impl WorkerHealth {
    /// Whether there is room to remember this worker, which may have finished nothing yet.
    pub(super) fn admit(&self, key: &WorkerKey, now: Instant) -> bool {
        self.known().tally(key, MAX_WORKERS / 2, now).is_some()
    }

    /// Counts a finished task.
    pub(super) fn finished(&self, key: &WorkerKey, now: Instant) {
        if let Some(tally) = self.known().tally(key, MAX_WORKERS, now) {
            tally.finished = tally.finished.saturating_add(1);
        }
    }

    /// Counts a failed task; false if it is not to be charged.
    pub(super) fn failed(&self, key: &WorkerKey, now: Instant) -> bool {
        let mut known = self.known();
        let mut mine = known.tally(key, MAX_WORKERS / 2, now).map_or(Tally::new(now), |tally| *tally);
        mine.failed = mine.failed.saturating_add(1);
        let is_usual = mine.quarantined.is_none() && known.is_usual(key, mine);
        if !is_usual && mine.quarantined.is_none() && mine.failed > ALLOWANCE {
            mine.quarantined = Some(now);
            let Tally { failed, finished, .. } = mine;
            tracing::warn!(worker = %key.worker, address = ?key.address, failed, finished,
                "worker quarantined: its tasks fail far more often than those of others");
        }
        if let Some(tally) = known.tallies.get_mut(key) {
            *tally = mine;
        }
        is_usual || known.allow(key, now)
    }

    /// Whether it gets no work.
    pub(super) fn is_quarantined(&self, key: &WorkerKey, now: Instant) -> bool {
        let mut known = self.known();
        known.tallies.contains_key(key)
            && known.tally(key, MAX_WORKERS, now).is_some_and(|tally| tally.quarantined.is_some())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The tally of a worker; none if it is new and as many as `limit` are known.
    fn tally(&mut self, key: &WorkerKey, limit: usize, now: Instant) -> Option<&mut Tally> {
        if self.tallies.len() >= limit && !self.tallies.contains_key(key) {
            self.tallies.retain(|_, tally| now.duration_since(tally.last) < QUARANTINE);
            if self.tallies.len() >= limit {
                return None;
            }
        }
        let tally = self.tallies.entry(key.clone()).or_insert(Tally::new(now));
        let began = tally.quarantined.unwrap_or(tally.last);
        if now.duration_since(began) >= QUARANTINE {
            *tally = Tally::new(now);
        }
        tally.last = now;
        Some(tally)
    }

    /// Whether its failures are as frequent as its own work and that of others let expect.
    fn is_usual(&self, key: &WorkerKey, mine: Tally) -> bool {
        let others = |measure: fn(&Tally) -> bool| {
            let others = self.tallies.iter().filter(|(other, tally)| *other != key && measure(tally));
            others.fold((0_u32, 0_u32), |(finished, failed), (_, tally)| {
                (finished.saturating_add(tally.finished), failed.saturating_add(tally.failed))
            })
        };
        // Those that fail much are no measure, or many bad ones would excuse each other; unless all do.
        let (mut finished, mut failed) = others(Tally::is_sound);
        if finished < MIN_OTHERS {
            (finished, failed) = others(|tally| tally.quarantined.is_none() && tally.failed <= tally.finished);
        }
        let rate = |failed: u32, finished: u32| f64::from(failed) / (f64::from(failed) + f64::from(finished)).max(1.0);
        finished < MIN_OTHERS
            || mine.is_sound()
            || rate(mine.failed, mine.finished) <= FAR_MORE * rate(failed, finished)
    }

    /// Whether the allowance of this worker's token has room for one more failure.
    fn allow(&mut self, key: &WorkerKey, now: Instant) -> bool {
        self.allowances.retain(|_, allowance| now.duration_since(allowance.last) < ALLOWANCE_RENEWED);
        let allowance = self.allowances.entry(key.token).or_insert(Allowance { used: 0, last: now });
        allowance.last = now;
        if allowance.used >= ALLOWANCE {
            return false;
        }
        allowance.used += 1;
        if allowance.used == ALLOWANCE {
            tracing::warn!(worker = %key.worker, address = ?key.address, failures = ALLOWANCE,
                "workers with this token fail far more often than others: documents are charged for no more of it");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use longhand_proto::clock;

    use super::*;

    fn worker(name: &str) -> WorkerKey {
        WorkerKey { worker: name.parse().unwrap(), token: None, address: Some(IpAddr::from([10, 0, 0, 1])) }
    }

    fn of_token(token: &str, name: &str, address: u32) -> WorkerKey {
        WorkerKey {
            worker: name.parse().unwrap(),
            token: Some(blake3::hash(token.as_bytes())),
            address: Some(IpAddr::from(address.to_be_bytes())),
        }
    }

    /// Workers that have finished so many tasks in all.
    fn fleet(tasks: u32, now: Instant) -> WorkerHealth {
        let health = WorkerHealth::default();
        (0..tasks).for_each(|number| health.finished(&of_token("shared", &format!("good-{}", number % 4), 1), now));
        health
    }

    /// Failures that were charged, of so many.
    fn charged(health: &WorkerHealth, keys: impl Fn(u32) -> WorkerKey, count: u32, now: Instant) -> usize {
        (0..count).filter(|number| health.failed(&keys(*number), now)).count()
    }

    #[test]
    fn a_worker_that_fails_alone_is_quarantined_for_a_while() {
        let (health, now) = (fleet(100, clock::now()), clock::now());
        assert_eq!(charged(&health, |_| worker("bad"), 2_000, now), 8);
        let good = of_token("shared", "good-1", 1);
        assert!(health.is_quarantined(&worker("bad"), now) && !health.is_quarantined(&good, now));
        assert!(health.failed(&good, now), "a failure now and then is charged");
        assert!(!health.is_quarantined(&worker("bad"), now + QUARANTINE));
    }

    #[test]
    fn a_token_has_as_much_charged_under_many_names_and_addresses_as_under_one() {
        let now = clock::now();
        // The token that all share, or one of its own: names and addresses give nothing.
        for token in ["shared", "stolen"] {
            let key = |number: u32| of_token(token, &format!("new-{number}"), number);
            assert_eq!(charged(&fleet(100, now), key, 2_000, now), 8, "{token}");
            // One text under each name gives nothing either, in whatever order they fail.
            for names in [|number| number / 20, |number| number % 100] as [fn(u32) -> u32; 2] {
                let health = fleet(100, now);
                let key = |number| of_token(token, &format!("new-{}", names(number)), names(number));
                (0..100).for_each(|name| health.finished(&of_token(token, &format!("new-{name}"), name), now));
                assert_eq!(charged(&health, key, 2_000, now), 8, "{token}");
            }
            // Nor does time, as long as it goes on.
            let health = fleet(100, now);
            charged(&health, key, 100, now);
            let later = |number| now + Duration::from_secs(60 * u64::from(number));
            assert!(!(1..600).any(|number| {
                (0..10).for_each(|_| health.finished(&of_token("shared", "good-0", 1), later(number)));
                health.failed(&of_token(token, &format!("later-{number}"), number), later(number))
            }));
        }
    }

    #[test]
    fn a_name_is_not_spoilt_by_others_that_use_it() {
        let (health, now) = (fleet(100, clock::now()), clock::now());
        charged(&health, |_| of_token("shared", "good-1", 2), 100, now);
        charged(&health, |_| of_token("stolen", "good-1", 1), 100, now);
        let good = of_token("shared", "good-1", 1);
        assert!(!health.is_quarantined(&good, now) && health.failed(&good, now));
    }

    #[test]
    fn a_document_that_fails_everywhere_is_charged_while_an_attack_lasts() {
        let (health, now) = (fleet(1_000, clock::now()), clock::now());
        charged(&health, |number| of_token("shared", &format!("new-{number}"), number), 2_000, now);
        let good = |number: u32| of_token("shared", &format!("good-{}", number % 4), 1);
        assert_eq!(charged(&health, good, 12, now), 12);
    }

    #[test]
    fn where_all_fail_or_there_is_no_other_the_fault_is_not_the_workers() {
        let (health, now) = (WorkerHealth::default(), clock::now());
        assert_eq!(charged(&health, |_| worker("only"), 100, now), 100);
        (0..10).for_each(|_| health.finished(&worker("other"), now));
        assert_eq!(charged(&health, |_| worker("other"), 100, now), 100);
        // A fifth of all tasks fail, and half of a worker's.
        let health = fleet(400, now);
        assert_eq!(charged(&health, |number| of_token("shared", &format!("good-{}", number % 4), 1), 100, now), 100);
        (0..30).for_each(|_| health.finished(&worker("weak"), now));
        assert_eq!(charged(&health, |_| worker("weak"), 30, now), 30);
    }

    #[test]
    fn the_workers_that_are_remembered_are_bounded_and_names_do_not_keep_out_those_that_work() {
        let (health, now) = (WorkerHealth::default(), clock::now());
        let admitted = (0..10_000).filter(|number| health.admit(&worker(&format!("w-{number}")), now)).count();
        assert_eq!(admitted, MAX_WORKERS / 2);
        (0..20_000).for_each(|number| health.finished(&worker(&format!("w-{number}")), now));
        assert_eq!(health.known().tallies.len(), MAX_WORKERS);
        assert!(health.admit(&worker("next"), now + QUARANTINE));
    }
}
