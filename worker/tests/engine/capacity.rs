//! How full the pool is when documents are taken as the engine says, and what that costs.

use std::sync::Arc;

use longhand_proto::task::{LengthControl, Task, TaskKind, Usage};
use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::hash_device::{Bytes, HashDevice};
use crate::tasks::{document, read, task};

/// Blocks of the pool, and documents that are written in it.
const BLOCKS: usize = 1_500;
const DOCUMENTS: u32 = 600;
/// Words of a section.
const SECTION_WORDS: u32 = 25;

/// Words of a document: the shares of LongWriter-6k below 1,000, to 2,000, 4,000, 8,000 and 20,000 words, a twentieth of each.
fn planned_words(random: &mut StdRng) -> u32 {
    let lengths = match random.random_range(0..100) {
        0..20 => 25..50,
        20..45 => 50..100,
        45..75 => 100..200,
        75..95 => 200..400,
        _ => 400..1_000,
    };
    random.random_range(lengths)
}

/// Writes a document section by section, as a worker does, and returns what each took.
async fn write(engine: Arc<LocalEngine>, n: u32, words: u32) -> Vec<Usage> {
    let mut text =
        format!("Instruction {n}: write about harbours. The plan has some lines that say what is to be written. ");
    let sections = words.div_ceil(SECTION_WORDS);
    let mut usage = Vec::new();
    for section in 0..sections {
        let length = LengthControl { target_words: SECTION_WORDS, floor: 0.7, bias: 0.0, ceiling: 1.2, hard: 2.0 };
        let task = Task {
            document: document(n),
            kind: TaskKind::Section,
            section,
            length: Some(length),
            max_tokens: 1_000,
            words_left: words - section * SECTION_WORDS,
            ..task(n, &text)
        };
        let seen = read(engine.start(task, None)).await;
        text.push_str(&seen.output().text);
        usage.push(seen.output().usage);
    }
    usage
}

#[tokio::test]
async fn the_pool_is_full_and_hardly_a_document_is_preempted() {
    let device = HashDevice::new(BLOCKS, 4_096);
    let options = EngineOptions { max_sequences: 512, ..EngineOptions::default() };
    let engine = Arc::new(LocalEngine::start(Arc::new(Bytes::new(16_384)), Box::new(device), &options).unwrap());
    let mut random = StdRng::seed_from_u64(6_000);
    let (mut writing, mut begun, mut most) = (JoinSet::new(), 0, 0);
    let (mut shares, mut all) = (Vec::new(), Vec::new());
    loop {
        while begun < DOCUMENTS && writing.len() < engine.slots() as usize {
            writing.spawn(write(Arc::clone(&engine), begun, planned_words(&mut random)));
            begun += 1;
        }
        most = most.max(writing.len());
        let Some(usage) = writing.join_next().await else { break };
        all.extend(usage.unwrap());
        let stats = engine.stats();
        // From the moment at which the first documents have ended until there are none to take.
        if begun > DOCUMENTS / 4 && begun < DOCUMENTS {
            shares.push(f64::from(stats.kv_blocks_used) / f64::from(stats.kv_blocks));
        }
    }
    let full = shares.iter().sum::<f64>() / shares.len() as f64;
    let needed: u32 = all.iter().map(|usage| usage.prompt - usage.reusable + usage.generated).sum();
    let stats = engine.stats();
    let twice = stats.preempted_tokens as f64 / f64::from(needed);
    println!("pool {full:.3}, given up {twice:.4}, at most {most} documents, {} preemptions", stats.preemptions);
    assert!(full >= 0.85, "{full:.3} of the pool is used");
    assert!(twice < 0.03, "{twice:.4} of the tokens are computed again after a preemption");
}
