use longhand_proto::task::{Message, ModelInfo, WorkerStatus};

use super::*;

const NOW: u64 = 1_000_000;

fn run(policy: RunPolicy) -> Run {
    Run {
        id: "ships".parse().unwrap(),
        recipe: String::new(),
        recipe_hash: String::new(),
        seed: 0,
        created_ms: 1,
        policy,
        paused: false,
        cancelling: false,
    }
}

fn of_models(model: &str, judge: &str) -> Run {
    run(RunPolicy { model: model.into(), judge: judge.into(), ..RunPolicy::default() })
}

fn any() -> Run {
    run(RunPolicy::default())
}

fn worker(model: &str, held: u32) -> WorkerRecord {
    WorkerRecord {
        worker: "here-1".parse().unwrap(),
        report: WorkerStatus {
            model: ModelInfo { name: model.into(), ..ModelInfo::default() },
            slots: 2,
            held,
            ..WorkerStatus::default()
        },
        seen_ms: NOW - 3_000,
        drain: false,
    }
}

fn ready() -> Counts {
    Counts { ready: 5, ..Counts::default() }
}

fn why(run: &Run, counts: &Counts, workers: &[WorkerRecord]) -> Option<Stall> {
    let waiting = Waiting { due_ms: Some(NOW + 7_500), ..Waiting::default() };
    why_stalled(run, counts, workers, StoreState::default(), &waiting, NOW)
}

#[test]
fn a_run_that_moves_or_ended_has_no_cause() {
    let leased = Counts { leased: 1, ..ready() };
    assert_eq!(why(&any(), &leased, &[worker("m", 2)]), None);
    assert_eq!(why(&any(), &ready(), &[worker("m", 1)]), None, "the worker asks in a moment");
    assert_eq!(why(&any(), &Counts { failed: 3, ..Counts::default() }, &[]), None);
    let paused = Run { paused: true, ..any() };
    assert_eq!(why(&paused, &leased, &[worker("m", 1)]), None, "what is leased is finished");
}

#[test]
fn no_worker() {
    assert_eq!(why(&any(), &ready(), &[]), Some(Stall::NoWorker));
    let gone = WorkerRecord { seen_ms: NOW - SILENT_MS - 1, ..worker("m", 0) };
    let leaving = WorkerRecord { drain: true, ..worker("m", 0) };
    assert_eq!(why(&any(), &ready(), &[gone, leaving]), Some(Stall::NoWorker));
}

#[test]
fn no_worker_with_the_model() {
    let run = of_models("big", "");
    assert_eq!(why(&run, &ready(), &[worker("small", 0)]), Some(Stall::NoModel { model: "big".into() }));
    assert_eq!(why(&run, &ready(), &[worker("small", 0), worker("big", 0)]), None);
}

#[test]
fn workers_full() {
    let workers = [worker("m", 2), worker("m", 2)];
    assert_eq!(why(&any(), &ready(), &workers), Some(Stall::WorkersFull { workers: 2 }));
}

#[test]
fn paused() {
    let paused = Run { paused: true, ..any() };
    let cause = why(&paused, &ready(), &[]).unwrap();
    assert_eq!((&cause, cause.label()), (&Stall::Paused, "paused"));
    assert!(cause.message(&paused.id).contains("longhand resume ships"));
}

#[test]
fn backing_off_until() {
    let delayed = Counts { delayed: 4, ..Counts::default() };
    let cause = Stall::BackingOff { until_ms: NOW + 7_500, wait_ms: 7_500 };
    assert_eq!(why(&any(), &delayed, &[worker("m", 0)]), Some(cause.clone()));
    assert!(cause.message(&any().id).contains("due in 8 s"), "{}", cause.message(&any().id));
    let bounded = run(RunPolicy { max_open: 4, ..RunPolicy::default() });
    assert_eq!(why(&bounded, &Counts { delayed: 4, ..ready() }, &[worker("m", 0)]), Some(cause));
}

#[test]
fn store_slow_or_refusing() {
    let of = |store| {
        why_stalled(&any(), &Counts { leased: 1, ..ready() }, &[worker("m", 1)], store, &Waiting::default(), NOW)
    };
    let slow = StoreState { problem: None, read: Duration::from_millis(2_300) };
    assert_eq!(of(slow), Some(Stall::StoreSlow { read_ms: 2_300 }));
    let full = StoreState { problem: Some("store is full"), read: Duration::ZERO };
    assert_eq!(of(full), Some(Stall::StoreRefuses { problem: "store is full".into() }));
}

#[test]
fn engine_server_refuses() {
    let mut waits = worker("m", 1);
    waits.report.problem = "503: overloaded".into();
    let leased = Counts { leased: 1, ..ready() };
    let cause = Some(Stall::EngineRefuses { problem: "503: overloaded".into() });
    assert_eq!(why(&any(), &leased, std::slice::from_ref(&waits)), cause);
    assert_eq!(why(&any(), &leased, &[waits, worker("m", 1)]), None, "another one writes");
}

#[test]
fn judge_missing() {
    let run = of_models("w", "j");
    assert_eq!(why(&run, &ready(), &[worker("w", 0)]), Some(Stall::JudgeMissing { model: "j".into() }));
    assert_eq!(why(&run, &ready(), &[worker("w", 0), worker("j", 0)]), None);
}

