//! The transitions of a document's envelope: who may write the document, and where it waits.
//!
//! Pure functions: an envelope, a call and a time in, the envelope after it and the answer out. The SQLite store writes
//! what they return. The Lua scripts of the Redis store make the same transitions, each in one atomic step, and are
//! tested against these functions with random histories (`tests/store/proptest.rs`).
//!
//! ```text
//!     from       transition                                 to
//!     ready      grant                                      leased
//!     leased     commit (Continue or Judge with a lease)    leased, under the next lease
//!     leased     commit (Continue, Judge, Release)          ready
//!     leased     commit (Retry)                             delayed
//!     leased     commit (End)                               accepted, rejected, failed, cancelled
//!     leased     sweep                                      ready, or failed by poison
//!     delayed    promote_due                                ready
//!     any        swap                                       ready, accepted, rejected, failed, cancelled
//! ```

use longhand_proto::LeaseId;
use serde_json::json;

use super::attempt::{Attempt, AttemptEnd};
use super::document::{CompareAndSwap, Swapped};
use super::lease::{Commit, Committed, Next, Renewal, SweepLimits};
use super::record::{Counters, LeaseGrant, later};
use crate::domain::state::State;

/// What a store keeps of a document, except its body, its checkpoint and its places in the run's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// See [`Record::state`](super::Record::state).
    pub state: State,
    /// See [`Record::reason`](super::Record::reason).
    pub reason: String,
    /// See [`Record::version`](super::Record::version).
    pub version: u64,
    /// See [`Record::open`](super::Record::open).
    pub open: bool,
    /// See [`Record::judge`](super::Record::judge).
    pub judge: bool,
    /// See [`Record::due_ms`](super::Record::due_ms).
    pub due_ms: u64,
    /// See [`Record::counters`](super::Record::counters).
    pub counters: Counters,
    /// See [`Record::flushed`](super::Record::flushed).
    pub flushed: bool,
    /// The live lease: set iff the document is leased.
    pub lease: Option<LeaseGrant>,
    /// The lease that was committed last.
    pub last_lease: Option<LeaseId>,
    /// The lease that this commit granted.
    pub next_lease: Option<LeaseId>,
    /// Fingerprint of the latest swap: a repetition of it is recognised while no other change followed.
    pub last_swap: Option<[u8; 16]>,
}

/// What a transition writes.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvelopeChange {
    /// The envelope after it, one version on.
    pub envelope: Envelope,
    /// The attempt that it ended, to be appended.
    pub attempt: Option<Attempt>,
    /// The document leaves a terminal state: what it was before is appended to its history.
    pub keep_revision: bool,
    /// The stored checkpoint stays; else the call's takes its place, and is removed if the call has none.
    pub keep_checkpoint: bool,
}

impl Envelope {
    /// A document that was just submitted; `failed` is the reason of one that starts as failed.
    pub fn new(failed: Option<&str>) -> Self {
        Self {
            state: if failed.is_some() { State::Failed } else { State::Ready },
            reason: failed.unwrap_or_default().to_owned(),
            version: 1,
            open: false,
            judge: false,
            due_ms: 0,
            counters: Counters::default(),
            flushed: false,
            lease: None,
            last_lease: None,
            next_lease: None,
            last_swap: None,
        }
    }

    /// Ready if delayed and due; none if not.
    pub fn promote_due(&self, now_ms: u64) -> Option<Self> {
        let due = self.state == State::Delayed && self.due_ms <= now_ms;
        due.then(|| Self { state: State::Ready, due_ms: 0, ..self.next_version() })
    }

    /// Leased if ready; none if not.
    pub fn grant(&self, lease: LeaseGrant) -> Option<Self> {
        let ready = self.state == State::Ready;
        ready.then(|| Self { state: State::Leased, open: true, lease: Some(lease), ..self.next_version() })
    }

    /// The lease extended to `ttl_ms` from now; none if another lease or none is live. A renewal is no new version.
    pub fn renew(&self, renewal: &Renewal, ttl_ms: u64, now_ms: u64) -> Option<Self> {
        let mut grant = self.live(renewal.lease)?.clone();
        grant.expires_ms = later(now_ms, ttl_ms);
        if renewal.progress > grant.progress {
            grant.progress = renewal.progress;
            grant.progress_ms = now_ms;
        }
        Some(Self { lease: Some(grant), ..self.clone() })
    }

