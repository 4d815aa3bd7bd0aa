//! The contract as a small program around [`Envelope`]: what a store must hold and answer after each call. The envelope
//! decides what a transition makes of one document; the model adds what spans documents (queues, requests, runs).

use std::collections::BTreeMap;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Attempt, Commit, Committed, CompareAndSwap, Envelope, EnvelopeChange, LeaseGrant, Next, Renewal, Revision,
    RunPolicy, Swapped, SweepLimits,
};
use longhand_proto::LeaseId;
use longhand_proto::task::Checkpoint;
use serde_json::json;

use crate::fixture::{checkpoint, document, run, worker};

/// Runs in the model, and rows of each.
pub(crate) const RUNS: usize = 2;
pub(crate) const ROWS: usize = 4;
/// The workers' models: the second one judges.
pub(crate) const MODELS: [&str; 2] = ["small", "critic"];
/// Times of the model, in half ticks. Time passes in whole ticks and everything lasts some ticks and a half, so that
/// the little time that passes on a real server's own clock never decides.
pub(crate) const LEASE: u64 = 5;
pub(crate) const BACK_OFF: u64 = 3;
pub(crate) const NO_PROGRESS: u64 = 9;

/// The first run takes what it can get; of the second the judge writes nothing, and few documents are open.
pub(crate) fn policy(run: usize) -> RunPolicy {
    let judge = "critic".to_owned();
    match run {
        0 => RunPolicy { judge, ..RunPolicy::default() },
        _ => RunPolicy { judge, model: "small".into(), max_open: 2, ..RunPolicy::default() },
    }
}

/// Lease, progress, and the index of a token with the token.
pub(crate) type RenewalStep = (usize, u64, Option<(u32, u32)>);

/// One call. Leases are named by the number of the grant, for the store draws their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    Submit {
        run: usize,
        rows: Vec<usize>,
        bad: bool,
    },
    Lease {
        worker: usize,
        request: usize,
        slots: usize,
    },
    Renew {
        renewals: Vec<RenewalStep>,
    },
    Commit {
        lease: usize,
        then: Then,
        body: Option<u32>,
        checkpoint: Option<u32>,
    },
    Lookup {
        lease: usize,
    },
    Sweep {
        max_losses: u32,
    },
    Swap(Swap),
    Flush {
        run: usize,
        rows: Vec<usize>,
    },
    Pause {
        run: usize,
        paused: bool,
    },
    /// To begin or to finish it.
    Cancel {
        run: usize,
        begin: bool,
    },
    Pass {
        ticks: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Continue { lease: bool, judge: bool },
    Retry,
    Release,
    End { state: State, reason: &'static str },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Swap {
    pub(crate) run: usize,
    pub(crate) row: usize,
    /// Of a version that is not the latest.
    pub(crate) behind: bool,
    pub(crate) state: State,
    pub(crate) reason: &'static str,
    pub(crate) judge: bool,
    pub(crate) body: Option<u32>,
}

impl Swap {
    pub(crate) fn call(&self, version: u64) -> CompareAndSwap {
        CompareAndSwap {
            document: document(&run_id(self.run), self.row),
            version,
            state: self.state,
            reason: self.reason.into(),
            judge: self.judge,
            body: self.body.map(text),
        }
    }
}

/// The commit of `lease`, which may be followed by `next`. `half_tick` is in milliseconds.
pub(crate) fn commit_call(
    lease: LeaseId,
    next: LeaseId,
    then: Then,
    body: Option<u32>,
    tokens: Option<u32>,
    half_tick: u64,
) -> Commit {
    let next = match then {
        Then::Continue { lease, judge: false } => Next::Continue { lease: lease.then_some(next) },
        Then::Continue { lease, judge: true } => Next::Judge { lease: lease.then_some(next) },
        Then::Retry => Next::Retry { delay_ms: BACK_OFF * half_tick },
        Then::Release => Next::Release,
        Then::End { state, reason } => Next::End { state, reason: reason.into() },
    };
    let checkpoint = tokens.map(|token| checkpoint(&[token]));
    Commit { lease, body: body.map(text), checkpoint, next, detail: json!({}), ttl_ms: LEASE * half_tick }
}

pub(crate) fn run_id(number: usize) -> longhand_proto::RunId {
    run(&format!("run-{number}"))
}

pub(crate) fn text(number: u32) -> String {
    format!("{{\"text\": {number}}}")
}

/// The model's id of a lease.
pub(crate) fn lease_id(number: usize) -> LeaseId {
    LeaseId::from_bytes((number as u128).to_be_bytes())
}

fn number(lease: LeaseId) -> usize {
    u128::from_be_bytes(*lease.as_bytes()) as usize
}

/// What the store answers. Documents are (run, row).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Submitted {
        inserted: u64,
    },
    Leased(Vec<((usize, usize), usize)>),
    /// Those that are not live, those that were cancelled, and those whose token does not fit.
    Renewed([Vec<usize>; 3]),
    Cancelling,
    /// Whether the run is not being cancelled any more.
    Finished(bool),
    Done(Option<usize>),
    Repeated(Option<usize>),
    Stale,
    Live((usize, usize)),
    Committed((usize, usize)),
    /// In no order.
    Swept(Vec<((usize, usize), usize, State)>),
    Swapped(Swapped),
    Unknown,
    Ignored(Vec<usize>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Doc {
    pub(crate) seq: u64,
    pub(crate) envelope: Envelope,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) body: String,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) revisions: Vec<Revision>,
}

