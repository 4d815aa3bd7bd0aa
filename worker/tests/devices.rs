//! One suite of numeric tests for every device: the processor, the CUDA device with its kernels run by the processor, and
//! the CUDA device on a GPU where there is one (`LONGHAND_TEST_CUDA=1` asks for this alone, and makes a missing one a failure).
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod fixtures;

use longhand_proto::task::Sampling;
use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::cuda::gpu::Gpu;
use longhand_worker::cuda::host::Host;
use longhand_worker::cuda::profile::Profile;
use longhand_worker::cuda::{self, CudaDevice, CudaOptions, KvFormat, KvMemory, WeightFormat, kernels};
use longhand_worker::device::{BLOCK_TOKENS, BlockId, Device, DeviceError, RngKey, SampleParams, SeqStep, StepBatch};
use longhand_worker::model::Model;
use longhand_worker::selftest::{self, Bounds, CudaMode, Distances, KnownLogits, SelftestError};
use longhand_worker::throughput::ThroughputMeter;

/// Where a test body runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cpu,
    /// The CUDA device over kernels compiled for this processor.
    Host,
    Cuda,
}

/// The devices of this machine; of one that is asked for its GPU only this.
fn kinds() -> Vec<Kind> {
    match (cuda::open(0), std::env::var_os("LONGHAND_TEST_CUDA")) {
        (Ok(_), Some(_)) => vec![Kind::Cuda],
        (Ok(_), None) => vec![Kind::Cpu, Kind::Host, Kind::Cuda],
        (Err(_), None) => vec![Kind::Cpu, Kind::Host],
        (Err(reason), Some(_)) => panic!("{reason}"),
    }
}

fn host() -> Host {
    Host::open(&kernels::host::library().unwrap(), 4 << 30).unwrap()
}

fn gpu(kind: Kind) -> Box<dyn Gpu> {
    match kind {
        Kind::Cuda => cuda::open(0).unwrap(),
        Kind::Host => Box::new(host()),
        Kind::Cpu => panic!("the processor is no GPU"),
    }
}

fn on_gpu(kind: Kind, model: &Model, mode: CudaMode) -> CudaDevice {
    CudaDevice::load(gpu(kind), model, &mode.options()).unwrap()
}

fn device(kind: Kind, model: &Model, mode: CudaMode) -> Box<dyn Device> {
    match kind {
        Kind::Cpu => {
            let (kv_blocks, max_batch_tokens) = (selftest::BLOCKS, selftest::STEP_TOKENS);
            Box::new(CpuDevice::load(model, &CpuOptions { threads: Some(2), kv_blocks, max_batch_tokens }).unwrap())
        }
        Kind::Host | Kind::Cuda => Box::new(on_gpu(kind, model, mode)),
    }
}

fn bounds(kind: Kind, model: &Model, mode: CudaMode) -> Bounds {
    if kind == Kind::Cpu { Bounds::cpu(model).unwrap() } else { mode.bounds(model).unwrap() }
}

fn assert_within(bounds: Bounds, found: Result<Distances, SelftestError>, what: &str) {
    let typical = found.unwrap_or_else(|fault| panic!("{what}: {fault}")).typical();
    assert!(typical < bounds.typical, "{what}: {typical:.4} typically, where {:.4} is allowed", bounds.typical);
}

fn open(name: &str) -> Model {
    Model::open(&fixtures::tiny(name)).unwrap()
}

