//! Observes every call of every coordinator to the store, and checks that each change is one that the store's contract
//! allows. It reads the real store, bypassing losses and mutations in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use futures::FutureExt;
use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Attempt, AttemptEnd, Commit, Committed, Counters, DocumentStore, LeaseQuery, Lookup, Next, Record, Renewal,
    Renewed, Result, RunStore, Source, SqliteStore, Store, Swapped, SweepLimits, Swept,
};
use longhand_proto::{DocumentId, LeaseId};

use super::clock;
use super::event_counts::EventCounts;
use super::history::History;
use super::sim::run_id;
use super::step::{Step, describe};

#[derive(Debug)]
pub(crate) struct InvariantChecker {
    truth: SqliteStore,
    state: Mutex<CheckerState>,
}

#[derive(Debug, Default)]
pub(crate) struct CheckerState {
    /// Latest change of the store that was checked.
    change_seq: u64,
    observed: BTreeMap<DocumentId, Observed>,
    /// Every lease that was ever granted.
    leases: BTreeSet<LeaseId>,
    pub(crate) history: History,
    pub(crate) counts: EventCounts,
    /// The run was cancelled as a whole, which is the operator's last act.
    cancelled: bool,
    /// The first violation of the contract.
    pub(crate) violation: Option<String>,
}

/// A document as it was after the last step.
#[derive(Debug, Clone)]
struct Observed {
    record: Record,
    document: Document,
}

type Checked = std::result::Result<(), String>;

macro_rules! ensure {
    ($condition:expr, $($why:tt)*) => {
        if !$condition {
            return Err(format!($($why)*));
        }
    };
}

/// The answer of the in-memory store, which never waits.
fn now_or_panic<T>(answer: impl Future<Output = Result<T>>) -> T {
    let answer = tokio::task::coop::unconstrained(answer).now_or_never();
    answer.expect("an in-memory store answers at once").expect("an in-memory store does not fail")
}

