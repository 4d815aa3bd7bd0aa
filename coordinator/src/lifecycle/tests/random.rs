//! Random stories. The model beside the document is what a store keeps: who holds the lease, and three counters.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Lease,
    /// The holder writes what was asked for.
    Write,
    /// The holder writes something that cannot be used.
    WriteBadly(Fault),
    /// The holder reports an error.
    Fail {
        permanent: bool,
    },
    /// The lease runs out.
    Lose,
    /// The holder drains.
    Release,
    /// Somebody whose lease is gone hands in a text.
    WriteStale,
    Cancel,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Empty,
    Loop,
    Cut,
}

fn event() -> impl Strategy<Value = Event> {
    let fault = prop_oneof![Just(Fault::Empty), Just(Fault::Loop), Just(Fault::Cut)];
    prop_oneof![
        8 => Just(Event::Lease),
        8 => Just(Event::Write),
        2 => fault.prop_map(Event::WriteBadly),
        1 => Just(Event::Fail { permanent: false }),
        2 => Just(Event::Lose),
        1 => Just(Event::Release),
        2 => Just(Event::WriteStale),
    ]
}

/// Rare events that end a document by force, spread over a story.
fn story() -> impl Strategy<Value = Vec<Event>> {
    let ends = prop::option::weighted(0.3, prop_oneof![Just(Event::Cancel), Just(Event::Fail { permanent: true })]);
    (prop::collection::vec(event(), 0..60), ends, any::<prop::sample::Index>()).prop_map(|(mut events, end, at)| {
        if let Some(end) = end {
            let at = at.index(events.len() + 1);
            events.insert(at, end);
        }
        events
    })
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counters {
    errors: u32,
    losses: u32,
    releases: u32,
}

/// What a store keeps of one document.
struct StoreModel {
    recipe: Recipe,
    document: Document,
    /// Number of the live lease.
    live: Option<u32>,
    leases: u32,
    counters: Counters,
    ended: Option<(State, String)>,
}

impl StoreModel {
    fn new() -> Self {
        let mut recipe = plain();
        recipe.filters = lenient().with("max_truncated", 1);
        recipe.judge.votes = 2;
        (recipe.rolling.max_words, recipe.rolling.keep_words) = (40, 10);
        Self { recipe, document: document(), live: None, leases: 0, counters: Counters::default(), ended: None }
    }

    fn task(&self) -> Option<Task> {
        self.document.next_task(&self.recipe).unwrap()
    }

    /// The end of an attempt, as a store takes it: only with the live lease.
    fn complete(&mut self, lease: Option<u32>, outcome: Outcome) {
        if lease.is_none() || lease != self.live {
            return;
        }
        self.live = None;
        let before = self.document.clone();
        let applied = self.document.apply(&self.recipe, outcome);
        match applied {
            Transition::NextTask => {
                self.counters = Counters { releases: self.counters.releases, ..Counters::default() };
                let (old, new) = (before.sections(), self.document.sections());
                let added = usize::from(before.current().0 == TaskKind::Section);
                assert_eq!(new.len(), old.len() + added, "one section at a time");
                assert_eq!(&new[..old.len()], old, "what is written stays");
            }
            Transition::Retry { errors, .. } => {
                self.counters.errors += 1;
                assert_eq!(errors, self.counters.errors);
                assert!(errors < self.recipe.retry.max_errors);
                assert_eq!(before.sections(), self.document.sections());
            }
            Transition::SectionRejected(_) => {
                self.counters = Counters { releases: self.counters.releases, ..Counters::default() };
                assert_eq!(before.sections(), self.document.sections());
                assert!(self.document.rejections.len() < self.recipe.section.tries as usize);
                assert!(self.document.failed_tries() > before.failed_tries(), "another seed");
            }
            Transition::Ended { state, reason } => self.end(state, reason),
        }
    }

    fn end(&mut self, state: State, reason: String) {
        assert_eq!(self.ended, None, "ended twice");
        assert!(state.is_terminal());
        self.live = None;
        self.ended = Some((state, reason));
    }

    fn apply(&mut self, event: &Event) {
        let (before, counters) = (self.document.clone(), self.counters);
        let holder = self.live;
        match event {
            Event::Lease if holder.is_none() && self.ended.is_none() => {
                self.leases += 1;
                self.live = Some(self.leases);
            }
            Event::Lease => {}
            Event::Write => self.write(holder),
            Event::WriteBadly(fault) => {
                let outcome = match fault {
                    Fault::Empty => good("  "),
                    Fault::Loop => written("so so so", FinishReason::Repetition),
                    Fault::Cut => written(&prose(u64::from(self.leases)), FinishReason::Length),
                };
                self.complete(holder, outcome);
            }
            Event::Fail { permanent } => self.complete(holder, failure("engine", *permanent)),
            Event::Lose if holder.is_some() => {
                self.live = None;
                self.counters.losses += 1;
            }
            Event::Release if holder.is_some() => {
                self.live = None;
                self.counters.releases += 1;
            }
            Event::Lose | Event::Release => {}
            Event::WriteStale => {
                self.write(holder.map(|lease| lease.wrapping_sub(1)));
                assert_eq!(self.document, before, "a stale lease changes nothing");
                assert_eq!(self.counters, counters);
            }
            Event::Cancel => match self.document.cancel() {
                Ok(Transition::Ended { state, reason }) => self.end(state, reason),
                Ok(other) => panic!("{other:?}"),
                Err(_) => assert!(self.ended.is_some()),
            },
        }
        if matches!(event, Event::Lose | Event::Release | Event::Lease) {
            assert_eq!(self.document, before, "only what a worker says moves a document");
            assert_eq!(self.counters.errors, counters.errors);
        }
        self.check();
    }

    fn write(&mut self, lease: Option<u32>) {
        let Some(task) = self.task() else { return };
        let text = match task.kind {
            TaskKind::Plan => plan_text(3),
            TaskKind::Section | TaskKind::Summary => prose(task.seed),
            TaskKind::Judge => verdict(task.seed),
        };
        self.complete(lease, good(&text));
    }

    /// What holds at every moment.
    fn check(&self) {
        assert_eq!(self.ended, self.document.ended());
        match self.task() {
            None => assert!(self.ended.is_some(), "without a task and not at an end: lost"),
            Some(task) => {
                assert_eq!(self.ended, None);
                let index = match task.kind {
                    TaskKind::Plan => 0,
                    TaskKind::Section => self.document.sections().len(),
                    TaskKind::Summary => self.document.summaries.len(),
                    TaskKind::Judge => self.document.votes().len(),
                };
                assert_eq!((task.kind, task.section as usize), (self.document.current().0, index));
                assert_eq!(self.document.errors, self.counters.errors, "losses and releases are no errors");
            }
        }
        if let (Some((State::Accepted | State::Rejected, reason)), Some(plan)) = (&self.ended, self.document.plan()) {
            let whole = self.document.sections().len() == plan.steps.len();
            assert!(whole || reason == "truncated", "finished with steps left: {reason}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_story_keeps_the_contract_and_comes_to_one_end(story in story()) {
        let mut model = StoreModel::new();
        for event in &story {
            model.apply(event);
        }
        // Left to diligent workers, it ends: a plan, its repair, three sections, a summary, two votes.
        for _ in 0..8 {
            model.apply(&Event::Lease);
            model.apply(&Event::Write);
        }
        prop_assert!(model.ended.is_some());
        let document = model.document.clone();
        for event in &story {
            model.apply(event);
        }
        prop_assert_eq!(model.document, document, "an end is an end");
    }

    #[test]
    fn a_worker_that_only_fails_is_not_tried_for_ever(faults in prop::collection::vec(event(), 40)) {
        let mut model = StoreModel::new();
        for fault in &faults {
            model.apply(&Event::Lease);
            let fails = matches!(fault, Event::WriteBadly(_) | Event::Fail { .. });
            model.apply(if fails { fault } else { &Event::Fail { permanent: false } });
        }
        let (state, _) = model.ended.unwrap();
        prop_assert!(matches!(state, State::Failed | State::Rejected));
    }
}
