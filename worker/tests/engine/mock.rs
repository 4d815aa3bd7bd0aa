//! The test double: what the tests of everything above the engine rely on.

use futures::FutureExt;
use longhand_proto::task::{FinishReason, TaskKind};
use longhand_proto::words;
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};
use longhand_worker::engine::{Engine, Event};

use crate::tasks::{length, read, task};

fn mock() -> MockEngine {
    MockEngine::new(MockOptions::default())
}

fn faulty(faults: Faults) -> MockEngine {
    MockEngine::new(MockOptions { faults, ..MockOptions::default() })
}

#[tokio::test]
async fn a_plan_has_the_requested_words_in_the_requested_language() {
    let mut task = task(
        1,
        "Plan an essay about the sea. Each paragraph has 200 to 3000 words. The whole text has about 2,400 words.",
    );
    task.kind = TaskKind::Plan;
    let seen = read(mock().start(task.clone(), None)).await;
    let lines: Vec<&str> = seen.output().text.lines().collect();
    assert_eq!(lines.len(), 8);
    for (n, line) in lines.iter().enumerate() {
        let rest = line.strip_prefix(&format!("Paragraph {} - Main Point: ", n + 1)).unwrap();
        assert!(rest.ends_with(" - Word Count: 300 words"), "{line}");
    }
    task.messages[0].content = "请为一篇3000字的文章写一个计划。每段200到9000字。".into();
    let seen = read(mock().start(task, None)).await;
    assert!(seen.output().text.starts_with("段落1 - 主要内容："), "{}", seen.output().text);
    assert!(seen.output().text.ends_with("字数：300字"));
    assert_eq!(seen.output().text.lines().count(), 10);
}

#[tokio::test]
async fn a_section_has_exactly_the_requested_words_and_does_not_repeat_itself() {
    for (prompt, words) in [("Write 450 words.", 450), ("请写下这个段落，字数：320字。", 320)] {
        let mut task = task(1, prompt);
        let by_prompt = read(mock().start(task.clone(), None)).await;
        assert_eq!(words::count(&by_prompt.output().text), words);
        task.length = Some(length(777));
        let seen = read(mock().start(task, None)).await;
        let text = &seen.output().text;
        assert_eq!(words::count(text), 777);
        let units: Vec<&str> = if text.is_ascii() {
            text.split_whitespace().collect()
        } else {
            text.split("").filter(|c| !c.is_empty()).collect()
        };
        let n = if text.is_ascii() { 3 } else { 5 };
        let mut runs: Vec<_> = units.windows(n).collect();
        let all = runs.len();
        runs.sort_unstable();
        runs.dedup();
        assert!(runs.len() * 100 > all * 97, "{} of {all} runs differ", runs.len());
    }
}

#[tokio::test]
async fn a_task_resumed_by_another_attempt_gives_the_uninterrupted_text() {
    let mut first = task(1, "Write 200 words.");
    let want = read(mock().start(first.clone(), None)).await;
    first.attempt = 2;
    assert_eq!(read(mock().start(first.clone(), None)).await.tokens, want.tokens, "lost leases change no text");
    for cut in [1, 57, want.tokens.len()] {
        let seen = read(mock().start(first.clone(), Some(want.checkpoint(cut, "mock")))).await;
        assert_eq!((&seen.tokens, &seen.output().text), (&want.tokens, &want.output().text));
        assert_eq!(seen.output().usage.resumed as usize, cut);
    }
    first.seed += 1;
    assert_ne!(read(mock().start(first, None)).await.tokens, want.tokens, "an error leads to another seed");
}

#[tokio::test]
async fn it_fails_in_every_way_that_is_configured() {
    let section = task(1, "Write 200 words.");
    let mut plan = section.clone();
    plan.kind = TaskKind::Plan;
    let error = faulty(Faults { error: 1.0, ..Faults::default() });
    assert_eq!(read(error.start(section.clone(), None)).await.failure().class, "mock_error");
    let bad = faulty(Faults { bad_plan: 1.0, ..Faults::default() });
    assert!(!read(bad.start(plan, None)).await.output().text.contains("Main Point"));
    let cut = faulty(Faults { truncated: 1.0, ..Faults::default() });
    let seen = read(cut.start(section.clone(), None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Length);
    assert!((90..=100).contains(&words::count(&seen.output().text)));
    let looping = faulty(Faults { repetition: 1.0, ..Faults::default() });
    assert_eq!(read(looping.start(section, None)).await.output().finish_reason, FinishReason::Repetition);
}

#[tokio::test(start_paused = true)]
async fn it_stalls_and_dies_as_configured() {
    let stalling = faulty(Faults { stall: 1.0, ..Faults::default() });
    let mut generation = stalling.start(task(1, "Write 200 words."), None);
    let mut tokens = 0;
    let hour = std::time::Duration::from_secs(3600);
    while let Ok(event) = tokio::time::timeout(hour, generation.events.recv()).await {
        let Some(Event::Tokens(more)) = event else { panic!("a stalled task ends in nothing: {event:?}") };
        tokens += more.tokens.len();
    }
    assert!(tokens > 50);
    assert!(stalling.dead().now_or_never().is_none());
    stalling.kill();
    assert_eq!(read(generation).await.failure().class, "engine_dead");
    stalling.dead().await;

    let dying = faulty(Faults { die_after: Some(1), ..Faults::default() });
    assert!(read(dying.start(task(1, "Write 200 words."), None)).await.end.is_ok());
    assert_eq!(read(dying.start(task(2, "Write 200 words."), None)).await.failure().class, "engine_dead");
    dying.dead().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept() {
    let engine = MockEngine::new(MockOptions { tokens_per_second: 50.0, ..MockOptions::default() });
    let began = tokio::time::Instant::now();
    let seen = read(engine.start(task(1, "Write 200 words."), None)).await;
    let rate = seen.tokens.len() as f64 / began.elapsed().as_secs_f64();
    assert!((45.0..=50.1).contains(&rate), "{rate} tokens per second");
}
