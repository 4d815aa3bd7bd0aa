//! Where a text may end, must end, and cannot continue.

use longhand_proto::task::FinishReason;
use longhand_proto::words;
use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};

use crate::hash_device::{Bytes, HashDevice};
use crate::invariance::engine;
use crate::tasks::{length, read, task, write};

#[tokio::test]
async fn a_section_has_the_requested_length() {
    let engine = engine(1024, 256);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let mut task = task(n, "Write.");
            (task.max_tokens, task.length) = (4000, Some(length(40)));
            task
        })
        .collect();
    let mut reasons = std::collections::BTreeMap::<_, u32>::new();
    for seen in write(&engine, &tasks).await {
        let output = seen.output();
        let written = words::count(&output.text);
        match output.finish_reason {
            FinishReason::Stop => assert!((36..=60).contains(&written), "{written} words"),
            FinishReason::Ceiling => {
                assert!((46..=60).contains(&written), "{written} words");
                assert!(output.text.ends_with('.') || output.text.ends_with('\n'), "{:?}", output.text);
            }
            FinishReason::Length => assert_eq!(written, 60, "the hard length"),
            FinishReason::Repetition => panic!("no loop here: {:?}", output.text),
        }
        *reasons.entry(output.finish_reason.as_str()).or_default() += 1;
    }
    // The device ends a text after a few words where that is allowed.
    assert!(reasons["stop"] > 8, "{reasons:?}");
    let mut free = task(0, "Write.");
    free.max_tokens = 4000;
    let seen = read(engine.start(free, None)).await;
    assert!(words::count(&seen.output().text) < 36, "without length control the text is short");
}

#[tokio::test]
async fn past_the_ceiling_the_next_sentence_end_is_the_end() {
    let mut task = task(3, "Write.");
    // The end-of-text token is never sampled.
    let mut control = length(20);
    control.bias = -100.0;
    control.floor = 1.0;
    control.hard = 9.0;
    (task.max_tokens, task.length) = (4000, Some(control));
    let seen = read(engine(256, 256).start(task, None)).await;
    let output = seen.output();
    assert_eq!(output.finish_reason, FinishReason::Ceiling);
    let text = &output.text;
    assert!(words::count(text) >= 23 && text.ends_with(['.', '!', '?', '\n']), "{text:?}");
    let before = text.trim_end_matches(|c: char| !c.is_alphanumeric()).rfind(['!', '?', '\n']);
    assert!(before.is_none_or(|at| words::count(&text[..at]) <= 23), "an earlier end was missed: {text:?}");
}

#[tokio::test]
async fn max_tokens_and_the_context_truncate_a_text() {
    let mut task = task(1, "Write.");
    task.length = Some(length(400));
    task.max_tokens = 25;
    let seen = read(engine(64, 64).start(task.clone(), None)).await;
    assert_eq!((seen.output().finish_reason, seen.tokens.len()), (FinishReason::Length, 25));

    let (device, options) = (HashDevice::new(64, 64), EngineOptions::default());
    let small = LocalEngine::start(std::sync::Arc::new(Bytes::new(40)), Box::new(device), &options).unwrap();
    task.length = None;
    task.max_tokens = 4000;
    task.document = crate::tasks::document(77);
    let mut control = length(16);
    control.floor = 1.0;
    task.length = Some(control);
    let seen = read(small.start(task, None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Length);
    assert_eq!(seen.tokens.len() + 6, 40, "the context is full");
}

#[tokio::test]
async fn a_loop_ends_with_repetition() {
    let mut task = task(1, "Write.");
    // A grammar that can do nothing but loop.
    task.constraint = Some(longhand_proto::task::Constraint::Lark("start: (\"over and over \"){200}".into()));
    task.max_tokens = 4000;
    let seen = read(engine(256, 64).start(task, None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Repetition);
    assert!(seen.output().text.len() < 80, "seen after four repeats: {:?}", seen.output().text);
}

#[tokio::test]
async fn no_n_gram_repeats_when_forbidden() {
    let mut task = task(5, "abcabdabe");
    (task.max_tokens, task.sampling.no_repeat_ngram, task.length) = (300, 2, Some(length(300)));
    let seen = read(engine(64, 64).start(task, None)).await;
    let all: Vec<u32> = b"abcabdabe".iter().map(|b| u32::from(*b)).chain(seen.tokens.iter().copied()).collect();
    let mut runs: Vec<_> = all.windows(2).skip(8).collect();
    let count = runs.len();
    runs.sort_unstable();
    runs.dedup();
    assert_eq!(runs.len(), count, "a pair of the text came twice");
    assert!(runs.iter().all(|run| !all[..9].windows(2).any(|old| old == *run)), "a pair of the prompt came again");
}

#[tokio::test]
async fn a_prompt_that_leaves_no_room_is_rejected_with_numbers_and_remedy() {
    let small = LocalEngine::start(
        std::sync::Arc::new(Bytes::new(100)),
        Box::new(HashDevice::new(64, 64)),
        &EngineOptions::default(),
    )
    .unwrap();
    let mut big = task(1, &"x".repeat(60));
    big.length = Some(length(100));
    big.max_tokens = 400;
    let seen = read(small.start(big, None)).await;
    let failure = seen.failure();
    assert_eq!((failure.class.as_str(), failure.permanent), ("context_too_small", true));
    for word in ["60 tokens", "100", "longer context"] {
        assert!(failure.message.contains(word), "{}", failure.message);
    }

    let seen = read(engine(4, 64).start(task(1, &"x".repeat(60)), None)).await;
    assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("kv_too_small", true));
}

#[tokio::test]
async fn a_text_that_outgrows_the_whole_pool_fails_and_the_next_task_succeeds() {
    let engine = engine(6, 64);
    let mut big = task(1, "Write.");
    (big.max_tokens, big.length) = (400, Some(length(60)));
    let seen = read(engine.start(big, None)).await;
    assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("kv_too_small", true));
    assert!(seen.tokens.len() >= 80, "it wrote until the pool was full");
    assert!(read(engine.start(task(2, "Write."), None)).await.end.is_ok());
}
