//! The engine over the CUDA device, its kernels run on the host: prefix cache, chunks, preemption, grammar, checkpoints,
//! other sequences and pipelining change no text in the deterministic mode.

use std::path::Path;
use std::sync::Arc;

use longhand_proto::task::{Constraint, Task};
use longhand_worker::cuda::host::Host;
use longhand_worker::cuda::{CudaDevice, CudaOptions, KvFormat, KvMemory, WeightFormat, kernels};
use longhand_worker::device::{BLOCK_TOKENS, Device, DeviceError, Sampled, StepBatch};
use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::model::Model;

use crate::tasks::{Seen, assert_same, read, task, write};

/// Over a GPU that defers all work for as long as it may.
pub(crate) fn engine(model: &Arc<Model>, blocks: usize, max_batch_tokens: usize) -> LocalEngine {
    start(model, Box::new(device(model, blocks, max_batch_tokens)))
}

/// Over the same device, used as one that is not pipelined.
pub(crate) fn synchronous(model: &Arc<Model>, blocks: usize, max_batch_tokens: usize) -> LocalEngine {
    start(model, Box::new(Synchronous(device(model, blocks, max_batch_tokens))))
}

fn start(model: &Arc<Model>, device: Box<dyn Device>) -> LocalEngine {
    let options = EngineOptions { max_sequences: 4, ..EngineOptions::default() };
    LocalEngine::start(Arc::clone(model) as _, device, &options).unwrap()
}

fn device(model: &Arc<Model>, blocks: usize, max_batch_tokens: usize) -> CudaDevice {
    let library = kernels::host::library().unwrap_or_else(|error| panic!("{error}"));
    let gpu = Host::open(&library, 4 << 30).unwrap().late();
    let options = CudaOptions {
        kv_memory: KvMemory::Blocks(blocks),
        kv_format: KvFormat::Bf16,
        weight_format: WeightFormat::Bf16,
        max_sequences: 4,
        max_batch_tokens,
        deterministic: true,
        graphs: true,
    };
    CudaDevice::load(Box::new(gpu), model, &options).unwrap()
}

/// The same device without its pipelined interface.
#[derive(Debug)]
struct Synchronous(CudaDevice);

impl Device for Synchronous {
    fn name(&self) -> String {
        self.0.name()
    }

    fn kv_blocks(&self) -> usize {
        self.0.kv_blocks()
    }

    fn max_batch_tokens(&self) -> usize {
        self.0.max_batch_tokens()
    }

    fn vocab(&self) -> usize {
        self.0.vocab()
    }

    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError> {
        self.0.step(batch, sampled)
    }

    fn logits(&mut self, batch: &StepBatch) -> Result<Vec<f32>, DeviceError> {
        self.0.logits(batch)
    }
}

fn tasks() -> Vec<Task> {
    (0..4)
        .map(|n| {
            let shared = if n % 2 == 0 { "All of these begin in the same way. " } else { "" };
            let mut task = task(n, &format!("{shared}Number {n}."));
            task.max_tokens = 48;
            // The first two are long enough to need more blocks than there are, and end nowhere else.
            task.constraint = match n {
                0 | 1 => Some(Constraint::Lark("start: /[a-f ]{40}/ \"!\"".into())),
                3 => Some(Constraint::Lark("start: /[a-f ]{5,9}/ \"!\"".into())),
                _ => None,
            };
            task
        })
        .collect()
}

#[tokio::test]
async fn a_text_is_the_same_on_the_cuda_device_under_any_schedule() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama");
    let (model, tasks) = (Arc::new(Model::open(&folder).unwrap()), tasks());
    let plain = synchronous(&model, 64, 128);
    let roomy = engine(&model, 64, 128);
    let (mut want, mut pipelined) = (Vec::new(), Vec::new());
    for task in &tasks {
        want.push(read(plain.start(task.clone(), None)).await);
        pipelined.push(read(roomy.start(task.clone(), None)).await);
    }
    assert_same(&pipelined, &want, "pipelined");
    assert!(want.iter().all(|seen| seen.tokens.len() >= 5), "texts too short to tell anything: {want:?}");
    assert!(want[..2].iter().all(|seen| seen.tokens.len() > BLOCK_TOKENS), "{want:?}");
    assert!(want[3].output().text.ends_with('!'), "{want:?}");
    let together = write(&roomy, &tasks).await;
    assert_same(&together, &want, "together, from the cache");
    assert!(together.iter().all(|seen| seen.output().usage.cached >= 16), "each prompt was in the cache");

    // Room for the first two prompts and one block more; each of the two needs another.
    let blocks = |seen: &Seen| (seen.output().usage.prompt as usize + 1).div_ceil(BLOCK_TOKENS);
    let tight = engine(&model, blocks(&want[0]) + blocks(&want[1]) + 1, 24);
    assert_same(&write(&tight, &tasks).await, &want, "in chunks, with preemption");
    assert!(tight.stats().preemptions > 0, "the pool was too large to force any");
    let hash = &tight.model().tokenizer_hash.clone();
    let seen = read(tight.start(tasks[0].clone(), Some(want[0].checkpoint(4, hash)))).await;
    assert_same(&[seen], &want[..1], "from a checkpoint");
}