    /// Ends the attempt, if its lease is live. Without a change nothing is written.
    pub fn commit(&self, commit: &Commit, now_ms: u64) -> (Committed, Option<EnvelopeChange>) {
        let Some(grant) = self.live(commit.lease) else {
            if self.last_lease != Some(commit.lease) {
                return (Committed::Stale, None);
            }
            let next = self.lease.as_ref().filter(|grant| Some(grant.id) == self.next_lease);
            return (Committed::Repeated(next.cloned()), None);
        };
        let attempt = attempt(grant, now_ms, commit.next.attempt_end(), commit.detail.clone());
        let mut after = Self { lease: None, last_lease: Some(commit.lease), next_lease: None, ..self.next_version() };
        let next_task = Counters { releases: self.counters.releases, ..Counters::default() };
        match &commit.next {
            Next::Continue { lease } | Next::Judge { lease } => {
                after.judge = matches!(commit.next, Next::Judge { .. });
                after.counters = next_task;
                after.state = State::Ready;
                if let Some(id) = *lease {
                    after.state = State::Leased;
                    after.lease = Some(LeaseGrant::new(id, grant.worker.clone(), now_ms, commit.ttl_ms));
                    after.next_lease = Some(id);
                }
            }
            Next::Retry { delay_ms } => {
                after.counters.errors += 1;
                after.state = State::Delayed;
                after.due_ms = later(now_ms, *delay_ms);
            }
            Next::Release => {
                after.counters.releases += 1;
                after.state = State::Ready;
            }
            Next::End { state, reason } => {
                after.counters = next_task;
                after.state = *state;
                after.judge = false;
                after.reason.clone_from(reason);
            }
        }
        let answer = Committed::Done(after.lease.clone());
        let keep_checkpoint = commit.next == Next::Release && commit.checkpoint.is_none();
        (
            answer,
            Some(EnvelopeChange { envelope: after, attempt: Some(attempt), keep_revision: false, keep_checkpoint }),
        )
    }

    /// Takes the lease away if it expired or made no progress; none if it did neither.
    pub fn sweep(&self, limits: &SweepLimits, now_ms: u64) -> Option<EnvelopeChange> {
        let grant = self.lease.as_ref()?;
        let expired = grant.expires_ms <= now_ms;
        let stalled = now_ms.checked_sub(limits.no_progress_ms).is_some_and(|last| grant.progress_ms <= last);
        if !expired && !stalled {
            return None;
        }
        let mut after = Self { state: State::Ready, lease: None, ..self.next_version() };
        after.counters.losses += 1;
        let poison = after.counters.losses >= limits.max_losses;
        if poison {
            after.state = State::Failed;
            after.reason = "poison".into();
            after.judge = false;
        }
        let attempt = Some(attempt(grant, now_ms, AttemptEnd::Lost, json!({})));
        Some(EnvelopeChange { envelope: after, attempt, keep_revision: false, keep_checkpoint: !poison })
    }

    /// Puts the document to another state, if it has the version named. Without a change nothing is written.
    pub fn swap(&self, swap: &CompareAndSwap, now_ms: u64) -> (Swapped, Option<EnvelopeChange>) {
        let fingerprint = Some(swap.fingerprint());
        if self.version != swap.version {
            let repeated = self.version == swap.version + 1 && self.last_swap == fingerprint;
            return (if repeated { Swapped::Done } else { Swapped::Changed }, None);
        }
        let revoked = || json!({ "revoked": swap.state });
        let attempt = self.lease.as_ref().map(|grant| attempt(grant, now_ms, AttemptEnd::Released, revoked()));
        let envelope = Self {
            state: swap.state,
            reason: swap.stored_reason().to_owned(),
            judge: swap.judge,
            due_ms: 0,
            counters: Counters::default(),
            flushed: false,
            lease: None,
            last_swap: fingerprint,
            ..self.next_version()
        };
        let keep_revision = self.state.is_terminal() && !swap.state.is_terminal();
        (Swapped::Done, Some(EnvelopeChange { envelope, attempt, keep_revision, keep_checkpoint: false }))
    }

    /// Marked as held by a shard, if accepted and not marked yet; else none.
    pub fn mark_flushed(&self) -> Option<Self> {
        let waits = self.state == State::Accepted && !self.flushed;
        waits.then(|| Self { flushed: true, ..self.next_version() })
    }

    /// The live lease, if it is this one.
    pub fn live(&self, lease: LeaseId) -> Option<&LeaseGrant> {
        self.lease.as_ref().filter(|grant| grant.id == lease)
    }

