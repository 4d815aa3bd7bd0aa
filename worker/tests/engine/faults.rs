//! What a reader is told when something fails, and what is released.

use std::sync::Arc;

use futures::FutureExt;
use longhand_proto::task::Task;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::engine::{Engine, Event};

use crate::hash_device::{Bytes, Fault, HashDevice};
use crate::invariance::engine;
use crate::tasks::{length, read, task, write};

fn start(device: HashDevice, options: &EngineOptions) -> LocalEngine {
    LocalEngine::start(Arc::new(Bytes::new(4096)), Box::new(device), options).unwrap()
}

#[tokio::test]
async fn a_lost_device_fails_every_task_and_the_engine_reports_it() {
    for (fault, pipelined) in [
        (Fault::Lost { step: 5 }, false),
        (Fault::Lost { step: 5 }, true),
        (Fault::Panic { step: 5 }, false),
        (Fault::Panic { step: 5 }, true),
    ] {
        let options = EngineOptions { max_sequences: 2, ..EngineOptions::default() };
        let engine = start(HashDevice::new(64, 64).fault(fault).with_pipeline(pipelined), &options);
        assert!(engine.dead().now_or_never().is_none(), "it is alive until then");
        let tasks: Vec<_> = (0..4).map(|n| task(n, "Write.")).collect();
        for seen in write(&engine, &tasks).await {
            assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("engine_dead", false));
        }
        let error = engine.dead().await;
        assert!(error.contains("unplugged") || error.contains("a broken kernel"), "{error}");
        let late = read(engine.start(task(9, "Write."), None)).await;
        assert_eq!(late.failure().class, "engine_dead");
    }
}

#[tokio::test]
async fn a_failed_step_fails_its_tasks_only() {
    for pipelined in [false, true] {
        let device = HashDevice::new(64, 64).fault(Fault::Step { step: 5 }).with_pipeline(pipelined);
        let engine = start(device, &EngineOptions::default());
        let seen = read(engine.start(task(1, "Write."), None)).await;
        assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("step_failed", false));
        assert!(read(engine.start(task(1, "Write."), None)).await.end.is_ok());
        assert_eq!(engine.stats().kv_blocks_used, 0);
    }
}

/// As a sick GPU does: no document is charged for it.
#[tokio::test]
async fn steps_that_fail_in_a_row_lose_the_device() {
    for pipelined in [false, true] {
        for tasks in [1, 4] {
            let device =
                HashDevice::new(64, 64).fault(Fault::Faults { step: 5, steps: 1_000 }).with_pipeline(pipelined);
            let engine = start(device, &EngineOptions { max_sequences: 2, ..EngineOptions::default() });
            let tasks: Vec<_> = (0..tasks).map(|n| task(n, "Write.")).collect();
            for seen in write(&engine, &tasks).await {
                assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("engine_dead", false));
            }
            let error = engine.dead().await;
            assert!(error.contains("3 steps failed in a row") && error.contains("out of order"), "{error}");
        }
    }
}

/// A step that fails once is computed again; of several sequences one is tried alone, and the others are charged.
#[tokio::test]
async fn a_device_that_works_again_ends_no_engine() {
    for pipelined in [false, true] {
        let healthy = start(HashDevice::new(64, 64).with_pipeline(pipelined), &EngineOptions::default());
        let expected = read(healthy.start(task(1, "Write."), None)).await;
        let sick = |steps| {
            let device = HashDevice::new(64, 64).fault(Fault::Faults { step: 5, steps }).with_pipeline(pipelined);
            start(device, &EngineOptions::default())
        };
        for steps in [1, 2] {
            let engine = sick(steps);
            let seen = read(engine.start(task(1, "Write."), None)).await;
            assert_eq!(seen.output().text, expected.output().text, "pipelined {pipelined}, {steps} failed");
        }
        let engine = sick(1);
        let seen = write(&engine, &(0..3).map(|n| task(n, "Write.")).collect::<Vec<_>>()).await;
        let failed = seen.iter().filter(|seen| seen.end.is_err());
        assert!(failed.clone().all(|seen| seen.failure().class == "step_failed"));
        assert!(failed.count() < 3, "at least the one that was tried again is whole");
        assert!(engine.dead().now_or_never().is_none());
        assert_eq!(engine.stats().kv_blocks_used, 0);
    }
}

