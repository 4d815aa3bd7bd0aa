//! Texts that are taken back, from a loop or a banned phrase: they too depend on their task alone.

use std::path::Path;
use std::sync::Arc;

use longhand_proto::task::{BacktrackCause, Checkpoint, FinishReason, Task};
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::engine::{Delta, Engine};
use longhand_worker::model::Model;

use crate::hash_device::{Bytes, HashDevice};
use crate::tasks::{Seen, assert_same, length, read, task, write};

const PHRASES: [&str; 7] = ["a", "E", "x y", "qu", " o", "t ", "s."];

fn start(device: HashDevice) -> LocalEngine {
    LocalEngine::start(Arc::new(Bytes::new(4096)), Box::new(device), &EngineOptions::default()).unwrap()
}

/// One with a synchronous device, and one with a pipelined device.
fn engines(blocks: usize, budget: usize) -> [LocalEngine; 2] {
    [false, true].map(|pipelined| start(device(blocks, budget).with_pipeline(pipelined)))
}

fn device(blocks: usize, budget: usize) -> HashDevice {
    HashDevice::new(blocks, budget).looping()
}

/// Texts that loop, texts that would contain banned phrases, and others beside them.
fn tasks() -> Vec<Task> {
    (0..12)
        .map(|n| {
            let shared =
                if n % 2 == 0 { "This is what all of these have in common. ".repeat(2) } else { String::new() };
            let mut task = task(n, &format!("{shared}Number {n}."));
            task.max_tokens = 160;
            task.length = Some(length(60));
            match n % 3 {
                0 => (task.sampling.no_repeat_ngram, task.sampling.repetition_penalty) = (0, 1.0),
                1 => task.ban = PHRASES.map(str::to_owned).to_vec(),
                _ => {}
            }
            if n == 9 {
                task.ban = PHRASES.map(str::to_owned).to_vec();
            }
            if n % 3 > 0 {
                task.sampling.dry_multiplier = 0.8;
            }
            task
        })
        .collect()
}

async fn alone(tasks: &[Task]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(read(start(device(256, 256)).start(task.clone(), None)).await);
    }
    seen
}

fn assert_same_backtracks(seen: &[Seen], want: &[Seen], how: &str) {
    assert_same(seen, want, how);
    for (seen, want) in seen.iter().zip(want) {
        assert_eq!(seen.backtracks, want.backtracks, "{how}");
        let counts = |seen: &Seen| (seen.output().usage.backtracks, seen.output().usage.discarded);
        assert_eq!(counts(seen), counts(want), "{how}");
    }
}

/// What the tests below are about does happen.
fn assert_taken_back(seen: &[Seen]) {
    for cause in [BacktrackCause::Repetition, BacktrackCause::Phrase] {
        let count = seen.iter().flat_map(|seen| &seen.backtracks).filter(|backtrack| backtrack.cause == cause).count();
        assert!(count >= 4, "{count} of {cause:?}");
    }
    for seen in seen {
        let usage = seen.output().usage;
        assert_eq!(usage.generated as usize, seen.tokens.len());
        assert_eq!(usage.backtracks as usize, seen.backtracks.len());
        assert_eq!(usage.discarded, seen.backtracks.iter().map(|backtrack| backtrack.discarded).sum::<u32>());
        let bytes: Vec<u8> = seen.tokens.iter().map(|token| *token as u8).collect();
        assert_eq!(String::from_utf8_lossy(&bytes), seen.output().text, "the reader has the tokens of the text");
    }
}

#[tokio::test]
async fn a_loop_and_a_banned_phrase_are_taken_back_and_the_text_goes_on() {
    let tasks = tasks();
    let seen = alone(&tasks).await;
    assert_taken_back(&seen);
    for (task, seen) in tasks.iter().zip(&seen) {
        let text = seen.output().text.to_lowercase();
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        if !task.ban.is_empty() && seen.output().usage.backtracks < 64 {
            assert!(!words.contains(&"a") && !words.contains(&"e") && !words.contains(&"qu"), "{text:?}");
        }
        let looped = seen.backtracks.iter().filter(|backtrack| backtrack.cause == BacktrackCause::Repetition).count();
        if seen.output().finish_reason == FinishReason::Repetition {
            assert_eq!(looped, 8, "given up too early");
        }
    }
    let saved = seen.iter().filter(|seen| {
        let looped = seen.backtracks.iter().any(|backtrack| backtrack.cause == BacktrackCause::Repetition);
        looped && seen.output().finish_reason != FinishReason::Repetition
    });
    assert!(saved.count() > 0, "no loop was left");
}

#[tokio::test]
async fn neighbours_the_cache_chunks_and_preemption_do_not_change_it() {
    let tasks = tasks();
    let want = alone(&tasks).await;
    for engine in engines(512, 256) {
        assert_same_backtracks(&write(&engine, &tasks).await, &want, "together");
        assert_same_backtracks(&write(&engine, &tasks).await, &want, "from the cache");
    }
    for engine in engines(512, 5) {
        assert_same_backtracks(&write(&engine, &tasks).await, &want, "in chunks");
    }
    for engine in engines(40, 64) {
        assert_same_backtracks(&write(&engine, &tasks).await, &want, "with preemption");
        assert!(engine.stats().preemptions > 0, "the pool was too large to force any");
        assert_eq!(engine.stats().kv_blocks_used, 0, "blocks were lost");
    }
}