impl Doc {
    /// Writes a change with the body and the checkpoint of its call.
    fn apply(&mut self, change: EnvelopeChange, body: Option<&str>, checkpoint: Option<&Checkpoint>) {
        self.attempts.extend(change.attempt);
        if change.keep_revision {
            let Envelope { version, state, reason, .. } = self.envelope.clone();
            self.revisions.push(Revision { version, state, reason, body: self.body.clone() });
        }
        if let Some(body) = body {
            body.clone_into(&mut self.body);
        }
        if !change.keep_checkpoint {
            self.checkpoint = checkpoint.cloned();
        }
        self.envelope = change.envelope;
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    worker: usize,
    request: usize,
    until: u64,
    leases: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) docs: [[Option<Doc>; ROWS]; RUNS],
    /// Leases granted so far.
    pub(crate) leases: usize,
    paused: [bool; RUNS],
    cancelling: [bool; RUNS],
    requests: Vec<Request>,
}

impl Model {
    pub(crate) const fn new() -> Self {
        Self {
            now: 0,
            docs: [const { [const { None }; ROWS] }; RUNS],
            leases: 0,
            paused: [false; RUNS],
            cancelling: [false; RUNS],
            requests: Vec::new(),
        }
    }

    pub(crate) fn docs(&self) -> impl Iterator<Item = ((usize, usize), &Doc)> {
        self.docs.iter().enumerate().flat_map(|(run, rows)| {
            rows.iter().enumerate().filter_map(move |(row, doc)| Some(((run, row), doc.as_ref()?)))
        })
    }

    pub(crate) fn live(&self) -> Vec<usize> {
        self.docs().filter_map(|(_, doc)| Some(number(doc.envelope.lease.as_ref()?.id))).collect()
    }

    fn doc(&mut self, (run, row): (usize, usize)) -> &mut Doc {
        self.docs[run][row].as_mut().expect("a document that was found")
    }

    fn find(&self, is: impl Fn(&Envelope) -> bool) -> Option<(usize, usize)> {
        self.docs().find(|(_, doc)| is(&doc.envelope)).map(|(id, _)| id)
    }

    fn leased(&self, lease: usize) -> Option<(usize, usize)> {
        self.find(|envelope| envelope.live(lease_id(lease)).is_some())
    }

    fn committed(&self, lease: usize) -> Option<(usize, usize)> {
        self.find(|envelope| envelope.last_lease == Some(lease_id(lease)))
    }

    /// `version` is what a swap names.
    pub(crate) fn step(&mut self, op: &Op, version: u64) -> Answer {
        match op {
            Op::Submit { run, rows, bad } => self.submit(*run, rows, *bad),
            Op::Lease { worker, request, slots } => self.lease(*worker, *request, *slots),
            Op::Renew { renewals } => self.renew(renewals),
            Op::Commit { lease, then, body, checkpoint } => self.commit(*lease, *then, *body, *checkpoint),
            Op::Lookup { lease } => match (self.leased(*lease), self.committed(*lease)) {
                (Some(id), _) => Answer::Live(id),
                (None, Some(id)) => Answer::Committed(id),
                (None, None) => Answer::Stale,
            },
            Op::Sweep { max_losses } => self.sweep(*max_losses),
            Op::Swap(swap) => self.swap(swap, version),
            Op::Flush { run, rows } => self.flush(*run, rows),
            Op::Pause { run, paused } => {
                self.paused[*run] = *paused;
                Answer::Nothing
            }
            Op::Cancel { run, begin: true } => {
                self.cancelling[*run] = true;
                Answer::Nothing
            }
            Op::Cancel { run, begin: false } => {
                let finished = self.docs[*run].iter().flatten().all(|doc| doc.envelope.state.is_terminal());
                self.cancelling[*run] &= !finished;
                Answer::Finished(finished)
            }
            Op::Pass { ticks } => {
                self.now += 2 * ticks;
                Answer::Nothing
            }
        }
    }

