//! Sees every call of every coordinator to the store, and what the store made of it: each change must be one that the
//! contract allows. It looks at the store itself, past whatever misbehaves in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use futures::FutureExt;
use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Attempt, AttemptEnd, Commit, Committed, CompareAndSwap, Counters, DocumentStore, LeaseQuery, Lookup, Next, Record,
    Renewal, Result, RunStore, Source, SqliteStore, Store, Swapped, SweepLimits, Swept,
};
use longhand_proto::{DocumentId, LeaseId};

use super::clock;
use super::history::History;
use super::world::run_id;

/// A call and its answer, as far as it may change anything.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Submit,
    Lookup(&'a Result<Lookup>),
    Lease(&'a LeaseQuery, &'a Result<Vec<Record>>),
    Renew(&'a [Renewal], u64, &'a Result<Vec<LeaseId>>),
    Commit(&'a Commit, &'a Result<Committed>),
    Sweep(&'a SweepLimits, &'a Result<Vec<Swept>>),
    Swap(&'a CompareAndSwap, &'a Result<Swapped>),
    Flush,
}

/// How often what happened: a simulation in which nothing goes wrong proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) leased: u64,
    pub(crate) committed: u64,
    pub(crate) repeated: u64,
    pub(crate) stale: u64,
    pub(crate) stale_renewals: u64,
    pub(crate) swept: u64,
    pub(crate) poisoned: u64,
    pub(crate) errors: u64,
    pub(crate) released: u64,
    pub(crate) resumed: u64,
    pub(crate) swapped: u64,
    /// Texts compared with the uninterrupted ones.
    pub(crate) compared: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs: [(&mut u64, u64); 12] = [
            (&mut self.leased, other.leased),
            (&mut self.committed, other.committed),
            (&mut self.repeated, other.repeated),
            (&mut self.stale, other.stale),
            (&mut self.stale_renewals, other.stale_renewals),
            (&mut self.swept, other.swept),
            (&mut self.poisoned, other.poisoned),
            (&mut self.errors, other.errors),
            (&mut self.released, other.released),
            (&mut self.resumed, other.resumed),
            (&mut self.swapped, other.swapped),
            (&mut self.compared, other.compared),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Witness {
    truth: SqliteStore,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    /// Latest change of the store that was looked at.
    mark: u64,
    seen: BTreeMap<DocumentId, Seen>,
    /// Every lease that was ever given.
    leases: BTreeSet<LeaseId>,
    pub(crate) history: History,
    pub(crate) tally: Tally,
    /// The first breach of the contract.
    pub(crate) breach: Option<String>,
}

/// A document as it was after the last step.
#[derive(Debug, Clone)]
struct Seen {
    record: Record,
    document: Document,
}

type Judged = std::result::Result<(), String>;

macro_rules! hold {
    ($holds:expr, $($why:tt)*) => {
        if !$holds {
            return Err(format!($($why)*));
        }
    };
}

/// The answer of a store in memory, which never waits.
fn at_once<T>(answer: impl Future<Output = Result<T>>) -> T {
    let answer = tokio::task::coop::unconstrained(answer).now_or_never();
    answer.expect("a store in memory answers at once").expect("a store in memory does not fail")
}

impl Witness {
    pub(crate) fn new(truth: SqliteStore) -> Self {
        Self { truth, book: Mutex::default() }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub(crate) fn note(&self, who: &str, what: impl std::fmt::Display) {
        self.book().history.note(who, what);
    }

    /// Something that must not happen did.
    pub(crate) fn breach(&self, what: String) {
        self.book().breach.get_or_insert(what);
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.book().seen.values().filter(|seen| !seen.record.state.is_terminal()).count()
    }

    /// Judges what a call did. Nothing else may reach the store between the call and this.
    pub(crate) fn saw(&self, who: &str, step: &Step<'_>) {
        let mut book = self.book();
        let changed = at_once(self.truth.changed(&run_id(), book.mark, 10_000));
        let told = tell(step, &changed);
        if let Some(told) = told {
            book.history.note(who, told);
        }
        let judged = book.judge(step, &changed, &self.truth);
        if let Err(breach) = judged {
            let breach = format!("{breach} (by {who}, {:.3} s)", clock::elapsed().as_secs_f64());
            book.breach.get_or_insert(breach);
        }
        for record in changed {
            book.mark = book.mark.max(record.change_seq);
            match record.document() {
                Ok(document) => drop(book.seen.insert(record.id, Seen { record, document })),
                Err(error) => {
                    book.breach.get_or_insert(format!("document {} cannot be read: {error}", record.id));
                }
            }
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        at_once(self.truth.list(&run_id(), &Default::default(), None, 10_000)).records
    }

    pub(crate) fn attempts(&self, document: DocumentId) -> Vec<Attempt> {
        at_once(self.truth.attempts(document))
    }

    /// What must hold of a run that is over. `texts` are those of a run that nothing disturbed.
    pub(crate) fn judge_end(&self, submitted: &[DocumentId], texts: Option<&BTreeMap<DocumentId, String>>) -> Judged {
        let records = self.records();
        let ids: BTreeSet<DocumentId> = records.iter().map(|record| record.id).collect();
        hold!(ids == submitted.iter().copied().collect(), "{} ids submitted, {} are there", submitted.len(), ids.len());
        let counts = at_once(self.truth.counts(&run_id()));
        hold!(
            counts.unfinished() == 0 && counts.total() == submitted.len() as u64,
            "not every id has one end: {counts:?}"
        );
        let audit = at_once(self.truth.audit(&run_id(), false));
        hold!(audit.mismatches.is_empty(), "store index mismatch: {:?}", audit.mismatches);
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
                hold!(texts.get(&record.id) == Some(&text), "document {} is not the uninterrupted text", record.id);
                compared += 1;
            }
        }
        self.book().tally.compared += compared;
        Ok(())
    }
}

/// Plan and sections were each completed once, in order, and the document holds as many.
fn written_once(record: &Record, document: &Document, attempts: &[Attempt]) -> Judged {
    let completed = attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Completed);
    let (plans, sections): (Vec<_>, Vec<_>) = completed.partition(|attempt| attempt.detail["kind"] == "plan");
    let plans = plans.len();
    let order: Vec<_> = sections.iter().map(|attempt| attempt.detail["section"].as_u64().unwrap_or(u64::MAX)).collect();
    let written = document.sections().len() as u64;
    hold!(plans <= 1, "document {} has {plans} accepted plans", record.id);
    hold!(
        order.iter().copied().eq(0..written),
        "document {} holds {written} sections, completed were {order:?}",
        record.id
    );
    if record.state == State::Accepted {
        let steps = document.plan().map_or(0, |plan| plan.steps.len()) as u64;
        hold!(steps == written && plans == 1, "document {} was accepted with {written} of {steps} sections", record.id);
    }
    Ok(())
}