impl InvariantChecker {
    pub(crate) fn new(truth: SqliteStore) -> Self {
        Self { truth, state: Mutex::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, CheckerState> {
        self.state.lock().unwrap()
    }

    pub(crate) fn note(&self, who: &str, what: impl std::fmt::Display) {
        self.state().history.note(who, what);
    }

    /// Records a violation, unless there was one before.
    pub(crate) fn report(&self, what: String) {
        self.state().violation.get_or_insert(what);
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.state().observed.values().filter(|observed| !observed.record.state.is_terminal()).count()
    }

    /// Checks what a call did. No other call may reach the store between the call and this.
    pub(crate) fn observe(&self, who: &str, step: &Step<'_>) {
        let mut state = self.state();
        let changed = now_or_panic(self.truth.changed(&run_id(), state.change_seq, 10_000));
        let line = describe(step, &changed);
        if let Some(line) = line {
            state.history.note(who, line);
        }
        let checked = state.check(step, &changed, &self.truth);
        if let Err(violation) = checked {
            let violation = format!("{violation} (by {who}, {:.3} s)", clock::elapsed().as_secs_f64());
            state.violation.get_or_insert(violation);
        }
        for record in changed {
            state.change_seq = state.change_seq.max(record.change_seq);
            match record.document() {
                Ok(document) => drop(state.observed.insert(record.id, Observed { record, document })),
                Err(error) => {
                    state.violation.get_or_insert(format!("document {} cannot be read: {error}", record.id));
                }
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        now_or_panic(self.truth.list(&run_id(), &Default::default(), None, 10_000)).records
    }

    pub(crate) fn attempts(&self, document: DocumentId) -> Vec<Attempt> {
        now_or_panic(self.truth.attempts(document))
    }

    /// Checks a finished run. `texts` are those of the fault-free run.
    pub(crate) fn check_end(&self, submitted: &[DocumentId], texts: Option<&BTreeMap<DocumentId, String>>) -> Checked {
        let records = self.records();
        let ids: BTreeSet<DocumentId> = records.iter().map(|record| record.id).collect();
        ensure!(
            ids == submitted.iter().copied().collect(),
            "{} documents were submitted, and the store has {}",
            submitted.len(),
            ids.len()
        );
        let counts = now_or_panic(self.truth.counts(&run_id()));
        ensure!(
            counts.unfinished() == 0 && counts.total() == submitted.len() as u64,
            "not every document ended once: {counts:?}"
        );
        let audit = now_or_panic(self.truth.audit(&run_id(), false));
        ensure!(audit.mismatches.is_empty(), "store index mismatch: {:?}", audit.mismatches);
        let mut compared = 0;
        for record in &records {
            let document: Document = record.document().map_err(|error| error.to_string())?;
            let attempts = self.attempts(record.id);
            let undisturbed = document.round == 0 && attempts.iter().all(|attempt| attempt.end != AttemptEnd::Error);
            if document.round == 0 {
                written_once(record, &document, &attempts)?;
            }
            let sections = || document.sections().iter().map(|section| section.text.as_str());
            if let Some(texts) = texts.filter(|_| undisturbed && record.state == State::Accepted) {
                let text = sections().collect::<Vec<_>>().join("\n\n");
                ensure!(
                    texts.get(&record.id) == Some(&text),
                    "the text of document {} differs from the fault-free run",
                    record.id
                );
                compared += 1;
            }
        }
        self.state().counts.compared += compared;
        Ok(())
    }
}

/// Plan and sections were each completed once and in order, and the document has as many.
fn written_once(record: &Record, document: &Document, attempts: &[Attempt]) -> Checked {
    let completed = attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Completed);
    let (plans, sections): (Vec<_>, Vec<_>) = completed.partition(|attempt| attempt.detail["kind"] == "plan");
    let plans = plans.len();
    let order: Vec<_> = sections.iter().map(|attempt| attempt.detail["section"].as_u64().unwrap_or(u64::MAX)).collect();
    let written = document.sections().len() as u64;
    ensure!(plans <= 1, "document {} has {plans} accepted plans", record.id);
    ensure!(
        order.iter().copied().eq(0..written),
        "document {} has {written} sections, and completed were {order:?}",
        record.id
    );
    if record.state == State::Accepted {
        let steps = document.plan().map_or(0, |plan| plan.steps.len()) as u64;
        ensure!(
            steps == written && plans == 1,
            "document {} was accepted with {written} of {steps} sections",
            record.id
        );
    }
    Ok(())
}

impl CheckerState {
    fn check(&mut self, step: &Step<'_>, changed: &[Record], truth: &SqliteStore) -> Checked {
        for record in changed {
            self.check_document(record, matches!(step, Step::Swap(..)))?;
        }
        if self.cancelled {
            // Only cancelling is left to do, and a sweep may take what nobody ended yet.
            let ended = changed.iter().all(|record| {
                if matches!(step, Step::Sweep(..)) {
                    !matches!(record.state, State::Leased | State::Accepted | State::Rejected)
                } else {
                    record.state == State::Cancelled || matches!(step, Step::Flush)
                }
            });
            ensure!(ended, "a cancelled run goes on");
        }
        match step {
            Step::Submit => Ok(()),
            Step::Cancel => {
                self.cancelled = true;
                Ok(())
            }
            Step::Lookup(answer) => {
                self.counts.stale += u64::from(matches!(answer, Ok(Lookup::Stale)));
                ensure!(changed.is_empty(), "a lookup changed a document");
                Ok(())
            }
            Step::Lease(query, answer) => self.leased(query, answer, changed),
            Step::Renew(renewals, ttl_ms, answer) => {
                ensure!(changed.is_empty(), "a renewal changed {} documents", changed.len());
                self.renewed(renewals, *ttl_ms, answer, truth)
            }
            Step::Commit(commit, answer) => self.committed(commit, answer, changed, truth),
            Step::Sweep(limits, answer) => self.swept(limits, answer, changed),
            Step::Swap(swap, answer) => {
                self.counts.swapped += changed.len() as u64;
                let done = matches!(answer, Ok(Swapped::Done));
                ensure!(
                    changed.iter().all(|record| done && record.id == swap.document),
                    "a swap changed more than its document"
                );
                Ok(())
            }
            Step::Flush => {
                ensure!(changed.iter().all(|record| record.flushed), "marking as flushed changed something else");
                Ok(())
            }
        }
    }

    fn before(&self, id: DocumentId) -> std::result::Result<&Observed, String> {
        self.observed.get(&id).ok_or_else(|| format!("document {id} was never submitted"))
    }

    /// Checks a document after any step.
    fn check_document(&mut self, record: &Record, by_operator: bool) -> Checked {
        let id = record.id;
        ensure!(
            (record.state == State::Leased) == record.lease.is_some(),
            "document {id} is {:?} with lease {:?}",
            record.state,
            record.lease
        );
        let held = self.observed.get(&id).and_then(|observed| observed.record.lease.as_ref()).map(|grant| grant.id);
        if let Some(grant) = record.lease.as_ref().filter(|grant| Some(grant.id) != held) {
            ensure!(self.leases.insert(grant.id), "lease {} was granted twice", grant.id);
        }
        let Some(before) = self.observed.get(&id) else { return Ok(()) };
        ensure!(record.version > before.record.version, "document {id} went back to version {}", record.version);
        if by_operator {
            return Ok(());
        }
        ensure!(
            !before.record.state.is_terminal() || record.state == before.record.state,
            "document {id} left a terminal state"
        );
        let document: Document = record.document().map_err(|error| format!("{id}: {error}"))?;
        let (old, new) = (before.document.sections(), document.sections());
        ensure!(new.starts_with(old), "an acknowledged section of document {id} was changed or lost");
        ensure!(new.len() <= old.len() + 1, "document {id} got {} sections at once", new.len() - old.len());
        Ok(())
    }

    fn leased(&mut self, query: &LeaseQuery, answer: &Result<Vec<Record>>, changed: &[Record]) -> Checked {
        let now = clock::unix_ms();
        for record in changed {
            let before = &self.before(record.id)?.record;
            let id = record.id;
            let waited = match before.state {
                State::Ready => record.state == State::Leased,
                State::Delayed => before.due_ms <= now && matches!(record.state, State::Ready | State::Leased),
                State::Leased | State::Accepted | State::Rejected | State::Failed | State::Cancelled => false,
            };
            ensure!(waited, "document {id} was {:?} and became {:?} by leasing", before.state, record.state);
            ensure!(
                (&record.body, &record.checkpoint, record.counters)
                    == (&before.body, &before.checkpoint, before.counters),
                "leasing changed the content of document {id}"
            );
            if let Some(grant) = &record.lease {
                ensure!(
                    grant.worker == query.worker && grant.expires_ms == now + query.ttl_ms,
                    "document {id} was leased to {} until {}",
                    grant.worker,
                    grant.expires_ms
                );
                self.counts.leased += 1;
            }
        }
        let mut leased = BTreeSet::new();
        for record in answer.as_deref().unwrap_or_default() {
            let Some(grant) = &record.lease else {
                return Err(format!("document {} was returned without a lease", record.id));
            };
            ensure!(grant.worker == query.worker, "worker {} received a lease of {}", query.worker, grant.worker);
            ensure!(leased.insert(record.id), "document {} was returned twice in one answer", record.id);
        }
        Ok(())
    }

    /// Renewals are not listed as changes, so all documents are checked.
    fn renewed(&mut self, renewals: &[Renewal], ttl_ms: u64, answer: &Result<Renewed>, truth: &SqliteStore) -> Checked {
        let now = clock::unix_ms();
        let Renewed { lost, cancelled, unsaved } = answer.as_ref().ok().cloned().unwrap_or_default();
        for renewal in renewals {
            let live = self
                .observed
                .values()
                .any(|observed| observed.record.lease.as_ref().is_some_and(|it| it.id == renewal.lease));
            let (is_lost, is_cancelled) = (lost.contains(&renewal.lease), cancelled.contains(&renewal.lease));
            ensure!(
                if live { !is_lost && is_cancelled == self.cancelled } else { is_lost || is_cancelled },
                "lease {} is live: {live}, and the answer says otherwise",
                renewal.lease
            );
            self.counts.stale_renewals += u64::from(!live);
        }
        for record in now_or_panic(truth.list(&run_id(), &Default::default(), None, 10_000)).records {
            let before = &self.before(record.id)?.record;
            let id = record.id;
            let renewal = (before.lease.as_ref())
                .and_then(|grant| renewals.iter().rev().find(|renewal| renewal.lease == grant.id))
                .filter(|renewal| !cancelled.contains(&renewal.lease));
            let Some(renewal) = renewal else {
                ensure!(
                    (&record.lease, &record.checkpoint) == (&before.lease, &before.checkpoint),
                    "a renewal under another lease changed lease or checkpoint of document {id}"
                );
                continue;
            };
            let (Some(old), Some(new)) = (&before.lease, &record.lease) else {
                return Err(format!("a renewal took the lease of document {id}"));
            };
            ensure!(
                new.id == old.id
                    && new.expires_ms == now + ttl_ms
                    && new.progress == old.progress.max(renewal.progress),
                "lease {} of document {id} was renewed to {new:?}",
                old.id
            );
            let checkpoint = match &renewal.checkpoint {
                Some(later) if renewal.from > 0 => {
                    let whole = before.checkpoint.clone().and_then(|stored| stored.appended(renewal.from, later));
                    ensure!(
                        answer.is_err() || whole.is_none() == unsaved.contains(&renewal.lease),
                        "the answer to what was appended to document {id} is wrong"
                    );
                    whole.or_else(|| before.checkpoint.clone())
                }
                saved => saved.clone().or_else(|| before.checkpoint.clone()),
            };
            ensure!(record.checkpoint == checkpoint, "document {id} has another checkpoint than was saved");
            let appended = renewal.from > 0 && record.checkpoint != before.checkpoint;
            self.counts.appended += u64::from(appended);
            if let Some(observed) = self.observed.get_mut(&id) {
                observed.record = record;
            }
        }
        Ok(())
    }

    fn committed(
        &mut self,
        commit: &Commit,
        answer: &Result<Committed>,
        changed: &[Record],
        truth: &SqliteStore,
    ) -> Checked {
        for record in changed {
            let held = self.before(record.id)?.record.lease.as_ref().map(|grant| grant.id);
            ensure!(
                held == Some(commit.lease),
                "a commit under lease {}, which is not live, changed document {}",
                commit.lease,
                record.id
            );
        }
        let next_lease = match answer {
            Ok(Committed::Done(next_lease)) => next_lease,
            Ok(Committed::Repeated(_)) => {
                self.counts.repeated += 1;
                ensure!(changed.is_empty(), "a repeated commit changed a document");
                return Ok(());
            }
            Ok(Committed::Stale | Committed::Cancelling) | Err(_) => {
                self.counts.cancelling += u64::from(matches!(answer, Ok(Committed::Cancelling)));
                self.counts.stale += 1;
                ensure!(changed.is_empty(), "a stale commit changed a document");
                return Ok(());
            }
        };
        let [record] = changed else {
            return Err(format!(
                "a commit under lease {} was acknowledged, and the store does not hold it",
                commit.lease
            ));
        };
        self.counts.committed += 1;
        let id = record.id;
        let before = self.before(id)?.clone();
        ensure!(
            next_lease.as_ref().map(|grant| grant.id) == record.lease.as_ref().map(|grant| grant.id),
            "the next lease of document {id} is not the one returned"
        );
        let last = now_or_panic(truth.attempts(id)).pop();
        ensure!(
            last.as_ref().is_some_and(|last| last.lease == commit.lease && last.end == commit.next.attempt_end()),
            "the attempt of document {id} is not the one that was committed: {last:?}"
        );
        let Counters { errors, releases, .. } = before.record.counters;
        let (counters, sections) = after_commit(before.record.counters, &commit.next);
        self.counts.errors += u64::from(counters.errors > errors);
        self.counts.released += u64::from(counters.releases > releases);
        ensure!(
            record.counters == counters,
            "counters of document {id} went from {:?} to {:?}",
            before.record.counters,
            record.counters
        );
        self.check_sections(commit, &before, record, sections)
    }

    /// A commit of a section adds that section; any other commit adds none.
    fn check_sections(&mut self, commit: &Commit, before: &Observed, record: &Record, sections: u64) -> Checked {
        let id = record.id;
        let document: Document = record.document().map_err(|error| format!("{id}: {error}"))?;
        let (old, new) = (before.document.sections().len() as u64, document.sections().len() as u64);
        if commit.detail["kind"] == "section" && sections == 1 {
            ensure!(
                commit.detail["section"] == old && new == old + 1,
                "section {} of document {id} came when it had {old}, and it has {new} now",
                commit.detail["section"]
            );
            let resumed = document.sections().last().is_some_and(|section| section.usage.resumed > 0);
            self.counts.resumed += u64::from(resumed);
        } else {
            ensure!(new == old, "document {id} got a section by {:?}", commit.next);
        }
        Ok(())
    }

    fn swept(&mut self, limits: &SweepLimits, answer: &Result<Vec<Swept>>, changed: &[Record]) -> Checked {
        let now = clock::unix_ms();
        for record in changed {
            let before = &self.before(record.id)?.record;
            let id = record.id;
            let Some(grant) = &before.lease else {
                return Err(format!("a sweep changed document {id}, which had no lease"));
            };
            ensure!(
                grant.expires_ms <= now || grant.progress_ms + limits.no_progress_ms <= now,
                "a sweep revoked a live lease of document {id}"
            );
            let Counters { errors, losses, releases } = before.counters;
            ensure!(
                record.counters == Counters { errors, losses: losses + 1, releases },
                "a sweep turned {:?} of document {id} into {:?}",
                before.counters,
                record.counters
            );
            let poisoned = record.counters.losses >= limits.max_losses;
            let state = if poisoned { State::Failed } else { State::Ready };
            ensure!(
                record.state == state && record.body == before.body,
                "a sweep made document {id} {:?}",
                record.state
            );
            ensure!(poisoned || record.checkpoint == before.checkpoint, "a sweep lost the checkpoint of document {id}");
            self.counts.swept += 1;
            self.counts.poisoned += u64::from(poisoned);
        }
        let returned: BTreeSet<_> = answer.iter().flatten().map(|swept| swept.document).collect();
        let found: BTreeSet<_> = changed.iter().map(|record| record.id).collect();
        ensure!(returned == found, "a sweep returned {} documents and changed {}", returned.len(), found.len());
        Ok(())
    }
}

/// Counters of a document after a commit, and the most sections that it adds.
fn after_commit(before: Counters, next: &Next) -> (Counters, u64) {
    let Counters { errors, losses, releases } = before;
    match next {
        Next::Continue { .. } | Next::Judge { .. } => (Counters { releases, ..Counters::default() }, 1),
        Next::Retry { .. } => (Counters { errors: errors + 1, losses, releases }, 0),
        Next::Release => (Counters { errors, losses, releases: releases + 1 }, 0),
        Next::End { state, .. } => {
            let adds = !matches!(state, State::Failed | State::Cancelled);
            (Counters { releases, ..Counters::default() }, u64::from(adds))
        }
    }
}