    fn submit(&mut self, run: usize, rows: &[usize], bad: bool) -> Answer {
        let mut seq = self.docs[run].iter().flatten().count() as u64;
        let first = seq;
        for &row in rows {
            if self.docs[run][row].is_some() {
                continue;
            }
            self.docs[run][row] = Some(Doc {
                seq,
                envelope: Envelope::new(bad.then_some("bad_row")),
                checkpoint: None,
                body: text(0),
                attempts: Vec::new(),
                revisions: Vec::new(),
            });
            seq += 1;
        }
        Answer::Submitted { inserted: seq - first }
    }

    fn lease(&mut self, who: usize, request: usize, slots: usize) -> Answer {
        let now = self.now;
        self.requests.retain(|known| known.until > now);
        if let Some(known) = self.requests.iter().find(|known| (known.worker, known.request) == (who, request)) {
            let held = known.leases.iter().filter_map(|&lease| Some((self.leased(lease)?, lease)));
            return Answer::Leased(held.collect());
        }
        if slots == 0 {
            return Answer::Leased(Vec::new());
        }
        let mut queues: Vec<Vec<(usize, usize)>> = Vec::new();
        for run in 0..RUNS {
            queues.push(if self.paused[run] || self.cancelling[run] {
                Vec::new()
            } else {
                self.queue(run, MODELS[who])
            });
        }
        let mut taken = [0; RUNS];
        for _ in 0..slots {
            let waiting = (0..RUNS).filter(|&run| taken[run] < queues[run].len());
            let Some(run) = waiting.min_by_key(|&run| self.in_state(run, State::Leased) + taken[run]) else { break };
            taken[run] += 1;
        }
        let picked: Vec<_> = queues.iter().zip(taken).flat_map(|(queue, taken)| queue[..taken].to_vec()).collect();
        let mut leased = Vec::new();
        for id in picked {
            let lease = self.leases;
            self.leases += 1;
            let grant = LeaseGrant::new(lease_id(lease), worker(&who.to_string()), now, LEASE);
            let doc = self.doc(id);
            doc.envelope = doc.envelope.grant(grant).expect("a ready document");
            leased.push((id, lease));
        }
        if !leased.is_empty() {
            let leases = leased.iter().map(|(_, lease)| *lease).collect();
            self.requests.push(Request { worker: who, request, until: now + LEASE, leases });
        }
        Answer::Leased(leased)
    }

    fn in_state(&self, run: usize, state: State) -> usize {
        self.docs[run].iter().flatten().filter(|doc| doc.envelope.state == state).count()
    }

