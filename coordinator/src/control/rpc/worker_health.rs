//! How the workers of this replica do. One whose tasks fail while those of others do not is quarantined: it gets no work for a
//! while, and its failures are not charged to the documents.
//!
//! Names are made up at will, and so are addresses by whoever has many. So while others do well, a worker's failures are charged
//! on what it has written itself, and what goes beyond that on one allowance, which all workers with the same token share: whatever
//! names and addresses the holder of a token uses, it has no more charged than that.
//!
//! A replica counts what it sees itself. Where that is nothing to compare with, it takes what workers of other replicas report:
//! what is made up there only lets fewer failures be charged.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use longhand_proto::{WorkerId, clock};

use crate::store::WorkerRecord;

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
/// Time after which the reports of workers are read again.
const REPORTS_RENEWED: Duration = Duration::from_secs(10);
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
        self.quarantined.is_none() && is_sound(self.finished, self.failed)
    }
}

fn is_sound(finished: u32, failed: u32) -> bool {
    failed.saturating_mul(TASKS_PER_FAILURE) <= finished
}

/// Failures that went beyond what their workers have written, of all workers with one token.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    used: u32,
    last: Instant,
}

/// What a worker says it has done. It may be at another replica.
#[derive(Debug)]
struct Reported {
    worker: WorkerId,
    finished: u32,
    failed: u32,
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
    /// Of workers whose failures are few, and when they were read.
    reports: Option<(Instant, Vec<Reported>)>,
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

    /// Whether the reports of workers are to be read before the next failure is counted.
    pub(super) fn wants_reports(&self, now: Instant) -> bool {
        let known = self.known();
        known.reports.as_ref().is_none_or(|(read, _)| now.duration_since(*read) >= REPORTS_RENEWED)
    }

    /// Takes the reports of workers that lived not longer than `silence` ago.
    pub(super) fn note_reports(&self, workers: &[WorkerRecord], silence: Duration, now: Instant) {
        let since_ms = clock::unix_ms().saturating_sub(silence.as_millis() as u64);
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let reported = workers.iter().filter(|worker| worker.seen_ms >= since_ms).map(|worker| Reported {
            worker: worker.worker.clone(),
            finished: count(worker.report.completed),
            failed: count(worker.report.failed),
        });
        let sound = reported.filter(|it| is_sound(it.finished, it.failed)).collect();
        self.known().reports = Some((now, sound));
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
            let others = self.tallies.iter().filter(move |(other, tally)| *other != key && measure(tally));
            sum(others.map(|(_, tally)| (tally.finished, tally.failed)))
        };
        // Those that fail much are no measure, or many bad ones would excuse each other; unless all do.
        let (mut finished, mut failed) = others(Tally::is_sound);
        // Without an address it is a part of this process, which nobody else can reach.
        if finished < MIN_OTHERS && key.address.is_some() {
            let reports = self.reports.iter().flat_map(|(_, reports)| reports);
            (finished, failed) = sum(reports.filter(|it| it.worker != key.worker).map(|it| (it.finished, it.failed)));
        }
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

fn sum(counts: impl Iterator<Item = (u32, u32)>) -> (u32, u32) {
    counts.fold((0, 0), |sum, (finished, failed)| (sum.0.saturating_add(finished), sum.1.saturating_add(failed)))
}

#[cfg(test)]
mod tests {
    use longhand_proto::task::WorkerStatus;

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
    fn a_replica_where_nobody_else_works_compares_with_what_workers_report() {
        let now = clock::now();
        let report = |name: &str, completed, failed, seen_ms| {
            let report = WorkerStatus { completed, failed, ..WorkerStatus::default() };
            WorkerRecord { worker: name.parse().unwrap(), report, seen_ms, drain: false }
        };
        let recently = clock::unix_ms() - 1_000;
        let key = |number| of_token("shared", &format!("new-{number}"), number);
        for (what, reports, expected) in [
            ("others do well", vec![report("good", 100, 2, recently), report("new-1", 0, 0, recently)], 8),
            ("others ended", vec![report("good", 100, 2, recently - 600_000)], 100),
            ("others fail", vec![report("weak", 100, 50, recently)], 100),
            ("nobody", vec![], 100),
        ] {
            let health = WorkerHealth::default();
            assert!(health.wants_reports(now));
            health.note_reports(&reports, Duration::from_secs(120), now);
            assert!(!health.wants_reports(now) && health.wants_reports(now + REPORTS_RENEWED));
            assert_eq!(charged(&health, key, 100, now), expected, "{what}");
            let own = |_| WorkerKey { worker: "own".parse().unwrap(), token: None, address: None };
            assert_eq!(charged(&health, own, 100, now), 100, "{what}");
        }
        let health = WorkerHealth::default();
        health.note_reports(&[report("only", 100, 0, recently)], Duration::from_secs(120), now);
        assert_eq!(charged(&health, |_| of_token("shared", "only", 1), 100, now), 100, "its own report is no other's");
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
