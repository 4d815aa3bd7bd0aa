//! A mixture of experts on the CPU device: each token chooses what it is computed with, and still a text depends on its task
//! alone.

use std::path::Path;
use std::sync::Arc;

use longhand_proto::task::Task;
use longhand_worker::engine::Engine;
use longhand_worker::model::Model;

use crate::small_model::engine;
use crate::tasks::{assert_same, read, task, write};

/// Eight tasks, half of which share a beginning longer than a block.
fn tasks() -> Vec<Task> {
    (0..8)
        .map(|n| {
            let shared = if n < 4 { "" } else { "What all of these have in common. " };
            let mut task = task(n, &format!("{shared}Number {n}."));
            task.max_tokens = 40;
            task
        })
        .collect()
}

#[tokio::test]
async fn a_mixture_of_experts_gives_the_same_text_under_any_schedule() {
    for name in ["qwen3-moe", "qwen3-moe-k_mix.gguf"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny").join(name);
        let (model, tasks) = (Arc::new(Model::open(&path).unwrap()), tasks());
        let roomy = engine(&model, 256, 512);
        let mut want = Vec::new();
        for task in &tasks {
            want.push(read(roomy.start(task.clone(), None)).await);
        }
        assert!(
            want.iter().map(|seen| seen.tokens.len()).sum::<usize>() > 80,
            "{name}: texts too short to tell anything"
        );

        let together = write(&roomy, &tasks).await;
        assert_same(&together, &want, "together, from the cache");
        assert!(together[4..].iter().all(|seen| seen.output().usage.cached >= 16), "{name}: nothing was in the cache");

        let tight = engine(&model, 16, 24);
        // A tiny model may have written one task before the next one comes: then nothing is preempted.
        for _ in 0..50 {
            assert_same(&write(&tight, &tasks).await, &want, "in chunks, with preemption");
            if tight.stats().preemptions > 0 {
                break;
            }
        }
        assert!(tight.stats().preemptions > 0, "{name}: the pool was too large to force any");

        let hash = &tight.model().tokenizer_hash.clone();
        for (n, (task, want)) in tasks.iter().zip(&want).enumerate() {
            let cut = (3 + 5 * n) % want.tokens.len().max(1);
            let seen = read(tight.start(task.clone(), Some(want.checkpoint(cut, hash)))).await;
            assert_same(std::slice::from_ref(&seen), std::slice::from_ref(want), "from a checkpoint");
            assert_eq!(seen.output().usage.resumed as usize, cut, "{name}");
        }
    }
}