/// A text whose reader sees every state: the device waits for it before each step.
async fn step_by_step(task: &Task) -> Seen {
    let (device, gate) = device(256, 256).gated();
    let engine = start(device);
    let reader = tokio::spawn(read(engine.start(task.clone(), None)));
    while !reader.is_finished() {
        let steps = engine.stats().steps;
        gate.send(()).unwrap();
        // At least once, however fast the step is: only then does the reader, on this same thread, get its turn.
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            if engine.stats().steps > steps || reader.is_finished() {
                break;
            }
        }
    }
    reader.await.unwrap()
}

#[tokio::test]
async fn a_text_resumed_from_any_of_its_checkpoints_is_the_same() {
    let tasks = [0, 1, 9].map(|n| tasks().swap_remove(n));
    let mut want = Vec::new();
    for task in &tasks {
        want.push(step_by_step(task).await);
    }
    for engine in engines(256, 64) {
        for (task, want) in tasks.iter().zip(&want) {
            assert!(want.checkpoints.windows(2).any(|pair| pair[1].tokens.len() < pair[0].tokens.len()));
            for (at, checkpoint) in want.checkpoints.iter().enumerate() {
                let resume = Checkpoint { tokenizer_hash: "bytes".into(), ..checkpoint.clone() };
                let seen = read(engine.start(task.clone(), Some(resume))).await;
                let how = format!("from checkpoint {at}");
                assert_same_backtracks(std::slice::from_ref(&seen), std::slice::from_ref(want), &how);
                assert_eq!(seen.checkpoints[0].tokens, checkpoint.tokens, "{how}");
            }
        }
    }
}

#[tokio::test]
async fn a_reader_that_is_slow_has_the_same_tokens_in_the_end() {
    let tasks = tasks();
    let want = alone(&tasks).await;
    let engine = start(device(512, 64));
    let generations: Vec<_> = tasks.iter().map(|task| engine.start(task.clone(), None)).collect();
    // All texts end before anything is read: most changes come in one event.
    while engine.stats().generated_tokens == 0 || engine.stats().running + engine.stats().waiting > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for (generation, want) in generations.into_iter().zip(&want) {
        let seen = read(generation).await;
        assert_same_backtracks(std::slice::from_ref(&seen), std::slice::from_ref(want), "read late");
        assert!(seen.checkpoints.len() <= 18, "{} events", seen.checkpoints.len());
    }
}

#[tokio::test]
async fn a_checkpoint_of_a_worker_that_took_nothing_back_is_repaired() {
    let engine = start(device(256, 64));
    let mut task = task(1, "Write.");
    task.ban = vec!["bad".into()];
    let tokens = b"all is bad, so".map(u32::from).to_vec();
    let resume = Checkpoint { tokens, tokenizer_hash: "bytes".into(), backtracks: Vec::new() };
    let seen = read(engine.start(task, Some(resume))).await;
    assert!(seen.output().text.starts_with("all is "), "{:?}", seen.output().text);
    let first = seen.backtracks[0];
    assert_eq!((first.position, first.token, first.discarded), (7, u32::from(b'b'), 4));
    assert_eq!(seen.output().usage.resumed, 7);
}

#[test]
fn a_delta_takes_back_and_then_adds() {
    let backtrack =
        |position| longhand_proto::task::Backtrack { position, token: 1, discarded: 1, cause: BacktrackCause::Phrase };
    let mut checkpoint = Checkpoint { tokens: vec![1, 2, 3, 4], ..Checkpoint::default() };
    Delta { backtracks: vec![backtrack(9), backtrack(1), backtrack(3)], tokens: vec![7, 8] }.apply(&mut checkpoint);
    assert_eq!((checkpoint.tokens.as_slice(), checkpoint.backtracks.len()), (&[1, 7, 8][..], 3));
}

/// On the CUDA device, its kernels run on the host, and on the CPU device.
#[tokio::test]
async fn real_devices_take_back_alike() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama");
    let model = Arc::new(Model::open(&folder).unwrap());
    let mut tasks: Vec<Task> =
        (0..4).map(|n| task(n, &format!("All of these begin in the same way. Number {n}."))).collect();
    let free = write(&crate::cuda::engine(&model, 64, 128), &tasks).await;
    for (task, seen) in tasks.iter_mut().zip(&free) {
        // Pieces of what the model would write.
        let text: Vec<char> = seen.output().text.chars().collect();
        assert!(text.len() > 10, "too short to ban anything: {text:?}");
        task.ban = [2, 5, 8].map(|at| text[at..at + 2].iter().collect::<String>()).into();
        (task.max_tokens, task.sampling.dry_multiplier) = (32, 0.8);
    }
    for [one, tight] in [
        [crate::cuda::synchronous(&model, 64, 128), crate::cuda::engine(&model, 12, 24)],
        [crate::small_model::engine(&model, 64, 128), crate::small_model::engine(&model, 12, 24)],
    ] {
        let mut want = Vec::new();
        for task in &tasks {
            want.push(read(one.start(task.clone(), None)).await);
        }
        let count: usize = want.iter().map(|seen| seen.backtracks.len()).sum();
        assert!(count >= 4, "{count} backtracks");
        assert_same_backtracks(&write(&tight, &tasks).await, &want, "together, in a small pool");
        let hash = &one.model().tokenizer_hash.clone();
        for (task, want) in tasks.iter().zip(&want) {
            let cut = want.checkpoints[want.checkpoints.len() / 2].clone();
            let resume = Checkpoint { tokenizer_hash: hash.clone(), ..cut };
            assert_same_backtracks(
                &[read(tight.start(task.clone(), Some(resume))).await],
                std::slice::from_ref(want),
                "resumed",
            );
        }
    }
}