#[test]
fn no_worker_supports_the_next_task() {
    let why = |run: &Run, kind, workers: &[WorkerRecord]| {
        let waiting = Waiting { kinds: [TaskKind::Plan, kind].into(), ..Waiting::default() };
        why_stalled(run, &ready(), workers, StoreState::default(), &waiting, NOW)
    };
    let old = worker("m", 0);
    let mut new = worker("m", 0);
    new.report.kinds = TaskKind::ALL.map(|kind| kind.as_str().to_owned()).to_vec();
    let cause = Stall::TaskUnsupported { kind: TaskKind::Summary };
    assert_eq!(why(&any(), TaskKind::Summary, std::slice::from_ref(&old)), Some(cause.clone()));
    assert!(cause.message(&any().id).contains("tasks of kind summary"), "{}", cause.message(&any().id));
    assert_eq!(why(&any(), TaskKind::Judge, std::slice::from_ref(&old)), None, "older builds know votes");
    assert_eq!(why(&any(), TaskKind::Summary, &[old, new]), None, "one worker is enough");

    let mut judge = worker("j", 0);
    judge.report.kinds = vec!["plan".into()];
    let cause = Some(Stall::TaskUnsupported { kind: TaskKind::Judge });
    assert_eq!(why(&of_models("m", "j"), TaskKind::Judge, &[worker("m", 0), judge]), cause);
    assert_eq!(
        why(&of_models("m", "j"), TaskKind::Judge, &[worker("m", 0)]),
        Some(Stall::JudgeMissing { model: "j".into() })
    );
}

#[test]
fn recipe_unreadable() {
    let waiting = Waiting { recipe_problem: Some("unknown field".into()), ..Waiting::default() };
    let cause = why_stalled(&any(), &ready(), &[worker("m", 0)], StoreState::default(), &waiting, NOW);
    assert_eq!(cause, Some(Stall::RecipeUnreadable { problem: "unknown field".into() }));
}

#[tokio::test]
async fn the_next_task_is_read_from_the_store() {
    use crate::domain::document::Document;
    use crate::domain::instruction::Instruction;
    use crate::domain::language::Language;
    use crate::store::{DocumentStore, NewDocument, RunStore, SqliteStore, WorkerStore};

    let store = SqliteStore::in_memory(|| NOW).unwrap();
    let run = any();
    store.create_run(&run).await.unwrap();
    let messages = vec![Message { role: "user".into(), content: "Write about a port.".into() }];
    let instruction = Instruction {
        id: None,
        messages,
        language: Language::En,
        required_words: None,
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: 1,
    };
    let document = Document::new(&run.id, instruction, 0, 1, String::new());
    let body = serde_json::to_string(&document).unwrap();
    store.submit(&run.id, &[NewDocument { id: document.id, body, failed: None }]).await.unwrap();
    let mut old = worker("m", 0);
    old.report.kinds = vec!["section".into()];
    store.heartbeat(&old.worker, &old.report).await.unwrap();
    let (counts, stall) = StallFinder::new(&store, None, BTreeMap::new()).counts(&run).await.unwrap();
    assert_eq!((counts.ready, stall), (1, Some(Stall::TaskUnsupported { kind: TaskKind::Plan })));
    let broken = BTreeMap::from([(run.id.clone(), "line 1: no such key".to_owned())]);
    let (_, stall) = StallFinder::new(&store, None, broken).counts(&run).await.unwrap();
    assert_eq!(stall, Some(Stall::RecipeUnreadable { problem: "line 1: no such key".into() }));
}

#[test]
fn a_worker_that_is_passed_over_is_told_why() {
    let why = |run: &Run, counts: Counts| why_passed_over(run, &counts, "small", "").unwrap_or_default();
    assert_eq!(why(&any(), Counts { accepted: 3, ..Counts::default() }), "", "it has ended");
    assert!(why(&of_models("big", ""), ready()).contains("requires model big, and this worker has small"));
    assert!(why(&of_models("big", "small"), ready()).contains("nothing to judge"));
    assert!(why(&Run { paused: true, ..any() }, ready()).contains("run ships is paused"));
    assert!(why(&Run { cancelling: true, ..any() }, ready()).contains("being cancelled"));
    assert!(why(&any(), Counts { leased: 2, ..Counts::default() }).contains("2 in progress"));
    assert!(why(&any(), Counts { delayed: 2, ..Counts::default() }).contains("backs off"));
    let bounded = run(RunPolicy { max_open: 4, ..RunPolicy::default() });
    assert!(why(&bounded, Counts { leased: 4, ..ready() }).contains("as it may (4)"));
}

#[test]
fn every_cause_has_its_own_label() {
    let causes = [
        Stall::StoreRefuses { problem: String::new() },
        Stall::StoreSlow { read_ms: 0 },
        Stall::Paused,
        Stall::EngineRefuses { problem: String::new() },
        Stall::NoWorker,
        Stall::NoModel { model: String::new() },
        Stall::RecipeUnreadable { problem: String::new() },
        Stall::TaskUnsupported { kind: TaskKind::Plan },
        Stall::JudgeMissing { model: String::new() },
        Stall::BackingOff { until_ms: 0, wait_ms: 0 },
        Stall::WorkersFull { workers: 1 },
    ];
    assert_eq!(causes.each_ref().map(Stall::label), Stall::LABELS);
    for cause in causes {
        assert!(!cause.message(&any().id).contains('\n'));
    }
}
