//! Whether a device computes what it should. Checks for `longhand selftest`, and for tests on every device: tiny models against
//! the reference forward pass, in chunks, token by token and in company; and chosen tokens against the
//! sampler.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use longhand_proto::task::Sampling;

use crate::cuda::{CudaOptions, KvFormat, KvMemory, WeightFormat};
use crate::device::{BLOCK_TOKENS, BlockId, Device, DeviceError, RngKey, SampleParams, SeqStep, StepBatch};
use crate::model::{DType, LayerWeight, Model, ModelError, WeightId};
use crate::ops::sampler::Sampler;
use crate::reference::{self, Rounding};

/// KV blocks that the checks use.
pub const BLOCKS: usize = 256;
/// Tokens of their longest step.
pub const STEP_TOKENS: usize = 128;
/// Sequences of their biggest step.
pub const SEQUENCES: usize = 40;

/// Tiny models of random weights, one of each family, as files.
const MODELS: [(&str, &[u8]); 4] = [
    ("llama, Q4_1", include_bytes!("../tests/fixtures/tiny/q4_1.gguf")),
    ("llama 3, Q5_1", include_bytes!("../tests/fixtures/tiny/llama3-q5_1.gguf")),
    ("qwen 2, Q4_1", include_bytes!("../tests/fixtures/tiny/qwen2-q4_1.gguf")),
    ("qwen 3, Q8_0", include_bytes!("../tests/fixtures/tiny/qwen3-q8_0.gguf")),
];

/// How the CUDA device is set up.
#[derive(Debug, Clone, Copy)]
pub struct CudaMode {
    /// Follows the name of what is checked; empty for the plain mode.
    pub name: &'static str,
    /// Type of keys and values.
    pub kv_format: KvFormat,
    /// Type of the layers' weights.
    pub weight_format: WeightFormat,
    /// As of [`CudaOptions::deterministic`].
    pub deterministic: bool,
    /// As of [`CudaOptions::graphs`].
    pub graphs: bool,
}

impl CudaMode {
    /// Everything in bf16.
    pub const PLAIN: Self = Self {
        name: "",
        kv_format: KvFormat::Bf16,
        weight_format: WeightFormat::Bf16,
        deterministic: false,
        graphs: true,
    };
    /// Results do not depend on what else is in a step.
    pub const DETERMINISTIC: Self = Self { name: ", deterministic", deterministic: true, ..Self::PLAIN };
    /// Keys and values in e4m3.
    pub const FP8_KV: Self = Self { name: ", fp8 keys and values", kv_format: KvFormat::Fp8, ..Self::PLAIN };
    /// Weights in e4m3.
    pub const FP8_WEIGHTS: Self = Self { name: ", fp8 weights", weight_format: WeightFormat::Fp8, ..Self::PLAIN };
    /// All modes that are checked.
    pub const ALL: [Self; 4] = [Self::PLAIN, Self::DETERMINISTIC, Self::FP8_KV, Self::FP8_WEIGHTS];

    /// Options of a device for these checks.
    pub fn options(self) -> CudaOptions {
        CudaOptions {
            kv_memory: KvMemory::Blocks(BLOCKS),
            kv_format: self.kv_format,
            weight_format: self.weight_format,
            max_sequences: SEQUENCES,
            max_batch_tokens: STEP_TOKENS,
            deterministic: self.deterministic,
            graphs: self.graphs,
        }
    }

    /// How far logits may be off then: between two kernels everything is bf16.
    pub fn bounds(self, model: &Model) -> Result<Bounds, SelftestError> {
        let rounding = match (self.kv_format, self.weight_format) {
            (KvFormat::Bf16, WeightFormat::Bf16) => Rounding::Nothing,
            (KvFormat::Fp8, _) => Rounding::KeysAndValues,
            (KvFormat::Bf16, WeightFormat::Fp8) => Rounding::Layers,
        };
        Bounds::new(model, 0.03, rounding)
    }
}

/// How far logits may be from float32's, in units of their spread.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of any row.
    pub worst: f64,
    /// Of the root of the mean square over all rows.
    pub typical: f64,
}

impl Bounds {
    /// Of the processor, whose keys and values are bf16, and which rounds rows where weights are quantised.
    pub fn cpu(model: &Model) -> Result<Self, SelftestError> {
        let dtype = model.tensor(WeightId::Layer(0, LayerWeight::QProj))?.dtype;
        let quantised = !matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
        Self::new(model, 0.01, if quantised { Rounding::RowsToBytes } else { Rounding::Nothing })
    }

