//! The same guarantees with the real small model on the CPU device.

use std::path::PathBuf;
use std::sync::Arc;

use longhand_proto::task::{Constraint, Task};
use longhand_proto::words;
use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::model::Model;

use crate::tasks::{assert_same, length, read, task, write};

fn model() -> Arc<Model> {
    let name = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let path = std::env::var_os("LONGHAND_TEST_MODEL").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("LONGHAND_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            let home = std::env::var_os("HOME").expect("HOME is not set; set LONGHAND_TEST_MODEL");
            PathBuf::from(home).join(".cache/longhand")
        });
        cache.join("models").join(name)
    });
    let model = Model::open(&path);
    Arc::new(model.unwrap_or_else(|error| panic!("{error}; the tests need the small model: run `make model`")))
}

pub(crate) fn engine(model: &Arc<Model>, kv_blocks: usize, max_batch_tokens: usize) -> LocalEngine {
    let options = CpuOptions { threads: None, kv_blocks, max_batch_tokens };
    let device = CpuDevice::load(model, &options).unwrap();
    let options = EngineOptions { max_sequences: 8, ..EngineOptions::default() };
    LocalEngine::start(Arc::clone(model) as _, Box::new(device), &options).unwrap()
}

fn tasks() -> Vec<Task> {
    let asks =
        ["Describe a harbour at dawn.", "Why do leaves turn red?", "Plan a small garden.", "Tell of a lost key."];
    let preface =
        "You write plain and careful prose. Keep to the subject, and give one example for every claim you make.";
    (0..8)
        .map(|n| {
            let ask = asks[n as usize % 4];
            let mut task = task(n, &if n < 4 { ask.to_owned() } else { format!("{preface} {ask}") });
            task.max_tokens = 40;
            task.length = (n == 1).then(|| length(15));
            task.constraint = (n == 2).then(|| {
                Constraint::Lark(
                    "start: \"Main Point: \" /[A-Za-z ]{10,60}/ \" - Word Count: \" /[2-9]00/ \" words\"".into(),
                )
            });
            task
        })
        .collect()
}

#[tokio::test]
async fn the_real_model_gives_the_same_text_under_any_schedule() {
    let (model, tasks) = (model(), tasks());
    let roomy = engine(&model, 256, 512);
    let mut want = Vec::new();
    for task in &tasks {
        want.push(read(roomy.start(task.clone(), None)).await);
    }
    assert!(want.iter().all(|seen| words::count(&seen.output().text) > 5), "{want:?}");
    let plan = &want[2].output().text;
    assert!(plan.starts_with("Main Point: ") && plan.ends_with("00 words"), "{plan:?}");
    let section = words::count(&want[1].output().text);
    assert!((13..=23).contains(&section), "{section} words");

    let together = write(&roomy, &tasks).await;
    assert_same(&together, &want, "together, from the cache");
    assert!(together[4..].iter().all(|seen| seen.output().usage.cached >= 16));

    let tight = engine(&model, 12, 24);
    assert_same(&write(&tight, &tasks).await, &want, "in chunks, with preemption");
    assert!(tight.stats().preemptions > 0, "the pool was too large to force any");

    let hash = &tight.model().tokenizer_hash.clone();
    for (n, (task, want)) in tasks.iter().zip(&want).enumerate().take(4) {
        let cut = (5 + 7 * n) % want.tokens.len();
        let seen = read(tight.start(task.clone(), Some(want.checkpoint(cut, hash)))).await;
        assert_same(std::slice::from_ref(&seen), std::slice::from_ref(want), "from a checkpoint");
        assert_eq!(seen.output().usage.resumed as usize, cut);
    }
}