impl Book {
    fn judge(&mut self, step: &Step<'_>, changed: &[Record], truth: &SqliteStore) -> Judged {
        for record in changed {
            self.sound(record, matches!(step, Step::Swap(..)))?;
        }
        match step {
            Step::Submit => Ok(()),
            Step::Lookup(answer) => {
                self.tally.stale += u64::from(matches!(answer, Ok(Lookup::Stale)));
                hold!(changed.is_empty(), "looking changed a document");
                Ok(())
            }
            Step::Lease(query, answer) => self.leased(query, answer, changed),
            Step::Renew(renewals, ttl_ms, answer) => {
                hold!(changed.is_empty(), "a renewal changed {} documents", changed.len());
                self.renewed(renewals, *ttl_ms, answer, truth)
            }
            Step::Commit(commit, answer) => self.committed(commit, answer, changed, truth),
            Step::Sweep(limits, answer) => self.swept(limits, answer, changed),
            Step::Swap(swap, answer) => {
                self.tally.swapped += changed.len() as u64;
                let done = matches!(answer, Ok(Swapped::Done));
                hold!(
                    changed.iter().all(|record| done && record.id == swap.document),
                    "a swap changed more than its document"
                );
                Ok(())
            }
            Step::Flush => {
                hold!(changed.iter().all(|record| record.flushed), "marking as flushed changed something else");
                Ok(())
            }
        }
    }