    /// `own`: what a device may be off by without any rounding but bf16's. What the rounding makes of a model is worked out:
    /// typically a quarter more is allowed; of the worst row, which is a matter of luck, two fifths more.
    fn new(model: &Model, own: f64, rounding: Rounding) -> Result<Self, SelftestError> {
        let tokens = text(0, TEXT, model.config().vocab);
        let exact = reference::logits(model, &tokens, Rounding::Nothing)?;
        let rounded = reference::logits(model, &tokens, rounding)?;
        let mut cost = Distances::default();
        cost.add_rows("rounded", 0, &rounded, &exact, model.config().vocab, f64::INFINITY)?;
        Ok(Self { worst: own.max(1.4 * cost.worst), typical: own.max(1.25 * cost.typical()) })
    }
}

/// Tokens of the text that is read.
const TEXT: usize = 150;

/// Why a device failed.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// A step failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tiny model does not open.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The tiny model cannot be written, or known logits cannot be read.
    #[error("the tiny model cannot be written to a temporary file: {0}")]
    File(#[from] std::io::Error),
    /// A file of known logits does not hold any.
    #[error("{}: {what}", file.display())]
    KnownLogits { file: PathBuf, what: String },
    /// A row of logits is too far from the reference's.
    #[error(
        "{how}: the logits of token {row} deviate from the reference by {distance:.4} of their spread; at most {bound} is allowed"
    )]
    Mismatch { how: String, row: usize, distance: f64, bound: f64 },
    /// Tokens are not those of the reference sampler.
    #[error("{wrong} of {all} tokens differ from those that the reference sampler chooses from the same logits")]
    Sampling { wrong: usize, all: usize },
}

/// Opens the tiny models, by what they are.
pub fn models() -> Result<Vec<(&'static str, Model)>, SelftestError> {
    static OPENED: AtomicU32 = AtomicU32::new(0);
    let open = |(name, bytes): &(&'static str, &[u8])| {
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        // Mapped, so the file may be deleted when it is open.
        let path = std::env::temp_dir().join(format!("longhand-{}-{number}.gguf", std::process::id()));
        let mut file = std::fs::File::create_new(&path)?;
        let written = file.write_all(bytes).map_err(SelftestError::from);
        let model = written.and_then(|()| Ok(Model::open(&path)?));
        std::fs::remove_file(&path)?;
        Ok((*name, model?))
    };
    MODELS.iter().map(open).collect()
}

/// How far rows of logits are from those that they should be, each as [`distance`] says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Distances {
    rows: usize,
    squares: f64,
    /// The greatest.
    pub worst: f64,
}

impl Distances {
    /// Root of the mean square.
    pub fn typical(&self) -> f64 {
        (self.squares / self.rows as f64).sqrt()
    }

    /// Rows of logits, of which the first is the text's row `first`.
    fn add_rows(
        &mut self,
        how: &str,
        first: usize,
        got: &[f32],
        want: &[f32],
        vocab: usize,
        bound: f64,
    ) -> Result<(), SelftestError> {
        let mut pairs = got.chunks_exact(vocab).zip(want.chunks_exact(vocab)).enumerate();
        pairs.try_for_each(|(row, (got, want))| self.add(how, first + row, distance(got, want), bound))
    }

    fn add(&mut self, how: &str, row: usize, distance: f64, bound: f64) -> Result<(), SelftestError> {
        // A distance that is no number is none to be content with.
        if distance.is_nan() || distance >= bound {
            return Err(SelftestError::Mismatch { how: how.to_owned(), row, distance, bound });
        }
        self.rows += 1;
        self.squares += distance * distance;
        self.worst = self.worst.max(distance);
        Ok(())
    }
}