#[tokio::test]
async fn logits_that_are_not_numbers_fail_their_own_task_only() {
    for pipelined in [false, true] {
        let device = HashDevice::new(64, 64).fault(Fault::NotNumbers).with_pipeline(pipelined);
        let engine = start(device, &EngineOptions::default());
        // Long enough to be under way at the same time.
        let prompt = "Write about the sea and its harbours.";
        let long = |n| Task { max_tokens: 250, length: Some(length(100)), ..task(n, prompt) };
        let tasks: Vec<_> = (0..3).map(long).collect();
        let seen = write(&engine, &tasks).await;
        let failures: Vec<_> = seen.iter().filter_map(|seen| seen.end.as_ref().err()).collect();
        assert_eq!(failures.len(), 1, "pipelined {pipelined}: {failures:?}");
        assert_eq!((failures[0].class.as_str(), failures[0].permanent), ("bad_logits", false));
        assert_eq!(engine.stats().kv_blocks_used, 0);
        let healthy = start(HashDevice::new(64, 64).with_pipeline(pipelined), &EngineOptions::default());
        let expected = write(&healthy, &tasks).await;
        for (seen, expected) in seen.iter().zip(&expected).filter(|(seen, _)| seen.end.is_ok()) {
            assert_eq!(seen.output().text, expected.output().text, "the others are as without it");
        }
        // Again, as after a retry: what was computed with it is not taken from the cache.
        for (seen, expected) in write(&engine, &tasks).await.iter().zip(&expected) {
            assert_eq!(seen.output().text, expected.output().text);
        }
    }
}

#[tokio::test]
async fn a_dropped_generation_releases_its_blocks() {
    let (device, gate) = HashDevice::new(64, 64).gated();
    let engine = start(device, &EngineOptions::default());
    let mut long = task(1, "Write.");
    (long.max_tokens, long.length) = (900, Some(length(900)));
    let mut generation = engine.start(long, None);
    gate.send(()).unwrap();
    assert!(matches!(generation.events.recv().await, Some(Event::Tokens(_))));
    drop(generation);
    drop(gate);
    // The next task finds it gone.
    let next = read(engine.start(task(2, "Write."), None)).await;
    assert!(next.end.is_ok());
    let stats = engine.stats();
    assert_eq!((stats.running, stats.kv_blocks_used), (0, 0));
    assert!(stats.generated_tokens < 900, "the long text was cancelled");
}

#[tokio::test]
async fn a_full_queue_rejects_at_once() {
    let (device, gate) = HashDevice::new(64, 64).gated();
    let engine = start(device, &EngineOptions { max_sequences: 1, max_waiting: 2, ..EngineOptions::default() });
    let taken: Vec<_> = (0..3).map(|n| engine.start(task(n, "Write."), None)).collect();
    let refused = read(engine.start(task(9, "Write."), None)).await;
    assert_eq!((refused.failure().class.as_str(), refused.failure().permanent), ("overloaded", false));
    drop(gate);
    for generation in taken {
        assert!(read(generation).await.end.is_ok());
    }
    assert!(read(engine.start(task(9, "Write."), None)).await.end.is_ok(), "there is room again");
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_does_not_block_others() {
    let engine = engine(64, 64);
    let slow = engine.start(task(1, "Write."), None);
    let quick = read(engine.start(task(2, "Write."), None)).await;
    assert!(quick.end.is_ok());
    let seen = read(slow).await;
    assert_eq!(seen.tokens.len(), seen.output().usage.generated as usize);
}

#[tokio::test]
async fn dropping_the_engine_sends_a_last_event_to_its_tasks() {
    let (device, gate) = HashDevice::new(64, 64).gated();
    let engine = start(device, &EngineOptions::default());
    let generation = engine.start(task(1, "Write."), None);
    gate.send(()).unwrap();
    drop(gate);
    drop(engine);
    let seen = read(generation).await;
    // It may have completed before; it never ends without a last event.
    assert!(seen.end.is_ok() || seen.failure().class == "engine_dead");
}
