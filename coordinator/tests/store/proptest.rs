//! Random calls, each made twice, on a store and on the model: after each pair both hold the same. The model makes its
//! transitions with [`Envelope`], so this also compares the Lua scripts with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Attempt, Committed, Counts, Envelope, Filter, LeaseGrant, LeaseQuery, Lookup, NewDocument, Record, Renewal,
    Renewed, Run, StoreError, SweepLimits,
};
use longhand_proto::{DocumentId, LeaseId, RunId};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;

use crate::fixture::{Fixture, MINUTE, a_run, checkpoint, document, lease_of, worker};
use crate::model::{
    Answer, Doc, LEASE, MODELS, Model, NO_PROGRESS, Op, ROWS, RUNS, RenewalStep, Swap, Then, commit_call, lease_id,
    policy, run_id, sorted, text,
};

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
        // One that was never granted is among those that were.
        let any_lease = 0..=state.model.leases;
        live.push(state.model.leases);
        let lease = prop_oneof![4 => select(live), 1 => any_lease].boxed();
        let text = || prop::option::of(1..9_u32);
        let reason = || select(vec!["", "too_short", "refusal"]);
        let terminal = || select(vec![State::Accepted, State::Rejected, State::Failed, State::Cancelled]);
        let rows = || subsequence((0..ROWS).collect::<Vec<_>>(), 1..=ROWS);
        let then = prop_oneof![
            3 => (any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(lease, judge)| Then::Continue { lease, judge }),
            1 => Just(Then::Retry),
            1 => Just(Then::Release),
            2 => (terminal(), reason()).prop_map(|(state, reason)| Then::End { state, reason }),
        ];
        let token = prop::option::of((0..4_u32, 1..4_u32));
        let renewals = prop::collection::vec((lease.clone(), 0..4_u64, token), 1..3).prop_map(|mut renewals| {
            renewals.dedup_by_key(|(lease, ..)| *lease);
            renewals
        });
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
            2 => (0..RUNS, 0..ROWS, prop::bool::weighted(0.2), target, reason(), any::<bool>(), text()).prop_map(
                |(run, row, behind, state, reason, judge, body)| {
                    Op::Swap(Swap { run, row, behind, state, reason, judge, body })
                }
            ),
            2 => (0..RUNS, rows()).prop_map(|(run, rows)| Op::Flush { run, rows }),
            1 => (0..RUNS, any::<bool>()).prop_map(|(run, paused)| Op::Pause { run, paused }),
            1 => (0..RUNS, prop::bool::weighted(0.3)).prop_map(|(run, begin)| Op::Cancel { run, begin }),
            3 => (1..4_u64).prop_map(|ticks| Op::Pass { ticks }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, op: &Op) -> Self {
        if let Op::Swap(Swap { run, row, behind, .. }) = op {
            let latest = state.model.docs[*run][*row].as_ref().map_or(1, |doc| doc.envelope.version);
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

/// The store, and what the model's names stand for in it.
#[derive(Debug)]
struct Tested {
    fixture: Fixture,
    runs: Vec<RunId>,
    leases: Vec<LeaseId>,
    unknown: LeaseId,
    start_ms: u64,
}

impl Tested {
    async fn start(fixture: Fixture) -> Self {
        let runs: Vec<RunId> = (0..RUNS).map(run_id).collect();
        for (number, run) in runs.iter().enumerate() {
            let run = Run { policy: policy(number), ..a_run(run.as_str(), 1) };
            fixture.store.create_run(&run).await.unwrap();
        }
        let start_ms = fixture.store.now_ms().await.unwrap();
        Self { fixture, runs, leases: Vec::new(), unknown: LeaseId::mint(), start_ms }
    }

    fn lease(&self, number: usize) -> LeaseId {
        self.leases.get(number).copied().unwrap_or(self.unknown)
    }

    fn number(&self, lease: LeaseId) -> usize {
        self.leases.iter().position(|known| *known == lease).expect("a lease that was granted")
    }

    fn find(&self, id: DocumentId) -> (usize, usize) {
        let mut ids = (0..RUNS).flat_map(|run| (0..ROWS).map(move |row| (run, row)));
        ids.find(|(run, row)| self.id((*run, *row)) == id).expect("a document that was submitted")
    }

    fn id(&self, (run, row): (usize, usize)) -> DocumentId {
        document(&self.runs[run], row)
    }

    /// Makes the call and translates the answer into the model's.
    async fn step(&mut self, op: &Op, version: u64) -> Answer {
        let store = Arc::clone(&self.fixture.store);
        match op {
            Op::Submit { run, rows, bad } => {
                let new: Vec<NewDocument> = rows.iter().map(|row| self.row(*run, *row, *bad)).collect();
                let submitted = store.submit(&self.runs[*run], &new).await.unwrap();
                assert_eq!(submitted.inserted + submitted.existing, rows.len() as u64);
                Answer::Submitted { inserted: submitted.inserted }
            }
            Op::Lease { worker, request, slots } => self.step_lease(*worker, *request, *slots).await,
            Op::Renew { renewals } => self.step_renew(renewals).await,
            Op::Commit { lease, then, body, checkpoint } => self.step_commit(*lease, *then, *body, *checkpoint).await,
            Op::Lookup { lease } => match store.lookup(self.lease(*lease)).await.unwrap() {
                Lookup::Live(record) => Answer::Live(self.find(record.id)),
                Lookup::Committed(record) => Answer::Committed(self.find(record.id)),
                Lookup::Stale => Answer::Stale,
            },
            Op::Sweep { max_losses } => {
                let limits = SweepLimits {
                    max_losses: *max_losses,
                    max_losses_of: BTreeMap::new(),
                    no_progress_ms: NO_PROGRESS * HALF,
                    batch: 100,
                };
                let swept = store.sweep(&limits).await.unwrap().into_iter();
                let mut swept: Vec<_> =
                    swept.map(|it| (self.find(it.document), self.number(it.lease.id), it.state)).collect();
                swept.sort_unstable();
                Answer::Swept(swept)
            }
            Op::Swap(swap) => match store.swap(&swap.call(version)).await {
                Ok(swapped) => Answer::Swapped(swapped),
                Err(StoreError::NotFound { .. }) => Answer::Unknown,
                Err(error) => panic!("{error}"),
            },
            Op::Flush { run, rows } => {
                let ids: Vec<DocumentId> = rows.iter().map(|row| self.id((*run, *row))).collect();
                let ignored = store.mark_flushed(&self.runs[*run], &ids).await.unwrap();
                Answer::Ignored(ignored.into_iter().map(|id| self.find(id).1).collect())
            }
            Op::Pause { run, paused } => {
                let run = store.pause(&self.runs[*run], *paused).await.unwrap();
                assert_eq!(run.paused, *paused);
                Answer::Nothing
            }
            Op::Cancel { run, begin: true } => {
                store.cancel(&self.runs[*run]).await.unwrap();
                Answer::Nothing
            }
            Op::Cancel { run, begin: false } => Answer::Finished(store.finish_cancel(&self.runs[*run]).await.unwrap()),
            Op::Pass { ticks } => {
                self.fixture.pass(2 * ticks * HALF);
                Answer::Nothing
            }
        }
    }

    async fn step_lease(&mut self, who: usize, request: usize, slots: usize) -> Answer {
        let query = LeaseQuery {
            worker: worker(&who.to_string()),
            request_id: request.to_string(),
            slots: slots as u32,
            ttl_ms: LEASE * HALF,
            model: MODELS[who].into(),
            weights_hash: "w1".into(),
            except: Vec::new(),
        };
        let mut answer = Vec::new();
        for record in self.fixture.store.lease(&query).await.unwrap() {
            let id = lease_of(&record);
            if !self.leases.contains(&id) {
                self.leases.push(id);
            }
            answer.push((self.find(record.id), self.number(id)));
        }
        Answer::Leased(answer)
    }

    async fn step_renew(&self, renewals: &[RenewalStep]) -> Answer {
        let renewals: Vec<Renewal> = renewals
            .iter()
            .map(|(lease, progress, token)| Renewal {
                lease: self.lease(*lease),
                progress: *progress,
                checkpoint: token.map(|(_, token)| checkpoint(&[token])),
                from: token.map_or(0, |(from, _)| from),
            })
            .collect();
        let Renewed { lost, cancelled, unsaved } = self.fixture.store.renew(&renewals, LEASE * HALF).await.unwrap();
        let name = |id| if id == self.unknown { self.leases.len() } else { self.number(id) };
        Answer::Renewed([lost, cancelled, unsaved].map(|ids| sorted(ids.into_iter().map(name).collect())))
    }

    async fn step_commit(&mut self, lease: usize, then: Then, body: Option<u32>, tokens: Option<u32>) -> Answer {
        let minted = LeaseId::mint();
        let commit = commit_call(self.lease(lease), minted, then, body, tokens, HALF);
        let committed = self.fixture.store.commit(&commit).await.unwrap();
        if let Committed::Done(Some(grant)) = &committed {
            assert_eq!(grant.id, minted);
            self.leases.push(minted);
        }
        match committed {
            Committed::Done(grant) => Answer::Done(grant.map(|grant| self.number(grant.id))),
            Committed::Repeated(grant) => Answer::Repeated(grant.map(|grant| self.number(grant.id))),
            Committed::Stale => Answer::Stale,
            Committed::Cancelling => Answer::Cancelling,
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
                let record = self.fixture.get(id).await;
                assert_eq!(self.translated(record.clone()), expected_record(&record, doc));
                let attempts = self.fixture.store.attempts(id).await.unwrap();
                let attempts: Vec<Attempt> = attempts.into_iter().map(|it| self.translated_attempt(it)).collect();
                assert_eq!(attempts, doc.attempts);
                assert_eq!(self.fixture.store.history(id).await.unwrap(), doc.revisions);
                *counts.of_mut(doc.envelope.state) += 1;
                assert_eq!(&record.run, run);
                expected.push(record);
            }
            expected.sort_by_key(|record| record.seq);
            assert_eq!(self.fixture.store.counts(run).await.unwrap(), counts);
            assert_eq!(self.fixture.all(run).await, expected);
            for state in State::ALL {
                let filter = Filter { state: Some(state), reason: Some("too_short".into()) };
                let found = self.fixture.store.list(run, &filter, None, 9).await.unwrap().records;
                let is = |record: &&Record| record.state == state && record.reason == "too_short";
                assert_eq!(found, expected.iter().filter(is).cloned().collect::<Vec<_>>());
            }
            let waits = |record: &&Record| record.state == State::Accepted && !record.flushed;
            let unflushed: Vec<Record> = expected.iter().filter(waits).cloned().collect();
            assert_eq!(self.fixture.store.unflushed(run, 9).await.unwrap(), unflushed);
        }
    }

    /// The record with the model's leases and times.
    fn translated(&self, record: Record) -> Record {
        let lease = record.lease.map(|grant| LeaseGrant {
            id: lease_id(self.number(grant.id)),
            worker: grant.worker,
            granted_ms: self.half_ticks(grant.granted_ms),
            expires_ms: self.half_ticks(grant.expires_ms),
            progress: grant.progress,
            progress_ms: self.half_ticks(grant.progress_ms),
        });
        let due_ms = if record.due_ms == 0 { 0 } else { self.half_ticks(record.due_ms) };
        Record { lease, due_ms, ..record }
    }

    fn translated_attempt(&self, attempt: Attempt) -> Attempt {
        Attempt {
            lease: lease_id(self.number(attempt.lease)),
            granted_ms: self.half_ticks(attempt.granted_ms),
            ended_ms: self.half_ticks(attempt.ended_ms),
            ..attempt
        }
    }

    fn half_ticks(&self, ms: u64) -> u64 {
        (ms - self.start_ms) / HALF
    }
}

/// What the model says of a record; `actual` gives what it does not know.
fn expected_record(actual: &Record, doc: &Doc) -> Record {
    let Envelope { state, reason, version, open, judge, due_ms, counters, flushed, lease, .. } = doc.envelope.clone();
    let (checkpoint, body) = (doc.checkpoint.clone(), doc.body.clone());
    let Record { id, run, change_seq, changed_ms, .. } = actual.clone();
    let seq = doc.seq;
    Record {
        id,
        run,
        state,
        reason,
        version,
        seq,
        change_seq,
        changed_ms,
        open,
        judge,
        due_ms,
        counters,
        lease,
        checkpoint,
        body,
        flushed,
    }
}

/// One state machine test for each store.
macro_rules! machines {
    ($($store:ident $machine:ident $cases:literal;)*) => {$(
        #[derive(Debug)]
        struct $machine;

        impl StateMachineTest for $machine {
            type SystemUnderTest = (Runtime, Tested);
            type Reference = Reference;

            fn init_test(_: &Reference) -> (Runtime, Tested) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let tested = runtime.block_on(async { Tested::start(Fixture::$store().await).await });
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
                        tested.fixture.assert_sound(run).await;
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