/// The device's logits against the reference's: a text read in chunks, token by token, and with others beside it.
pub fn logits(device: &mut dyn Device, model: &Model, bound: f64) -> Result<Distances, SelftestError> {
    let vocab = device.vocab();
    let tokens = text(0, TEXT, vocab);
    let want = reference::logits(model, &tokens, Rounding::Nothing)?;
    let mut distances = Distances::default();
    let mut add_within = |how: &str, first: usize, got: &[f32]| {
        distances.add_rows(how, first, got, &want[first * vocab..], vocab, bound)
    };
    let blocks: Vec<BlockId> = (0..10).collect();
    let scattered: Vec<BlockId> = (0..10).map(|block| 255 - block * 7).collect();
    for (how, chunk, blocks) in
        [("in chunks of 100", 100, &blocks), ("in chunks of 33", 33, &scattered), ("token by token", 1, &blocks)]
    {
        for (index, tokens) in tokens.chunks(chunk).enumerate() {
            let sequences = vec![part(index * chunk, tokens.len(), blocks)];
            let got = device.logits(&StepBatch { tokens: tokens.to_vec(), sequences })?;
            add_within(how, index * chunk, &got)?;
        }
    }
    // Ours is written on while another is read and a third is written.
    let mut batch = StepBatch { tokens: text(1, 60, vocab), sequences: vec![part(0, 60, &[40, 41, 42, 43])] };
    batch.tokens.push(tokens[TEXT - 1]);
    batch.sequences.push(part(TEXT - 1, 1, &blocks));
    batch.tokens.push(7);
    batch.sequences.push(part(0, 1, &[50]));
    let got = device.logits(&batch)?;
    add_within("beside others", TEXT - 1, &got[60 * vocab..61 * vocab])?;
    Ok(distances)
}

/// Tokens that the device chooses against those that the sampler chooses from the device's own logits. Where the logits of
/// the same row may differ in their last bits from step to step, a few near ties go the other way: `allowed` of a hundred.
pub fn sampling(device: &mut dyn Device, allowed: usize) -> Result<(), SelftestError> {
    let vocab = device.vocab();
    let cases = sampling_cases(vocab);
    let (mut wrong, mut all) = (0, 0);
    let mut sampler = Sampler::default();
    for round in 0..4 {
        let mut batch = StepBatch::default();
        for (index, params) in cases.iter().enumerate() {
            let len = 1 + index % 3;
            batch.tokens.extend(text(round * 100 + index, len, vocab));
            let params = SampleParams { position: round as u32, ..params.clone() };
            batch.sequences.push(SeqStep { sample: Some(params), ..part(0, len, &[index as BlockId]) });
        }
        let logits = device.logits(&batch)?;
        let mut chosen = Vec::new();
        device.step(&batch, &mut chosen)?;
        let mut end = 0;
        for (sequence, chosen) in batch.sequences.iter().zip(chosen) {
            end += sequence.len;
            let mut row = logits[(end - 1) * vocab..end * vocab].to_vec();
            let Some(params) = &sequence.sample else { continue };
            let want = sampler.sample(&mut row, params).map_err(|error| DeviceError::Step(error.to_string()))?;
            all += 1;
            wrong += usize::from(chosen != Ok(want));
        }
    }
    if wrong * 100 > allowed * all { Err(SelftestError::Sampling { wrong, all }) } else { Ok(()) }
}

/// Every way of sampling, alone and together.
fn sampling_cases(vocab: usize) -> Vec<SampleParams> {
    let plain =
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repetition_penalty: 1.0, ..Sampling::default() };
    let warm = Sampling { temperature: 0.9, ..plain };
    let samplings = [
        plain,
        warm,
        Sampling { temperature: 5.0, ..plain },
        Sampling { top_k: 1, ..warm },
        Sampling { top_k: 40, ..warm },
        Sampling { top_p: 0.5, ..warm },
        Sampling { top_p: 0.95, ..warm },
        Sampling { min_p: 0.1, ..warm },
        Sampling { top_k: 30, top_p: 0.9, min_p: 0.02, ..warm },
        Sampling { repetition_penalty: 1.3, ..plain },
        Sampling { repetition_penalty: 1.3, top_k: 20, ..warm },
    ];
    let mut cases = Vec::new();
    for (index, sampling) in samplings.into_iter().enumerate() {
        let key = RngKey { seed: 77 + index as u64, stream: (u64::MAX / 3).wrapping_mul(index as u64) };
        let plain = SampleParams {
            sampling,
            key,
            position: 0,
            penalised: if sampling.repetition_penalty == 1.0 { Vec::new() } else { (0..vocab as u32 / 2).collect() },
            bias: Vec::new(),
            mask: None,
        };
        let biased = SampleParams { bias: vec![(3, 4.0), (5, f32::NEG_INFINITY)], ..plain.clone() };
        let words = (0..vocab.div_ceil(32) as u32).map(|word| 0x1357_9bdf_u32.rotate_left(word)).collect();
        let masked = SampleParams { mask: Some(words), ..plain.clone() };
        cases.extend([plain, biased, masked]);
    }
    cases
}