#[test]
fn every_device_agrees_with_transformers_on_every_family_and_type() {
    for kind in kinds() {
        for name in fixtures::TINY {
            let model = open(name);
            let beyond_gpu = match (model.config().window, &model.config().experts) {
                (Some(_), _) => Some("sliding windows"),
                (None, Some(_)) => Some("mixtures of experts"),
                (None, None) => None,
            };
            if let Some(what) = beyond_gpu.filter(|_| kind != Kind::Cpu) {
                let refusal = CudaDevice::load(gpu(kind), &model, &CudaMode::PLAIN.options()).unwrap_err().to_string();
                for part in [model.config().family, what, "--device cpu", "--engine openai"] {
                    assert!(refusal.contains(part), "no {part} in: {refusal}");
                }
                continue;
            }
            let known =
                fixtures::tiny_reference(name).into_iter().map(|it| KnownLogits { tokens: it.tokens, rows: it.rows });
            let known: Vec<KnownLogits> = known.collect();
            let mut device = device(kind, &model, CudaMode::PLAIN);
            let bounds = bounds(kind, &model, CudaMode::PLAIN);
            let found = selftest::compare_known(&mut *device, &known, bounds.worst);
            assert_within(bounds, found, &format!("{name} on {kind:?}"));
        }
    }
}

#[test]
fn every_device_follows_the_reference_in_chunks_token_by_token_and_in_company() {
    for kind in kinds() {
        for (name, model) in selftest::models().unwrap() {
            for mode in [CudaMode::PLAIN, CudaMode::DETERMINISTIC] {
                let (bounds, mut device) = (bounds(kind, &model, mode), device(kind, &model, mode));
                let found = selftest::logits(&mut *device, &model, bounds.worst);
                assert_within(bounds, found, &format!("{name} on {kind:?}{}", mode.name));
            }
        }
    }
}

/// Of models that run on the processor alone, and so are no part of the self-test.
#[test]
fn the_processor_follows_the_reference_with_windows_and_experts() {
    for name in ["gemma3", "qwen3-moe", "qwen3-moe-k_mix.gguf", "mixtral-q8_0.gguf"] {
        let model = open(name);
        let bounds = Bounds::cpu(&model).unwrap();
        let mut device = device(Kind::Cpu, &model, CudaMode::PLAIN);
        let found = selftest::logits(&mut *device, &model, bounds.worst);
        println!("{name}: {found:?} within {bounds:?}");
        assert_within(bounds, found, name);
        selftest::sampling(&mut *device, 0).unwrap();
    }
}

#[test]
fn every_device_chooses_the_tokens_that_the_sampler_chooses() {
    for kind in kinds() {
        for (name, model) in selftest::models().unwrap() {
            // Recorded steps and launched ones are the same work.
            for graphs in [true, false] {
                let mut device = device(kind, &model, CudaMode { graphs, ..CudaMode::PLAIN });
                let ties = if kind == Kind::Cuda { 3 } else { 0 };
                if let Err(fault) = selftest::sampling(&mut *device, ties) {
                    panic!("{name} on {kind:?}, graphs {graphs}: {fault}");
                }
            }
        }
    }
}

#[test]
fn eight_bit_floats_cost_what_their_rounding_does_and_sampling_nothing() {
    for kind in kinds().into_iter().filter(|kind| *kind != Kind::Cpu) {
        for (name, model) in selftest::models().unwrap() {
            for mode in
                [CudaMode::FP8_KV, CudaMode::FP8_WEIGHTS, CudaMode { deterministic: true, ..CudaMode::FP8_WEIGHTS }]
            {
                let (bounds, mut device) = (bounds(kind, &model, mode), on_gpu(kind, &model, mode));
                assert_eq!(device.kv_blocks(), selftest::BLOCKS);
                let found = selftest::logits(&mut device, &model, bounds.worst);
                println!("{name}{}: {found:?} within {bounds:?}", mode.name);
                assert_within(bounds, found, &format!("{name} on {kind:?}{}", mode.name));
                selftest::sampling(&mut device, if kind == Kind::Cuda { 3 } else { 0 }).unwrap();
            }
        }
    }
}

fn part(start: usize, len: usize, blocks: &[BlockId]) -> SeqStep {
    SeqStep { len, start, blocks: blocks.to_vec(), sample: None }
}