    fn before(&self, id: DocumentId) -> std::result::Result<&Seen, String> {
        self.seen.get(&id).ok_or_else(|| format!("document {id} was never submitted"))
    }

    /// What holds of every document after every step.
    fn sound(&mut self, record: &Record, by_hand: bool) -> Judged {
        let id = record.id;
        hold!(
            (record.state == State::Leased) == record.lease.is_some(),
            "document {id} is {:?} with lease {:?}",
            record.state,
            record.lease
        );
        let held = self.seen.get(&id).and_then(|seen| seen.record.lease.as_ref()).map(|grant| grant.id);
        if let Some(grant) = record.lease.as_ref().filter(|grant| Some(grant.id) != held) {
            hold!(self.leases.insert(grant.id), "lease {} was given twice", grant.id);
        }
        let Some(before) = self.seen.get(&id) else { return Ok(()) };
        hold!(record.version > before.record.version, "document {id} went back to version {}", record.version);
        if by_hand {
            return Ok(());
        }
        hold!(!before.record.state.is_terminal() || record.state == before.record.state, "document {id} left its end");
        let document: Document = record.document().map_err(|error| format!("{id}: {error}"))?;
        let (old, new) = (before.document.sections(), document.sections());
        hold!(new.starts_with(old), "an acknowledged section of document {id} was changed or lost");
        hold!(new.len() <= old.len() + 1, "document {id} got {} sections at once", new.len() - old.len());
        Ok(())
    }

    fn leased(&mut self, query: &LeaseQuery, answer: &Result<Vec<Record>>, changed: &[Record]) -> Judged {
        let now = clock::unix_ms();
        for record in changed {
            let before = &self.before(record.id)?.record;
            let id = record.id;
            let waited = match before.state {
                State::Ready => record.state == State::Leased,
                State::Delayed => before.due_ms <= now && matches!(record.state, State::Ready | State::Leased),
                State::Leased | State::Accepted | State::Rejected | State::Failed | State::Cancelled => false,
            };
            hold!(waited, "document {id} was {:?} and became {:?} by leasing", before.state, record.state);
            hold!(
                (&record.body, &record.checkpoint, record.counters)
                    == (&before.body, &before.checkpoint, before.counters),
                "leasing changed what is in document {id}"
            );
            if let Some(grant) = &record.lease {
                hold!(
                    grant.worker == query.worker && grant.expires_ms == now + query.ttl_ms,
                    "document {id} was leased to {} until {}",
                    grant.worker,
                    grant.expires_ms
                );
                self.tally.leased += 1;
            }
        }
        let mut given = BTreeSet::new();
        for record in answer.as_deref().unwrap_or_default() {
            let Some(grant) = &record.lease else {
                return Err(format!("document {} was given without a lease", record.id));
            };
            hold!(grant.worker == query.worker, "worker {} was given a lease of {}", query.worker, grant.worker);
            hold!(given.insert(record.id), "document {} was given twice in one answer", record.id);
        }
        Ok(())
    }