/// Tokens that look like chance.
fn text(seed: usize, len: usize, vocab: usize) -> Vec<u32> {
    (0..len).map(|at| ((at * 7919 + seed * 104_729 + at * at * 31 + 11) % vocab) as u32).collect()
}

fn part(start: usize, len: usize, blocks: &[BlockId]) -> SeqStep {
    debug_assert!(blocks.len() * BLOCK_TOKENS >= start + len, "too few blocks for the text");
    SeqStep { len, start, blocks: blocks.to_vec(), sample: None }
}

/// Root of the mean square difference in units of the reference's spread: what a shift of all logits does not change.
pub fn distance(got: &[f32], want: &[f32]) -> f64 {
    let mean = |x: &[f32]| x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
    let (got_mean, want_mean) = (mean(got), mean(want));
    let squares = |difference: &dyn Fn(usize) -> f64| (0..got.len()).map(|i| difference(i).powi(2)).sum::<f64>();
    let error = squares(&|i| f64::from(got[i]) - got_mean - f64::from(want[i]) + want_mean);
    (error / squares(&|i| f64::from(want[i]) - want_mean)).sqrt()
}

/// The greatest distance between two devices' logits of the same text.
pub fn max_distance(a: &mut dyn Device, b: &mut dyn Device) -> Result<f64, SelftestError> {
    let (tokens, vocab) = (text(3, STEP_TOKENS, a.vocab()), a.vocab());
    let blocks: Vec<BlockId> = (0..STEP_TOKENS.div_ceil(BLOCK_TOKENS) as BlockId).collect();
    let batch = StepBatch { tokens, sequences: vec![part(0, STEP_TOKENS, &blocks)] };
    let (a, b) = (a.logits(&batch)?, b.logits(&batch)?);
    let distances = a.chunks_exact(vocab).zip(b.chunks_exact(vocab)).map(|(a, b)| distance(a, b));
    // A distance that is no number is the greatest.
    Ok(distances.fold(0.0, |worst, distance| if distance <= worst { worst } else { distance }))
}

/// Logits that another program computed: of a text, the last `rows.len()` positions.
#[derive(Debug)]
pub struct KnownLogits {
    /// The text.
    pub tokens: Vec<u32>,
    /// `[vocab]` each.
    pub rows: Vec<Vec<f32>>,
}

/// Reads `tokens.N` and `logits.N`, N from 0, out of a safetensors file.
pub fn known(file: &Path) -> Result<Vec<KnownLogits>, SelftestError> {
    let bytes = std::fs::read(file)?;
    let wrong = |what: String| SelftestError::KnownLogits { file: file.to_owned(), what };
    let tensors = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let words = |data: &[u8]| data.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect::<Vec<_>>();
    let mut known = Vec::new();
    while let Ok(tokens) = tensors.tensor(&format!("tokens.{}", known.len())) {
        let name = format!("logits.{}", known.len());
        let logits = tensors.tensor(&name).map_err(|error| wrong(error.to_string()))?;
        let &[_, vocab] = logits.shape() else { return Err(wrong(format!("{name} must be a matrix"))) };
        let numbers: Vec<f32> = words(logits.data()).into_iter().map(f32::from_le_bytes).collect();
        known.push(KnownLogits {
            tokens: words(tokens.data()).into_iter().map(u32::from_le_bytes).collect(),
            rows: numbers.chunks_exact(vocab.max(1)).map(<[f32]>::to_vec).collect(),
        });
    }
    if known.is_empty() { Err(wrong("tokens.0 is missing".into())) } else { Ok(known) }
}

/// The device's logits against known ones.
pub fn compare_known(device: &mut dyn Device, known: &[KnownLogits], bound: f64) -> Result<Distances, SelftestError> {
    let vocab = device.vocab();
    let max = device.max_batch_tokens();
    let mut distances = Distances::default();
    for KnownLogits { tokens, rows } in known {
        let blocks: Vec<BlockId> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as BlockId).collect();
        let first = tokens.len() - rows.len();
        for (index, chunk) in tokens.chunks(max).enumerate() {
            let sequences = vec![part(index * max, chunk.len(), &blocks)];
            let got = device.logits(&StepBatch { tokens: chunk.to_vec(), sequences })?;
            for (at, got) in got.chunks_exact(vocab).enumerate() {
                let row = index * max + at;
                let Some(want) = row.checked_sub(first).and_then(|at| rows.get(at)) else { continue };
                distances.add(&format!("of {} tokens", tokens.len()), row, distance(got, want), bound)?;
            }
        }
    }
    Ok(distances)
}