    fn next_version(&self) -> Self {
        Self { version: self.version + 1, ..self.clone() }
    }
}

fn attempt(grant: &LeaseGrant, ended_ms: u64, end: AttemptEnd, detail: serde_json::Value) -> Attempt {
    Attempt { lease: grant.id, worker: grant.worker.clone(), granted_ms: grant.granted_ms, ended_ms, end, detail }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longhand_proto::{DocumentId, RunId};

    use super::*;

    const NOW: u64 = 1_000;
    const LIMITS: SweepLimits =
        SweepLimits { max_losses: 2, max_losses_of: BTreeMap::new(), no_progress_ms: 50, batch: 1 };

    fn grant() -> LeaseGrant {
        LeaseGrant::new(LeaseId::from_bytes([1; 16]), "w".parse().unwrap(), NOW, 100)
    }

    /// An envelope in each state, as transitions make it.
    fn in_state(state: State) -> Envelope {
        let ready = Envelope::new(None);
        let leased = ready.grant(grant()).unwrap();
        match state {
            State::Ready => ready,
            State::Leased => leased,
            State::Delayed => committed(&leased, Next::Retry { delay_ms: 10 }),
            State::Accepted | State::Rejected | State::Failed | State::Cancelled => {
                committed(&leased, Next::End { state, reason: "why".into() })
            }
        }
    }

    fn commit(next: Next) -> Commit {
        Commit { lease: grant().id, body: None, checkpoint: None, next, detail: json!({}), ttl_ms: 100 }
    }

    fn committed(envelope: &Envelope, next: Next) -> Envelope {
        envelope.commit(&commit(next), NOW).1.unwrap().envelope
    }

    fn swap(version: u64, state: State) -> CompareAndSwap {
        let run: RunId = "r".parse().unwrap();
        let document = DocumentId::derive(&run, "row", 0);
        CompareAndSwap { document, version, state, reason: "why".into(), judge: false, body: None }
    }

    #[test]
    fn each_transition_starts_from_its_own_state_only() {
        for state in State::ALL {
            let envelope = in_state(state);
            assert_eq!(envelope.state, state);
            assert_eq!(envelope.lease.is_some(), state == State::Leased, "a lease iff leased");
            assert_eq!(envelope.grant(grant()).is_some(), state == State::Ready);
            assert_eq!(envelope.commit(&commit(Next::Release), NOW).1.is_some(), state == State::Leased);
            assert_eq!(envelope.sweep(&LIMITS, NOW + 100).is_some(), state == State::Leased);
            assert_eq!(envelope.promote_due(NOW + 10).is_some(), state == State::Delayed);
            assert_eq!(envelope.promote_due(NOW + 9), None);
            assert_eq!(envelope.mark_flushed().is_some(), state == State::Accepted);
        }
    }

    #[test]
    fn a_swap_takes_any_state_to_ready_and_is_recognised_when_repeated() {
        for state in State::ALL {
            let envelope = in_state(state);
            let call = swap(envelope.version, State::Ready);
            let (answer, change) = envelope.swap(&call, NOW);
            let change = change.unwrap();
            assert_eq!((answer, change.envelope.state, &*change.envelope.reason), (Swapped::Done, State::Ready, ""));
            assert_eq!(change.attempt.is_some(), state == State::Leased, "the lease is revoked");
            assert_eq!(change.keep_revision, state.is_terminal());
            assert_eq!(change.envelope.swap(&call, NOW), (Swapped::Done, None));
            let other = swap(envelope.version, State::Cancelled);
            assert_eq!(change.envelope.swap(&other, NOW), (Swapped::Changed, None));
        }
    }

    #[test]
    fn a_lease_is_swept_when_it_expires_or_makes_no_progress() {
        let leased = in_state(State::Leased);
        assert_eq!(leased.sweep(&LIMITS, NOW + 49), None);
        let lost = leased.sweep(&LIMITS, NOW + 50).unwrap();
        assert_eq!((lost.envelope.state, lost.envelope.counters.losses, lost.keep_checkpoint), (State::Ready, 1, true));
        let again = lost.envelope.grant(grant()).unwrap().sweep(&LIMITS, NOW + 100).unwrap();
        assert_eq!((again.envelope.state, &*again.envelope.reason), (State::Failed, "poison"));
        assert!(!again.keep_checkpoint);
    }
}
