//! Random calls, each made twice, on a store and on the model: after each pair both hold the same.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    AttemptEnd, Commit, Committed, Counts, Filter, LeaseQuery, Lookup, NewDocument, Next, Past, Record, Renewal, Run,
    StoreError, Swap, SweepLimits, Terms,
};
use longhand_proto::{DocumentId, LeaseId, RunId};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::bench::{Bench, MINUTE, a_run, checkpoint, document, run, worker};
use crate::model::{Answer, BACK_OFF, LEASE, MAX_OPEN, Model, NO_PROGRESS, Op, ROWS, RUNS, Then};

/// A half tick. Longer than any test takes on any machine.
const HALF: u64 = 100 * MINUTE;

/// The model with the latest call and what must be answered to it the first time and the second.
#[derive(Debug, Clone)]
struct Reference {
    model: Model,
    version: u64,
    first: Answer,
    second: Answer,
}

impl ReferenceStateMachine for Reference {
    type State = Self;
    type Transition = Op;

    fn init_state() -> BoxedStrategy<Self> {
        let start = Self { model: Model::new(), version: 0, first: Answer::Nothing, second: Answer::Nothing };
        Just(start).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Op> {
        let mut live = state.model.live();
        // One that was never given stands among those that were.
        let any_lease = 0..=state.model.leases;
        live.push(state.model.leases);
        let lease = prop_oneof![4 => select(live), 1 => any_lease].boxed();
        let text = || prop::option::of(1..9_u32);
        let reason = || select(vec!["", "too_short", "refusal"]);
        let terminal = || select(vec![State::Accepted, State::Rejected, State::Failed, State::Cancelled]);
        let rows = || subsequence((0..ROWS).collect::<Vec<_>>(), 1..=ROWS);
        let then = prop_oneof![
            3 => any::<bool>().prop_map(|lease| Then::Continue { lease }),
            1 => Just(Then::Retry),
            1 => Just(Then::Release),
            2 => (terminal(), reason()).prop_map(|(state, reason)| Then::End { state, reason }),
        ];
        let renewals = prop::collection::vec((lease.clone(), 0..4_u64, text()), 1..3);
        let target = prop_oneof![Just(State::Ready), terminal()];
        prop_oneof![
            2 => (0..RUNS, rows(), prop::bool::weighted(0.2)).prop_map(|(run, rows, bad)| Op::Submit { run, rows, bad }),
            5 => (0..2_usize, 0..3_usize, 0..4_usize)
                .prop_map(|(worker, request, slots)| Op::Lease { worker, request, slots }),
            3 => renewals.prop_map(|renewals| Op::Renew { renewals }),
            6 => (lease.clone(), then, text(), text())
                .prop_map(|(lease, then, body, checkpoint)| Op::Commit { lease, then, body, checkpoint }),
            1 => lease.prop_map(|lease| Op::Lookup { lease }),
            3 => (2..4_u32).prop_map(|max_losses| Op::Sweep { max_losses }),
            2 => (0..RUNS, 0..ROWS, prop::bool::weighted(0.2), target, reason(), text()).prop_map(
                |(run, row, behind, state, reason, body)| Op::Swap { run, row, behind, state, reason, body }
            ),
            2 => (0..RUNS, rows()).prop_map(|(run, rows)| Op::Flush { run, rows }),
            1 => (0..RUNS, any::<bool>()).prop_map(|(run, paused)| Op::Pause { run, paused }),
            3 => (1..4_u64).prop_map(|ticks| Op::Pass { ticks }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, op: &Op) -> Self {
        if let Op::Swap { run, row, behind, .. } = op {
            let latest = state.model.docs[*run][*row].as_ref().map_or(1, |doc| doc.version);
            state.version = latest - u64::from(*behind);
        }
        state.first = state.model.step(op, state.version);
        if repeatable(op) {
            let once = state.model.clone();
            state.second = state.model.step(op, state.version);
            assert_eq!(once, state.model, "the contract itself: a repeated {op:?} changes nothing");
        }
        state
    }
}

/// Two sweeps are two sweeps, and time passes twice.
fn repeatable(op: &Op) -> bool {
    !matches!(op, Op::Sweep { .. } | Op::Pass { .. })
}

/// The store, and what the model's names mean in it.
#[derive(Debug)]
struct Tested {
    bench: Bench,
    runs: Vec<RunId>,
    leases: Vec<LeaseId>,
    unknown: LeaseId,
    start_ms: u64,
}

impl Tested {
    async fn start(bench: Bench) -> Self {
        let runs: Vec<RunId> = (0..RUNS).map(|number| run(&format!("run-{number}"))).collect();
        for (run, max_open) in runs.iter().zip(MAX_OPEN) {
            let terms = Terms { max_open: max_open as u32, ..Terms::default() };
            bench.store.create_run(&Run { terms, ..a_run(run.as_str(), 1) }).await.unwrap();
        }
        let start_ms = bench.store.now_ms().await.unwrap();
        Self { bench, runs, leases: Vec::new(), unknown: LeaseId::mint(), start_ms }
    }

    fn lease(&self, number: usize) -> LeaseId {
        self.leases.get(number).copied().unwrap_or(self.unknown)
    }

    fn number(&self, lease: LeaseId) -> usize {
        self.leases.iter().position(|known| *known == lease).expect("a lease that was given")
    }

    fn place(&self, id: DocumentId) -> (usize, usize) {
        let mut places = (0..RUNS).flat_map(|run| (0..ROWS).map(move |row| (run, row)));
        places.find(|(run, row)| self.id((*run, *row)) == id).expect("a document that was submitted")
    }

    fn id(&self, (run, row): (usize, usize)) -> DocumentId {
        document(&self.runs[run], row)
    }

    /// Makes the call and says in the model's words what was answered.
    async fn step(&mut self, op: &Op, version: u64) -> Answer {
        let store = &self.bench.store;
        match op {
            Op::Submit { run, rows, bad } => {
                let new: Vec<NewDocument> = rows.iter().map(|row| self.row(*run, *row, *bad)).collect();
                let submitted = store.submit(&self.runs[*run], &new).await.unwrap();
                assert_eq!(submitted.inserted + submitted.existing, rows.len() as u64);
                Answer::Submitted { inserted: submitted.inserted }
            }
            Op::Lease { worker: name, request, slots } => {
                let query = LeaseQuery {
                    worker: worker(&name.to_string()),
                    request_id: request.to_string(),
                    slots: *slots as u32,
                    ttl_ms: LEASE * HALF,
                    model: "small".into(),
                    weights_hash: "w1".into(),
                };
                let leased = store.lease(&query).await.unwrap();
                let mut answer = Vec::new();
                for record in leased {
                    let id = crate::bench::lease_of(&record);
                    if !self.leases.contains(&id) {
                        self.leases.push(id);
                    }
                    answer.push((self.place(record.id), self.number(id)));
                }
                Answer::Leased(answer)
            }
            Op::Renew { renewals } => {
                let renewals: Vec<Renewal> = renewals
                    .iter()
                    .map(|(lease, progress, tokens)| Renewal {
                        lease: self.lease(*lease),
                        progress: *progress,
                        checkpoint: tokens.map(|token| checkpoint(&[token])),
                    })
                    .collect();
                let lost = store.renew(&renewals, LEASE * HALF).await.unwrap();
                let name = |id| if id == self.unknown { self.leases.len() } else { self.number(id) };
                let mut lost: Vec<usize> = lost.into_iter().map(name).collect();
                lost.sort_unstable();
                Answer::Lost(lost)
            }
            Op::Commit { lease, then, body, checkpoint: tokens } => {
                let minted = LeaseId::mint();
                let next = match *then {
                    Then::Continue { lease } => Next::Continue { lease: lease.then_some(minted) },
                    Then::Retry => Next::Retry { delay_ms: BACK_OFF * HALF },
                    Then::Release => Next::Release,
                    Then::End { state, reason } => Next::End { state, reason: reason.into() },
                };
                let commit = Commit {
                    lease: self.lease(*lease),
                    body: body.map(text),
                    checkpoint: tokens.map(|token| checkpoint(&[token])),
                    next,
                    detail: json!({}),
                    ttl_ms: LEASE * HALF,
                };
                let committed = store.commit(&commit).await.unwrap();
                if let Committed::Done(Some(grant)) = &committed {
                    assert_eq!(grant.id, minted);
                    self.leases.push(minted);
                }
                match committed {
                    Committed::Done(grant) => Answer::Done(grant.map(|grant| self.number(grant.id))),
                    Committed::Repeated(grant) => Answer::Repeated(grant.map(|grant| self.number(grant.id))),
                    Committed::Stale => Answer::Stale,
                }
            }
            Op::Lookup { lease } => match store.lookup(self.lease(*lease)).await.unwrap() {
                Lookup::Live(record) => Answer::Live(self.place(record.id)),
                Lookup::Committed(record) => Answer::Committed(self.place(record.id)),
                Lookup::Stale => Answer::Stale,
            },
            Op::Sweep { max_losses } => {
                let limits = SweepLimits { max_losses: *max_losses, no_progress_ms: NO_PROGRESS * HALF, batch: 100 };
                let swept = store.sweep(&limits).await.unwrap();
                let mut swept: Vec<_> = swept
                    .into_iter()
                    .map(|swept| (self.place(swept.document), self.number(swept.lease.id), swept.state))
                    .collect();
                swept.sort_unstable();
                Answer::Swept(swept)
            }
            Op::Swap { run, row, state, reason, body, .. } => {
                let swap = Swap {
                    document: self.id((*run, *row)),
                    version,
                    state: *state,
                    reason: (*reason).into(),
                    judge: false,
                    body: body.map(text),
                };
                match store.swap(&swap).await {
                    Ok(swapped) => Answer::Swapped(swapped),
                    Err(StoreError::NotFound { .. }) => Answer::Unknown,
                    Err(error) => panic!("{error}"),
                }
            }
            Op::Flush { run, rows } => {
                let ids: Vec<DocumentId> = rows.iter().map(|row| self.id((*run, *row))).collect();
                let ignored = store.mark_flushed(&self.runs[*run], &ids).await.unwrap();
                Answer::Ignored(ignored.into_iter().map(|id| self.place(id).1).collect())
            }
            Op::Pause { run, paused } => {
                let run = store.pause(&self.runs[*run], *paused).await.unwrap();
                assert_eq!(run.paused, *paused);
                Answer::Nothing
            }
            Op::Pass { ticks } => {
                self.bench.pass(2 * ticks * HALF);
                Answer::Nothing
            }
        }
    }

    fn row(&self, run: usize, row: usize, bad: bool) -> NewDocument {
        NewDocument { id: self.id((run, row)), body: text(0), failed: bad.then(|| "bad_row".into()) }
    }

    /// All that the store shows is what the model holds.
    async fn compare(&self, model: &Model) {
        for (number, run) in self.runs.iter().enumerate() {
            let mut expected: Vec<Record> = Vec::new();
            let mut counts = Counts::default();
            for ((_, row), doc) in model.docs().filter(|((of, _), _)| *of == number) {
                let id = self.id((number, row));
                let mut record = self.bench.get(id).await;
                self.compare_record(&record, doc);
                let attempts = self.bench.store.attempts(id).await.unwrap();
                let attempts: Vec<(usize, AttemptEnd)> =
                    attempts.iter().map(|attempt| (self.number(attempt.lease), attempt.end)).collect();
                assert_eq!(attempts, doc.attempts);
                let history = self.bench.store.history(id).await.unwrap();
                let past = |(version, state, reason, body): &(u64, State, &str, u32)| Past {
                    version: *version,
                    state: *state,
                    reason: (*reason).into(),
                    body: text(*body),
                };
                assert_eq!(history, doc.past.iter().map(past).collect::<Vec<_>>());
                *counts.of_mut(doc.state) += 1;
                record.run.clone_from(run);
                expected.push(record);
            }
            expected.sort_by_key(|record| record.seq);
            assert_eq!(self.bench.store.counts(run).await.unwrap(), counts);
            assert_eq!(self.bench.all(run).await, expected);
            for state in State::ALL {
                let filter = Filter { state: Some(state), reason: Some("too_short".into()) };
                let found = self.bench.store.list(run, &filter, None, 9).await.unwrap().records;
                let is = |record: &&Record| record.state == state && record.reason == "too_short";
                assert_eq!(found, expected.iter().filter(is).cloned().collect::<Vec<_>>());
            }
            let waits = |record: &&Record| record.state == State::Accepted && !record.flushed;
            let unflushed: Vec<Record> = expected.iter().filter(waits).cloned().collect();
            assert_eq!(self.bench.store.unflushed(run, 9).await.unwrap(), unflushed);
        }
    }

    fn compare_record(&self, record: &Record, doc: &crate::model::Doc) {
        assert_eq!(
            (record.seq, record.state, record.reason.as_str(), record.version, record.open, record.flushed),
            (doc.seq, doc.state, doc.reason, doc.version, doc.open, doc.flushed)
        );
        let counters = record.counters;
        assert_eq!((counters.errors, counters.losses, counters.releases), (doc.errors, doc.losses, doc.releases));
        assert_eq!(record.body, text(doc.body));
        assert_eq!(record.checkpoint, doc.checkpoint.map(|token| checkpoint(&[token])));
        assert_eq!(if record.due_ms == 0 { 0 } else { self.half_ticks(record.due_ms) }, doc.due);
        let held = record.lease.as_ref().map(|grant| crate::model::Held {
            lease: self.number(grant.id),
            worker: grant.worker.as_str().parse().unwrap(),
            granted: self.half_ticks(grant.granted_ms),
            expires: self.half_ticks(grant.expires_ms),
            progress: grant.progress,
            progressed: self.half_ticks(grant.progress_ms),
        });
        assert_eq!(held, doc.held);
    }

    fn half_ticks(&self, ms: u64) -> u64 {
        (ms - self.start_ms) / HALF
    }
}

fn text(number: u32) -> String {
    format!("{{\"text\": {number}}}")
}

/// One machine for each store.
macro_rules! machines {
    ($($store:ident $machine:ident $cases:literal;)*) => {$(
        #[derive(Debug)]
        struct $machine;

        impl StateMachineTest for $machine {
            type SystemUnderTest = (Runtime, Tested);
            type Reference = Reference;

            fn init_test(_: &Reference) -> (Runtime, Tested) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let tested = runtime.block_on(async { Tested::start(Bench::$store().await).await });
                (runtime, tested)
            }

            fn apply((runtime, mut tested): (Runtime, Tested), reference: &Reference, op: Op) -> (Runtime, Tested) {
                runtime.block_on(async {
                    let first = tested.step(&op, reference.version).await;
                    assert_eq!(first, reference.first, "{op:?}");
                    if repeatable(&op) {
                        let second = tested.step(&op, reference.version).await;
                        assert_eq!(second, reference.second, "{op:?} once more");
                    }
                    tested.compare(&reference.model).await;
                });
                (runtime, tested)
            }

            fn teardown((runtime, tested): (Runtime, Tested), _: Reference) {
                runtime.block_on(async {
                    for run in &tested.runs {
                        tested.bench.assert_sound(run).await;
                    }
                });
            }
        }

        prop_state_machine! {
            #![proptest_config(ProptestConfig { cases: $cases, failure_persistence: None, ..ProptestConfig::default() })]
            #[test]
            fn $store(sequential 20..60 => $machine);
        }
    )*};
}

machines! {
    memory OnMemory 64;
    file OnFile 12;
    redis OnRedis 16;
    valkey OnValkey 16;
}
