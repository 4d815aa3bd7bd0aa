//! A text depends on its task alone: not on other sequences, the prefix cache, chunks, preemption, or interruption.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use longhand_proto::task::{Constraint, Task};
use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};

use crate::hash_device::{Bytes, HashDevice};
use crate::tasks::{Seen, assert_same, length, read, task, write};

pub(crate) fn engine(blocks: usize, budget: usize) -> LocalEngine {
    start(HashDevice::new(blocks, budget))
}

fn start(device: HashDevice) -> LocalEngine {
    LocalEngine::start(Arc::new(Bytes::new(4096)), Box::new(device), &EngineOptions::default()).unwrap()
}

/// One with a synchronous device, and one with a pipelined device.
fn engines(blocks: usize, budget: usize) -> [LocalEngine; 2] {
    [false, true].map(|pipelined| start(HashDevice::new(blocks, budget).with_pipeline(pipelined)))
}

/// Sixteen tasks with prompts of many lengths, half of which share a beginning.
fn tasks() -> Vec<Task> {
    (0..16)
        .map(|n| {
            let shared =
                if n % 2 == 0 { "This is what all of these have in common. ".repeat(2) } else { String::new() };
            let mut task = task(n, &format!("{shared}Number {n}. {}", "Go on. ".repeat(n as usize)));
            task.length = (n % 3 == 0).then(|| length(12));
            task.constraint =
                (n % 5 == 1).then(|| Constraint::Lark("start: /[a-f ]{5,30}/ \" and \" /[0-9]{2,9}/".into()));
            task
        })
        .collect()
}

/// Each task run by an engine of its own.
async fn alone(tasks: &[Task]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(read(engine(256, 256).start(task.clone(), None)).await);
    }
    seen
}

#[tokio::test]
async fn other_sequences_in_the_batch_do_not_change_a_text() {
    let tasks = tasks();
    let want = alone(&tasks).await;
    assert!(want.iter().map(|seen| seen.tokens.len()).sum::<usize>() > 300, "texts too short to tell anything");
    for engine in engines(256, 256) {
        assert_same(&write(&engine, &tasks).await, &want, "together");
        assert_eq!(engine.stats().preemptions, 0);
    }
}

#[tokio::test]
async fn cached_prefixes_do_not_change_a_text() {
    let tasks = tasks();
    let want = alone(&tasks).await;
    for engine in engines(256, 256) {
        write(&engine, &tasks).await;
        let again = write(&engine, &tasks).await;
        assert_same(&again, &want, "from the cache");
        assert!(again.iter().all(|seen| seen.output().usage.cached > 0), "each prompt was in the cache");
    }
}

#[tokio::test]
async fn prefill_chunks_do_not_change_a_text() {
    let tasks = tasks();
    let want = alone(&tasks).await;
    for budget in [1, 5, 23] {
        for engine in engines(256, budget) {
            assert_same(&write(&engine, &tasks).await, &want, "in chunks");
        }
    }
}

#[tokio::test]
async fn preemption_does_not_change_a_text() {
    let tasks = tasks();
    let want = alone(&tasks).await;
    // The longest text takes 17 blocks; sixteen of them do not fit into 24 together.
    for engine in engines(24, 64) {
        assert_same(&write(&engine, &tasks).await, &want, "with preemption");
        assert!(engine.stats().preemptions > 0, "the pool was too large to force any");
        assert_eq!(engine.stats().kv_blocks_used, 0);
    }
}

#[tokio::test]
async fn a_text_resumed_from_any_checkpoint_equals_the_uninterrupted_one() {
    let tasks: Vec<_> = tasks().into_iter().take(7).collect();
    let want = alone(&tasks).await;
    for engine in engines(256, 64) {
        for (task, want) in tasks.iter().zip(&want) {
            for cut in 0..=want.tokens.len() {
                let seen = read(engine.start(task.clone(), Some(want.checkpoint(cut, "bytes")))).await;
                assert_same(std::slice::from_ref(&seen), std::slice::from_ref(want), &format!("from token {cut} on"));
                let usage = seen.output().usage;
                assert_eq!((usage.resumed as usize, usage.generated as usize), (cut, want.tokens.len()));
            }
        }
    }
}

/// Under length control, too: words are counted while the next step's layers run. Grammar responses may be late, so
/// constrained tasks are left out.
#[tokio::test]
async fn every_token_is_computed_while_it_is_still_deferred() {
    let mut all = 0;
    for task in tasks().iter().filter(|task| task.constraint.is_none()) {
        let device = HashDevice::new(64, 64).with_pipeline(true);
        let deferred = device.deferred();
        let seen = read(start(device).start(task.clone(), None)).await;
        let (deferred, written) = (deferred.load(Ordering::Relaxed), seen.output().usage.generated as usize);
        // The end-of-text token is sampled, too, but is no part of the text.
        assert!((written..=written + 1).contains(&deferred), "{deferred} of {written} tokens");
        all += written;
    }
    assert!(all > 100, "texts too short to tell anything: {all} tokens");
}

#[tokio::test]
async fn a_checkpoint_of_another_tokenizer_or_grammar_is_discarded() {
    let mut task = task(1, "Write.");
    task.constraint = Some(Constraint::Lark("start: /[a-f ]{5,30}/ \".\"".into()));
    let engine = engine(64, 64);
    let want = read(engine.start(task.clone(), None)).await;
    let foreign = read(engine.start(task.clone(), Some(want.checkpoint(3, "another")))).await;
    assert_eq!((foreign.output().usage.resumed, &foreign.tokens), (0, &want.tokens));
    let mut other = want.checkpoint(3, "bytes");
    other.tokens[2] = u32::from(b'Z');
    let seen = read(engine.start(task, Some(other))).await;
    assert_eq!((seen.output().usage.resumed, &seen.tokens), (0, &want.tokens));
}

#[tokio::test]
async fn another_seed_section_or_document_is_another_text() {
    let engine = engine(64, 64);
    let base = task(1, "Write.");
    let [mut seed, mut section, mut document] = [base.clone(), base.clone(), base.clone()];
    seed.seed += 1;
    section.section += 1;
    document.document = crate::tasks::document(9);
    let texts = write(&engine, &[base, seed, section, document]).await;
    for other in &texts[1..] {
        assert_ne!(other.tokens, texts[0].tokens);
    }
}