/// The deterministic mode's promise: a text's logits are the same bits whatever else runs, however it was cut.
#[test]
fn the_deterministic_mode_gives_the_same_bits_whatever_else_runs() {
    for kind in kinds().into_iter().filter(|kind| *kind != Kind::Cpu) {
        let model = open("qwen2");
        let mut device = on_gpu(kind, &model, CudaMode::DETERMINISTIC);
        let vocab = device.vocab();
        let text = |seed: usize, len: usize| -> Vec<u32> {
            (0..len).map(|i| ((i * 7919 + seed * 104_729 + i * i * 31) % vocab) as u32).collect()
        };
        let ours = text(1, 90);
        let blocks: Vec<BlockId> = (0..6).collect();
        let scattered: Vec<BlockId> = (0..6).map(|block| 200 - block * 9).collect();
        let mut read = |chunk: usize, blocks: &[BlockId]| -> Vec<f32> {
            let chunks = ours.chunks(chunk).enumerate();
            chunks
                .flat_map(|(index, tokens)| {
                    let sequences = vec![part(index * chunk, tokens.len(), blocks)];
                    device.logits(&StepBatch { tokens: tokens.to_vec(), sequences }).unwrap()
                })
                .collect()
        };
        let want = read(1, &blocks);
        for chunk in [7, 32, 90] {
            assert!(read(chunk, &scattered) == want, "{kind:?}, chunks of {chunk}: other bits");
        }
        // The last token of ours among others of all lengths.
        let mut batch = StepBatch::default();
        for (index, len) in [(0, 13), (1, 1), (2, 40)] {
            batch.tokens.extend(text(9 + index, len));
            batch.sequences.push(part(0, len, &(0..3).map(|i| (20 + index * 4 + i) as BlockId).collect::<Vec<_>>()));
            if index == 1 {
                batch.tokens.push(ours[89]);
                batch.sequences.push(part(89, 1, &scattered));
            }
        }
        let got = device.logits(&batch).unwrap();
        assert!(got[14 * vocab..15 * vocab] == want[89 * vocab..], "{kind:?}, among others: other bits");
    }
}

#[test]
fn a_step_that_cannot_be_run_is_refused_and_the_device_lives_on() {
    for kind in kinds() {
        let mut device = device(kind, &open("q4_0.gguf"), CudaMode::PLAIN);
        let mut refused = |tokens: Vec<u32>, sequences: Vec<SeqStep>| match device
            .step(&StepBatch { tokens, sequences }, &mut Vec::new())
        {
            Err(DeviceError::Step(why)) => why,
            other => panic!("{kind:?}: {other:?}"),
        };
        assert!(refused(vec![1; 300], vec![part(0, 300, &[0; 64])]).contains("300 tokens"));
        assert!(refused(vec![99_999], vec![part(0, 1, &[0])]).contains("vocabulary"));
        assert!(refused(vec![1, 2], vec![part(0, 1, &[0])]).contains("2 tokens"));
        assert!(refused(vec![1], vec![part(BLOCK_TOKENS, 1, &[0])]).contains("2 blocks"));
        assert!(refused(vec![1], vec![part(0, 1, &[4000])]).contains("block 4000"));
        assert!(refused(vec![1, 2], vec![part(0, 1, &[7]), part(0, 1, &[7])]).contains("block 7"));
        device.step(&StepBatch { tokens: vec![1], sequences: vec![part(0, 1, &[7])] }, &mut Vec::new()).unwrap();
    }
}

/// Greedy texts of the real model. Only on a GPU: its kernels run by the processor would take an hour.
#[test]
fn a_gpu_writes_what_the_processor_writes() {
    if !kinds().contains(&Kind::Cuda) {
        return;
    }
    let model = Model::open(&fixtures::small_model()).unwrap();
    let prompts = fixtures::small_model_prompts();
    let mut texts = Vec::new();
    for kind in [Kind::Cpu, Kind::Cuda] {
        let mut device = device(kind, &model, CudaMode::PLAIN);
        texts.push(prompts.iter().map(|prompt| greedy(&mut *device, &prompt.tokens)).collect::<Vec<_>>());
    }
    let same = texts[0].iter().zip(&texts[1]).filter(|(cpu, cuda)| cpu == cuda).count();
    println!("{same} of {} greedy texts of {GREEDY} tokens are the processor's", prompts.len());
    assert!(same * 20 >= prompts.len() * 18, "only {same} of {} greedy texts are the same", prompts.len());
}