    /// Renewals are no change of the document, so all are looked at.
    fn renewed(
        &mut self,
        renewals: &[Renewal],
        ttl_ms: u64,
        answer: &Result<Vec<LeaseId>>,
        truth: &SqliteStore,
    ) -> Judged {
        let now = clock::unix_ms();
        let lost = answer.as_deref().unwrap_or_default();
        for renewal in renewals {
            let live =
                self.seen.values().any(|seen| seen.record.lease.as_ref().is_some_and(|it| it.id == renewal.lease));
            hold!(
                live != lost.contains(&renewal.lease),
                "lease {} is live: {live}, and was answered otherwise",
                renewal.lease
            );
            self.tally.stale_renewals += u64::from(!live);
        }
        for record in at_once(truth.list(&run_id(), &Default::default(), None, 10_000)).records {
            let before = &self.before(record.id)?.record;
            let id = record.id;
            let renewal = (before.lease.as_ref())
                .and_then(|grant| renewals.iter().rev().find(|renewal| renewal.lease == grant.id));
            let Some(renewal) = renewal else {
                hold!(
                    (&record.lease, &record.checkpoint) == (&before.lease, &before.checkpoint),
                    "a renewal under another lease changed lease or checkpoint of document {id}"
                );
                continue;
            };
            let (Some(old), Some(new)) = (&before.lease, &record.lease) else {
                return Err(format!("a renewal took the lease of document {id}"));
            };
            hold!(
                new.id == old.id
                    && new.expires_ms == now + ttl_ms
                    && new.progress == old.progress.max(renewal.progress),
                "lease {} of document {id} was renewed to {new:?}",
                old.id
            );
            let checkpoint = renewal.checkpoint.as_ref().or(before.checkpoint.as_ref());
            hold!(record.checkpoint.as_ref() == checkpoint, "document {id} has another checkpoint than was handed in");
            if let Some(seen) = self.seen.get_mut(&id) {
                seen.record = record;
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
    ) -> Judged {
        for record in changed {
            let held = self.before(record.id)?.record.lease.as_ref().map(|grant| grant.id);
            hold!(
                held == Some(commit.lease),
                "a commit under lease {}, which is not live, changed document {}",
                commit.lease,
                record.id
            );
        }
        let given = match answer {
            Ok(Committed::Done(given)) => given,
            Ok(Committed::Repeated(_)) => {
                self.tally.repeated += 1;
                hold!(changed.is_empty(), "a repeated commit changed a document");
                return Ok(());
            }
            Ok(Committed::Stale) | Err(_) => {
                self.tally.stale += 1;
                hold!(changed.is_empty(), "a stale commit changed a document");
                return Ok(());
            }
        };
        let [record] = changed else {
            return Err(format!(
                "a commit under lease {} was acknowledged, and the store does not hold it",
                commit.lease
            ));
        };
        self.tally.committed += 1;
        let id = record.id;
        let before = self.before(id)?.clone();
        hold!(
            given.as_ref().map(|grant| grant.id) == record.lease.as_ref().map(|grant| grant.id),
            "the next lease of document {id} was not the one told"
        );
        let last = at_once(truth.attempts(id)).pop();
        hold!(
            last.as_ref().is_some_and(|last| last.lease == commit.lease && last.end == commit.next.attempt_end()),
            "the attempt of document {id} is not the one that was committed: {last:?}"
        );
        let Counters { errors, losses, releases } = before.record.counters;
        let (counters, sections) = match &commit.next {
            Next::Continue { .. } | Next::Judge { .. } => (Counters { releases, ..Counters::default() }, 1),
            Next::Retry { .. } => (Counters { errors: errors + 1, losses, releases }, 0),
            Next::Release => (Counters { errors, losses, releases: releases + 1 }, 0),
            Next::End { state, .. } => {
                (Counters { releases, ..Counters::default() }, u64::from(*state != State::Failed))
            }
        };
        self.tally.errors += u64::from(counters.errors > errors);
        self.tally.released += u64::from(counters.releases > releases);
        hold!(
            record.counters == counters,
            "counters of document {id} went from {:?} to {:?}",
            before.record.counters,
            record.counters
        );
        let document: Document = record.document().map_err(|error| format!("{id}: {error}"))?;
        let (old, new) = (before.document.sections().len() as u64, document.sections().len() as u64);
        if commit.detail["kind"] == "section" && sections == 1 {
            hold!(
                commit.detail["section"] == old && new == old + 1,
                "section {} of document {id} came when it had {old}, and it has {new} now",
                commit.detail["section"]
            );
            let resumed = document.sections().last().is_some_and(|section| section.usage.resumed > 0);
            self.tally.resumed += u64::from(resumed);
        } else {
            hold!(new == old, "document {id} got a section by {:?}", commit.next);
        }
        Ok(())
    }

    fn swept(&mut self, limits: &SweepLimits, answer: &Result<Vec<Swept>>, changed: &[Record]) -> Judged {
        let now = clock::unix_ms();
        for record in changed {
            let before = &self.before(record.id)?.record;
            let id = record.id;
            let Some(grant) = &before.lease else {
                return Err(format!("a sweep changed document {id}, which nobody held"));
            };
            hold!(
                grant.expires_ms <= now || grant.progress_ms + limits.no_progress_ms <= now,
                "a sweep took a live lease of document {id} away"
            );
            let Counters { errors, losses, releases } = before.counters;
            hold!(
                record.counters == Counters { errors, losses: losses + 1, releases },
                "a sweep turned {:?} of document {id} into {:?}",
                before.counters,
                record.counters
            );
            let poisoned = record.counters.losses >= limits.max_losses;
            let state = if poisoned { State::Failed } else { State::Ready };
            hold!(record.state == state && record.body == before.body, "a sweep made document {id} {:?}", record.state);
            hold!(poisoned || record.checkpoint == before.checkpoint, "a sweep lost the checkpoint of document {id}");
            self.tally.swept += 1;
            self.tally.poisoned += u64::from(poisoned);
        }
        let told: BTreeSet<_> = answer.iter().flatten().map(|swept| swept.document).collect();
        let found: BTreeSet<_> = changed.iter().map(|record| record.id).collect();
        hold!(told == found, "a sweep told of {} documents and changed {}", told.len(), found.len());
        Ok(())
    }
}

/// One line; none for a call that found nothing.
fn tell(step: &Step<'_>, changed: &[Record]) -> Option<String> {
    let what = match step {
        Step::Submit => "submit".to_owned(),
        Step::Lookup(_) => return None,
        Step::Lease(query, answer) => match answer {
            Ok(records) if records.is_empty() && changed.is_empty() => return None,
            Ok(records) => {
                let leases: Vec<_> =
                    records.iter().filter_map(|it| it.lease.as_ref()).map(|it| short(&it.id)).collect();
                format!("lease to {} request {} gave {leases:?}", query.worker, &query.request_id[..6])
            }
            Err(error) => format!("lease failed: {error}"),
        },
        Step::Renew([], ..) => return None,
        Step::Renew(renewals, _, answer) => {
            let told: Vec<_> = renewals
                .iter()
                .map(|it| {
                    let tokens = it.checkpoint.as_ref().map_or(0, |it| it.tokens.len());
                    format!("{} at {} with {tokens}", short(&it.lease), it.progress)
                })
                .collect();
            let lost: Vec<_> = answer.iter().flatten().map(short).collect();
            format!("renew {told:?} lost {lost:?}")
        }
        Step::Commit(commit, answer) => {
            let answer = match answer {
                Ok(Committed::Done(_)) => "done",
                Ok(Committed::Repeated(_)) => "repeated",
                Ok(Committed::Stale) => "stale",
                Err(_) => "failed",
            };
            format!("commit {} {:?} {}: {answer}", short(&commit.lease), commit.next, commit.detail)
        }
        Step::Sweep(_, answer) => match answer {
            Ok(swept) if swept.is_empty() && changed.is_empty() => return None,
            Ok(swept) => format!("sweep took {:?}", swept.iter().map(|it| short(&it.lease.id)).collect::<Vec<_>>()),
            Err(error) => format!("sweep failed: {error}"),
        },
        Step::Swap(swap, answer) => format!("swap of version {} to {:?}: {answer:?}", swap.version, swap.state),
        Step::Flush => "flush".to_owned(),
    };
    let now: Vec<_> = changed
        .iter()
        .map(|it| {
            let body = blake3::hash(it.body.as_bytes()).to_hex();
            format!("{} v{} {} {}", short(&it.id), it.version, it.state.as_str(), &body[..6])
        })
        .collect();
    Some(format!("{what}; now {now:?}"))
}

fn short(id: &impl std::fmt::Display) -> String {
    let mut text = id.to_string();
    text.truncate(6);
    text
}
