//! The contract as a small program: what a store must hold and answer after each call.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Swapped};

/// Runs in the model, and rows of each.
pub(crate) const RUNS: usize = 2;
pub(crate) const ROWS: usize = 4;
/// Most open documents of each run; 0 for no bound.
pub(crate) const MAX_OPEN: [usize; RUNS] = [0, 2];
/// Times of the model, in half ticks. Time passes in whole ticks and everything lasts some ticks and a half, so that
/// the little time that a real server's clock goes on by itself never decides.
pub(crate) const LEASE: u64 = 5;
pub(crate) const BACK_OFF: u64 = 3;
pub(crate) const NO_PROGRESS: u64 = 9;

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
        renewals: Vec<(usize, u64, Option<u32>)>,
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
    /// `behind`: of a version that is not the latest.
    Swap {
        run: usize,
        row: usize,
        behind: bool,
        state: State,
        reason: &'static str,
        body: Option<u32>,
    },
    Flush {
        run: usize,
        rows: Vec<usize>,
    },
    Pause {
        run: usize,
        paused: bool,
    },
    Pass {
        ticks: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Continue { lease: bool },
    Retry,
    Release,
    End { state: State, reason: &'static str },
}

/// What the store says to it. Documents are (run, row).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    Submitted {
        inserted: u64,
    },
    Leased(Vec<((usize, usize), usize)>),
    Lost(Vec<usize>),
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lease: usize,
    pub(crate) worker: usize,
    pub(crate) granted: u64,
    pub(crate) expires: u64,
    pub(crate) progress: u64,
    pub(crate) progressed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doc {
    pub(crate) seq: u64,
    pub(crate) state: State,
    pub(crate) reason: &'static str,
    pub(crate) version: u64,
    pub(crate) open: bool,
    pub(crate) due: u64,
    pub(crate) errors: u32,
    pub(crate) losses: u32,
    pub(crate) releases: u32,
    pub(crate) held: Option<Held>,
    pub(crate) checkpoint: Option<u32>,
    pub(crate) body: u32,
    pub(crate) flushed: bool,
    pub(crate) attempts: Vec<(usize, AttemptEnd)>,
    /// Version, state, reason and body at each end that it was taken up from.
    pub(crate) past: Vec<(u64, State, &'static str, u32)>,
    last: Option<usize>,
    next: Option<usize>,
    swap: Option<(u64, Op)>,
}

impl Doc {
    fn end(&mut self, how: AttemptEnd) -> Option<Held> {
        let held = self.held.take()?;
        self.attempts.push((held.lease, how));
        Some(held)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Request {
    worker: usize,
    request: usize,
    until: u64,
    leases: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) docs: [[Option<Doc>; ROWS]; RUNS],
    /// Leases given so far.
    pub(crate) leases: usize,
    paused: [bool; RUNS],
    requests: Vec<Request>,
}

impl Model {
    pub(crate) const fn new() -> Self {
        Self {
            now: 0,
            docs: [const { [const { None }; ROWS] }; RUNS],
            leases: 0,
            paused: [false; RUNS],
            requests: Vec::new(),
        }
    }

    pub(crate) fn docs(&self) -> impl Iterator<Item = ((usize, usize), &Doc)> {
        self.docs.iter().enumerate().flat_map(|(run, rows)| {
            rows.iter().enumerate().filter_map(move |(row, doc)| Some(((run, row), doc.as_ref()?)))
        })
    }

    pub(crate) fn live(&self) -> Vec<usize> {
        self.docs().filter_map(|(_, doc)| Some(doc.held.as_ref()?.lease)).collect()
    }

    fn doc(&mut self, (run, row): (usize, usize)) -> &mut Doc {
        self.docs[run][row].as_mut().expect("a document that was found")
    }

    fn find(&self, is: impl Fn(&Doc) -> bool) -> Option<(usize, usize)> {
        self.docs().find(|(_, doc)| is(doc)).map(|(place, _)| place)
    }

    fn holder(&self, lease: usize) -> Option<(usize, usize)> {
        self.find(|doc| doc.held.as_ref().is_some_and(|held| held.lease == lease))
    }

    fn committer(&self, lease: usize) -> Option<(usize, usize)> {
        self.find(|doc| doc.last == Some(lease))
    }

    /// `version` is what a swap names.
    pub(crate) fn step(&mut self, op: &Op, version: u64) -> Answer {
        match op {
            Op::Submit { run, rows, bad } => self.submit(*run, rows, *bad),
            Op::Lease { worker, request, slots } => self.lease(*worker, *request, *slots),
            Op::Renew { renewals } => self.renew(renewals),
            Op::Commit { lease, then, body, checkpoint } => self.commit(*lease, *then, *body, *checkpoint),
            Op::Lookup { lease } => match (self.holder(*lease), self.committer(*lease)) {
                (Some(place), _) => Answer::Live(place),
                (None, Some(place)) => Answer::Committed(place),
                (None, None) => Answer::Stale,
            },
            Op::Sweep { max_losses } => self.sweep(*max_losses),
            Op::Swap { run, row, .. } => self.swap((*run, *row), op, version),
            Op::Flush { run, rows } => self.flush(*run, rows),
            Op::Pause { run, paused } => {
                self.paused[*run] = *paused;
                Answer::Nothing
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
                state: if bad { State::Failed } else { State::Ready },
                reason: if bad { "bad_row" } else { "" },
                version: 1,
                open: false,
                due: 0,
                errors: 0,
                losses: 0,
                releases: 0,
                held: None,
                checkpoint: None,
                body: 0,
                flushed: false,
                attempts: Vec::new(),
                past: Vec::new(),
                last: None,
                next: None,
                swap: None,
            });
            seq += 1;
        }
        Answer::Submitted { inserted: seq - first }
    }

    fn lease(&mut self, worker: usize, request: usize, slots: usize) -> Answer {
        let now = self.now;
        self.requests.retain(|known| known.until > now);
        if let Some(known) = self.requests.iter().find(|known| (known.worker, known.request) == (worker, request)) {
            let held = known.leases.iter().filter_map(|&lease| Some((self.holder(lease)?, lease)));
            return Answer::Leased(held.collect());
        }
        if slots == 0 {
            return Answer::Leased(Vec::new());
        }
        let mut queues: Vec<Vec<(usize, usize)>> = Vec::new();
        for run in 0..RUNS {
            queues.push(if self.paused[run] { Vec::new() } else { self.queue(run) });
        }
        let mut taken = [0; RUNS];
        for _ in 0..slots {
            let waiting = (0..RUNS).filter(|&run| taken[run] < queues[run].len());
            let Some(run) = waiting.min_by_key(|&run| self.in_work(run) + taken[run]) else { break };
            taken[run] += 1;
        }
        let picked: Vec<_> = queues.iter().zip(taken).flat_map(|(queue, taken)| queue[..taken].to_vec()).collect();
        let mut leased = Vec::new();
        for place in picked {
            let lease = self.leases;
            self.leases += 1;
            let doc = self.doc(place);
            doc.state = State::Leased;
            doc.open = true;
            doc.version += 1;
            doc.held = Some(Held { lease, worker, granted: now, expires: now + LEASE, progress: 0, progressed: now });
            leased.push((place, lease));
        }
        if !leased.is_empty() {
            let leases = leased.iter().map(|(_, lease)| *lease).collect();
            self.requests.push(Request { worker, request, until: now + LEASE, leases });
        }
        Answer::Leased(leased)
    }

    fn in_work(&self, run: usize) -> usize {
        self.docs[run].iter().flatten().filter(|doc| doc.state == State::Leased).count()
    }

    /// What may be leased of a run, in order.
    fn queue(&mut self, run: usize) -> Vec<(usize, usize)> {
        let now = self.now;
        for doc in self.docs[run].iter_mut().flatten() {
            if doc.state == State::Delayed && doc.due <= now {
                doc.state = State::Ready;
                doc.due = 0;
                doc.version += 1;
            }
        }
        let open = self.docs[run].iter().flatten().filter(|doc| doc.open && !doc.state.is_terminal()).count();
        let new = if MAX_OPEN[run] == 0 { ROWS } else { MAX_OPEN[run].saturating_sub(open) };
        let mut ready: Vec<_> = self.docs().filter(|((of, _), doc)| *of == run && doc.state == State::Ready).collect();
        ready.sort_by_key(|(_, doc)| (!doc.open, doc.seq));
        let begun = ready.iter().filter(|(_, doc)| doc.open).count();
        ready.into_iter().take(begun + new).map(|(place, _)| place).collect()
    }

    fn renew(&mut self, renewals: &[(usize, u64, Option<u32>)]) -> Answer {
        let now = self.now;
        let mut lost = Vec::new();
        for &(lease, progress, checkpoint) in renewals {
            let Some(place) = self.holder(lease) else {
                lost.push(lease);
                continue;
            };
            let doc = self.doc(place);
            doc.checkpoint = checkpoint.or(doc.checkpoint);
            if let Some(held) = &mut doc.held {
                held.expires = now + LEASE;
                if progress > held.progress {
                    held.progress = progress;
                    held.progressed = now;
                }
            }
        }
        lost.sort_unstable();
        Answer::Lost(lost)
    }

    fn commit(&mut self, lease: usize, then: Then, body: Option<u32>, checkpoint: Option<u32>) -> Answer {
        let (now, next) = (self.now, self.leases);
        let Some(place) = self.holder(lease) else {
            return match self.committer(lease) {
                None => Answer::Stale,
                Some(place) => {
                    let doc = self.doc(place);
                    let lives = doc.held.as_ref().map(|held| held.lease).filter(|lease| Some(*lease) == doc.next);
                    Answer::Repeated(lives)
                }
            };
        };
        let doc = self.doc(place);
        let how = match then {
            Then::Retry | Then::End { state: State::Failed, .. } => AttemptEnd::Error,
            Then::Release => AttemptEnd::Released,
            Then::Continue { .. } | Then::End { .. } => AttemptEnd::Completed,
        };
        let ended = doc.end(how);
        doc.last = Some(lease);
        doc.next = None;
        doc.version += 1;
        doc.body = body.unwrap_or(doc.body);
        doc.checkpoint = if then == Then::Release { checkpoint.or(doc.checkpoint) } else { checkpoint };
        if matches!(then, Then::Continue { .. } | Then::End { .. }) {
            doc.errors = 0;
            doc.losses = 0;
        }
        doc.state = State::Ready;
        match then {
            Then::Continue { lease: false } => {}
            Then::Continue { lease: true } => {
                doc.state = State::Leased;
                doc.next = Some(next);
                let worker = ended.expect("a lease that was held").worker;
                let expires = now + LEASE;
                doc.held = Some(Held { lease: next, worker, granted: now, expires, progress: 0, progressed: now });
                self.leases += 1;
                return Answer::Done(Some(next));
            }
            Then::Retry => {
                doc.errors += 1;
                doc.state = State::Delayed;
                doc.due = now + BACK_OFF;
            }
            Then::Release => doc.releases += 1,
            Then::End { state, reason } => {
                doc.state = state;
                doc.reason = reason;
            }
        }
        Answer::Done(None)
    }

    fn sweep(&mut self, max_losses: u32) -> Answer {
        let now = self.now;
        let mut swept = Vec::new();
        for (run, rows) in self.docs.iter_mut().enumerate() {
            for (row, doc) in rows.iter_mut().enumerate() {
                let Some(doc) = doc else { continue };
                let over = |held: &Held| held.expires <= now || held.progressed + NO_PROGRESS <= now;
                if !doc.held.as_ref().is_some_and(over) {
                    continue;
                }
                let lease = doc.end(AttemptEnd::Lost).expect("a lease that was held").lease;
                doc.losses += 1;
                doc.version += 1;
                doc.state = State::Ready;
                if doc.losses >= max_losses {
                    doc.state = State::Failed;
                    doc.reason = "poison";
                    doc.checkpoint = None;
                }
                swept.push(((run, row), lease, doc.state));
            }
        }
        Answer::Swept(swept)
    }

    fn swap(&mut self, (run, row): (usize, usize), op: &Op, version: u64) -> Answer {
        let Some(doc) = &mut self.docs[run][row] else { return Answer::Unknown };
        if doc.version != version {
            let repeated = doc.version == version + 1 && doc.swap == Some((version, op.clone()));
            return Answer::Swapped(if repeated { Swapped::Done } else { Swapped::Changed });
        }
        let Op::Swap { state, reason, body, .. } = op else { return Answer::Unknown };
        doc.end(AttemptEnd::Released);
        if doc.state.is_terminal() && !state.is_terminal() {
            doc.past.push((doc.version, doc.state, doc.reason, doc.body));
        }
        doc.version += 1;
        doc.state = *state;
        doc.reason = if state.is_terminal() { reason } else { "" };
        doc.body = body.unwrap_or(doc.body);
        doc.checkpoint = None;
        doc.errors = 0;
        doc.losses = 0;
        doc.releases = 0;
        doc.due = 0;
        doc.flushed = false;
        doc.swap = Some((version, op.clone()));
        Answer::Swapped(Swapped::Done)
    }

    fn flush(&mut self, run: usize, rows: &[usize]) -> Answer {
        let mut ignored = Vec::new();
        for &row in rows {
            match &mut self.docs[run][row] {
                Some(doc) if doc.state == State::Accepted => {
                    doc.version += u64::from(!doc.flushed);
                    doc.flushed = true;
                }
                Some(_) | None => ignored.push(row),
            }
        }
        Answer::Ignored(ignored)
    }
}