const GREEDY: usize = 32;

fn sample(device: &mut dyn Device, batch: StepBatch) -> Vec<u32> {
    let mut sampled = Vec::new();
    device.step(&batch, &mut sampled).unwrap();
    sampled.into_iter().map(Result::unwrap).collect()
}

fn greedy(device: &mut dyn Device, prompt: &[u32]) -> Vec<u32> {
    let blocks: Vec<BlockId> = (0..(prompt.len() + GREEDY).div_ceil(BLOCK_TOKENS) as BlockId).collect();
    let choice = SampleParams {
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        key: RngKey { seed: 0, stream: 0 },
        position: 0,
        penalised: Vec::new(),
        bias: Vec::new(),
        mask: None,
    };
    let most = device.max_batch_tokens();
    let mut text = Vec::new();
    for (index, chunk) in prompt.chunks(most).enumerate() {
        let last = index * most + chunk.len() == prompt.len();
        let step = SeqStep { sample: last.then(|| choice.clone()), ..part(index * most, chunk.len(), &blocks) };
        text.extend(sample(device, StepBatch { tokens: chunk.to_vec(), sequences: vec![step] }));
    }
    while text.len() < GREEDY {
        let step = SeqStep { sample: Some(choice.clone()), ..part(prompt.len() + text.len() - 1, 1, &blocks) };
        let tokens = vec![text[text.len() - 1]];
        text.extend(sample(device, StepBatch { tokens, sequences: vec![step] }));
    }
    text
}

/// What `bench engine --load-format dummy --profile` does.
#[test]
fn a_shape_without_weights_is_measured_kernel_by_kernel() {
    let config = open("qwen3").config().clone();
    let profile = Profile::default();
    let options = CudaOptions {
        kv_memory: KvMemory::Blocks(16),
        kv_format: KvFormat::Bf16,
        weight_format: WeightFormat::Bf16,
        max_sequences: 4,
        max_batch_tokens: 32,
        deterministic: false,
        graphs: false,
    };
    for (weight_format, gemm) in
        [(WeightFormat::Bf16, "gemm 4 x 96 -> 288 "), (WeightFormat::Fp8, "gemm 16 x 96 -> 320 in fp8")]
    {
        let options = CudaOptions { weight_format, ..options.clone() };
        let mut device = CudaDevice::random(profile.around(gpu(Kind::Host)), &config, &options).unwrap();
        profile.clear();
        let mut meter = ThroughputMeter::new(&mut device, 3, 40).unwrap();
        meter.prefill(30).unwrap();
        meter.decode(30..32).unwrap();
        let table = profile.table(2);
        for part in ["rms_norm", "prefill_64_bf16", "decode_64_bf16", "sample_choose", gemm, "copy to the GPU"] {
            assert!(table.contains(part), "no {part} in\n{table}");
        }
    }
}

#[test]
fn the_shapes_to_measure_are_those_of_the_models_they_name() {
    for (file, layers, dim, vocab, tied) in [
        ("llama-3.1-8b", 32, 4096, 128_256, false),
        ("qwen3-8b", 36, 4096, 151_936, false),
        ("qwen3-0.6b", 28, 1024, 151_936, true),
    ] {
        let path = fixtures::path("../../../examples/shapes").join(format!("{file}.json"));
        let config = Model::shape(&path).unwrap();
        assert_eq!(
            (config.layers, config.dim, config.vocab, config.tied_embeddings),
            (layers, dim, vocab, tied),
            "{file}"
        );
        assert_eq!(config.head_dim, 128, "{file}");
    }
}