    /// What may be leased of a run to a worker with this model, in order: first what waits for the judge.
    fn queue(&mut self, run: usize, model: &str) -> Vec<(usize, usize)> {
        let now = self.now;
        for doc in self.docs[run].iter_mut().flatten() {
            if let Some(ready) = doc.envelope.promote_due(now) {
                doc.envelope = ready;
            }
        }
        let mut ready: Vec<_> =
            self.docs().filter(|((of, _), doc)| *of == run && doc.envelope.state == State::Ready).collect();
        ready.sort_by_key(|(_, doc)| (!doc.envelope.open, doc.seq));
        let (for_judge, to_write): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(_, doc)| doc.envelope.judge);
        let begun = to_write.iter().filter(|(_, doc)| doc.envelope.open).count();
        let open = begun + for_judge.len() + self.in_state(run, State::Leased) + self.in_state(run, State::Delayed);
        let policy = policy(run);
        let new = if policy.max_open == 0 { ROWS } else { (policy.max_open as usize).saturating_sub(open) };
        let for_judge = for_judge.into_iter().filter(|_| policy.can_judge(model, ""));
        let to_write = to_write.into_iter().take(begun + new).filter(|_| policy.can_write(model, ""));
        for_judge.chain(to_write).map(|(id, _)| id).collect()
    }

    fn renew(&mut self, renewals: &[RenewalStep]) -> Answer {
        let now = self.now;
        let (mut lost, mut cancelled, mut unsaved) = (Vec::new(), Vec::new(), Vec::new());
        for &(lease, progress, token) in renewals {
            let Some(id) = self.leased(lease) else {
                let last = self.committed(lease);
                match last.is_some_and(|id| self.doc(id).envelope.state == State::Cancelled) {
                    true => cancelled.push(lease),
                    false => lost.push(lease),
                }
                continue;
            };
            if self.cancelling[id.0] {
                cancelled.push(lease);
                continue;
            }
            let (lease_id, from) = (lease_id(lease), token.map_or(0, |(from, _)| from));
            let renewal = Renewal { lease: lease_id, progress, checkpoint: None, from };
            let doc = self.doc(id);
            doc.envelope = doc.envelope.renew(&renewal, LEASE, now).expect("a live lease");
            match token.map(|(_, token)| checkpoint(&[token])) {
                Some(whole) if from == 0 => doc.checkpoint = Some(whole),
                Some(later) => match doc.checkpoint.clone().and_then(|stored| stored.appended(from, &later)) {
                    Some(whole) => doc.checkpoint = Some(whole),
                    None => unsaved.push(lease),
                },
                None => {}
            }
        }
        Answer::Renewed([lost, cancelled, unsaved].map(sorted))
    }

    fn commit(&mut self, lease: usize, then: Then, body: Option<u32>, tokens: Option<u32>) -> Answer {
        let (now, next) = (self.now, lease_id(self.leases));
        let Some(id) = self.leased(lease).or_else(|| self.committed(lease)) else { return Answer::Stale };
        let call = commit_call(lease_id(lease), next, then, body, tokens, 1);
        if self.cancelling[id.0] && self.leased(lease).is_some() && !call.cancels() {
            return Answer::Cancelling;
        }
        let doc = self.doc(id);
        let (answer, change) = doc.envelope.commit(&call, now);
        if let Some(change) = change {
            doc.apply(change, call.body.as_deref(), call.checkpoint.as_ref());
        }
        match answer {
            Committed::Done(grant) => {
                self.leases += usize::from(grant.is_some());
                Answer::Done(grant.map(|grant| number(grant.id)))
            }
            Committed::Repeated(grant) => Answer::Repeated(grant.map(|grant| number(grant.id))),
            Committed::Stale => Answer::Stale,
            Committed::Cancelling => Answer::Cancelling,
        }
    }

    fn sweep(&mut self, max_losses: u32) -> Answer {
        let now = self.now;
        let limits =
            SweepLimits { max_losses, max_losses_of: BTreeMap::new(), no_progress_ms: NO_PROGRESS, batch: 100 };
        let mut swept = Vec::new();
        for (run, rows) in self.docs.iter_mut().enumerate() {
            for (row, doc) in rows.iter_mut().enumerate() {
                let Some(doc) = doc else { continue };
                let (Some(change), Some(grant)) = (doc.envelope.sweep(&limits, now), doc.envelope.lease.clone()) else {
                    continue;
                };
                doc.apply(change, None, None);
                swept.push(((run, row), number(grant.id), doc.envelope.state));
            }
        }
        Answer::Swept(swept)
    }

    fn swap(&mut self, swap: &Swap, version: u64) -> Answer {
        let now = self.now;
        let Some(doc) = &mut self.docs[swap.run][swap.row] else { return Answer::Unknown };
        let call = swap.call(version);
        let (answer, change) = doc.envelope.swap(&call, now);
        if let Some(change) = change {
            doc.apply(change, call.body.as_deref(), None);
        }
        Answer::Swapped(answer)
    }

    fn flush(&mut self, run: usize, rows: &[usize]) -> Answer {
        let mut ignored = Vec::new();
        for &row in rows {
            match &mut self.docs[run][row] {
                Some(doc) if doc.envelope.state == State::Accepted => {
                    if let Some(flushed) = doc.envelope.mark_flushed() {
                        doc.envelope = flushed;
                    }
                }
                Some(_) | None => ignored.push(row),
            }
        }
        Answer::Ignored(ignored)
    }
}

pub(crate) fn sorted(mut leases: Vec<usize>) -> Vec<usize> {
    leases.sort_unstable();
    leases
}
