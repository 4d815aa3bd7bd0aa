//! The forward pass of one step: which kernel runs when, on which memory. All memory is allocated at the start.

use half::bf16;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::capacity::Capacity;
use super::gpu::{Buffer, Epilogue, FP8_GPU, Gemm, Gpu, GpuError, OperandType, Ptr, bytes_of, bytes_of_mut};
use super::kernels::decode::{self, Decode};
use super::kernels::embed::Embed;
use super::kernels::kv::{HEAD_DIMS, KvFormat, KvShape, Span};
use super::kernels::norm::{AddBias, RmsNorm};
use super::kernels::prefill::Prefill;
use super::kernels::quantise::{QuantiseRows, Rescale};
use super::kernels::rope::{Angles, Rope};
use super::kernels::sample::{self, Sample};
use super::kernels::silu::SiluMul;
use super::sampling_inputs::SamplingInputs;
use super::step_inputs::{BatchLayout, GraphKey, StepInputs};
use super::weights::{Layer, Matrix, WeightFormat, Weights};
use crate::model::{ModelConfig, RopeStyle};

/// Rows that are multiplied together where results must not depend on company: by one plan, whatever the batch. Up to
/// here a product is bound by its weights, so decoding loses nothing; prompts read the weights more often than they need.
pub(super) const DETERMINISTIC_ROWS: usize = 128;

/// Products of eight-bit floats have a multiple of this in rows, as they have in outputs and inputs: NVIDIA's documentation
/// asks for it, and the tensor cores compute no fewer.
const FP8_ROWS: usize = 16;

/// Memory of a step between its kernels.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Residual stream, `[rows][dim]`.
    x: Buffer<f32>,
    /// `[rows][dim]`
    normed: Buffer<bf16>,
    /// `[rows][q + k + v]`
    qkv: Buffer<bf16>,
    /// Cosines and sines, `[rows][head_dim / 2][2]`.
    angles: Buffer<f32>,
    /// `[rows][heads * head_dim]`
    queries: Buffer<bf16>,
    attended: Buffer<bf16>,
    /// Results of parts of a context, before they are folded.
    partial: Buffer<f32>,
    /// Their row maxima and row sums.
    softmax_stats: Buffer<f32>,
    /// `[rows][gate + up]`
    gate_up: Buffer<bf16>,
    /// `[rows][ffn]`
    hidden: Buffer<bf16>,
    /// What is multiplied with fp8 weights, `[rows][the widest]`, its scales, `[rows]`, and the sums of the products. Empty
    /// where weights are bf16.
    fp8_rows: Buffer<u8>,
    row_scales: Buffer<f32>,
    sums: Buffer<f32>,
    /// `[samples][vocab]`
    logits: Buffer<f32>,
    /// The greatest of each chunk of logits, `[samples][chunks][2]`.
    logit_peaks: Buffer<f32>,
    /// Ids, or error codes: `[samples]`, and room for padding.
    sampled: Buffer<u32>,
}

/// Weights, the pool of keys and values, and what steps need.
#[derive(Debug)]
pub(super) struct Forward {
    config: ModelConfig,
    weights: Weights,
    scratch: Scratch,
    /// Of each pair of a head, `[head_dim / 2][2]`: radians per position, and what cosine and sine are multiplied with.
    turns: Buffer<f32>,
    /// Of one layer after the other; none until it is allocated.
    pool: Option<Buffer<u8>>,
    blocks: usize,
    kv: KvShape,
    multiprocessors: u32,
    capacity: Capacity,
    layout: BatchLayout,
}

/// Why the kernels, or a GPU of this compute capability, cannot run a model of this shape; none if they can.
pub(super) fn unsupported(config: &ModelConfig, weights: WeightFormat, capability: (u32, u32)) -> Option<String> {
    if weights == WeightFormat::Fp8 && capability < FP8_GPU {
        let ((major, minor), (need, point)) = (capability, FP8_GPU);
        return Some(format!(
            "fp8 weights need a GPU of compute capability {need}.{point} or newer (Ada, Hopper), this one has \
             {major}.{minor}; leave out --weight-dtype fp8"
        ));
    }
    if config.window.is_some() {
        let family = config.family;
        return Some(format!(
            "{family}: sliding windows are not supported on a GPU; use --device cpu, or serve the model with vLLM and use \
             --engine openai"
        ));
    }
    if config.experts.is_some() {
        let family = config.family;
        return Some(format!(
            "{family}: mixtures of experts are not supported on a GPU; use --device cpu, or serve the model with vLLM and use \
             --engine openai"
        ));
    }
    if !HEAD_DIMS.contains(&config.head_dim) {
        let (head_dim, widths) = (config.head_dim, HEAD_DIMS);
        return Some(format!(
            "heads of width {head_dim} are not supported on a GPU, only of {widths:?}; use --device cpu"
        ));
    }
    if !config.rotated.is_multiple_of(4) {
        let rotated = config.rotated;
        return Some(format!(
            "rope turns {rotated} elements of a head, which is not a multiple of 4, as the GPU kernels require; use \
             --device cpu"
        ));
    }
    let (group, max) = (config.heads / config.kv_heads, Span::QUERIES);
    if group > max {
        return Some(format!(
            "{group} query heads to a key-value head exceed the {max} that the GPU kernels support; use --device cpu"
        ));
    }
    if config.vocab > sample::MAX_VOCAB {
        let (vocab, max) = (config.vocab, sample::MAX_VOCAB);
        return Some(format!(
            "a vocabulary of {vocab} tokens exceeds the {max} that the GPU kernels support; use --device cpu"
        ));
    }
    let (unit, remedy) = match weights {
        WeightFormat::Bf16 => (8, "use --device cpu"),
        WeightFormat::Fp8 => (16, "leave out --weight-dtype fp8"),
    };
    let sizes = [("width", config.dim), ("feed-forward width", config.ffn)];
    let uneven = sizes.into_iter().find(|(_, size)| size % unit != 0);
    uneven.map(|(name, size)| {
        format!("the model's {name} {size} is not a multiple of {unit}, which the GPU kernels require; {remedy}")
    })
}

/// The most numbers of a row on their way into a product, and out of it, where weights are fp8.
fn widest(config: &ModelConfig, weights: WeightFormat) -> (usize, usize) {
    let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
    match weights {
        WeightFormat::Bf16 => (0, 0),
        WeightFormat::Fp8 => (config.dim.max(q).max(config.ffn), config.dim.max(q + 2 * kv).max(2 * config.ffn)),
    }
}

/// Bytes of [`Scratch`] and what products need beside it.
pub(super) fn scratch_bytes(config: &ModelConfig, weights: WeightFormat, capacity: Capacity) -> usize {
    let q = config.heads * config.head_dim;
    let (inputs, outputs) = widest(config, weights);
    let row = 4 * config.dim
        + 2 * (config.dim + 3 * q + 2 * config.kv_heads * config.head_dim + 3 * config.ffn)
        + inputs
        + 4 * outputs;
    capacity.rows * row + capacity.sequences * config.vocab * 5 + (512 << 20)
}

impl Forward {
    pub(super) fn new(
        gpu: &dyn Gpu,
        config: ModelConfig,
        weights: Weights,
        capacity: Capacity,
        layout: BatchLayout,
        (weight_format, kv_format): (WeightFormat, KvFormat),
    ) -> Result<Self, GpuError> {
        let Capacity { rows, sequences, vocab, .. } = capacity;
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let (widest_in, widest_out) = widest(&config, weight_format);
        let multiprocessors = gpu.properties().multiprocessors;
        let splits = |singles| decode::splits(multiprocessors, singles, config.heads, config.kv_heads);
        let parts = (1..=sequences).map(|singles| singles * splits(singles)).max().unwrap_or(0) * config.heads;
        let scratch = Scratch {
            x: Buffer::new(gpu, rows * config.dim)?,
            normed: Buffer::new(gpu, rows * config.dim)?,
            qkv: Buffer::new(gpu, rows * (q + 2 * kv))?,
            angles: Buffer::new(gpu, rows * config.head_dim)?,
            queries: Buffer::new(gpu, rows * q)?,
            attended: Buffer::new(gpu, rows * q)?,
            partial: Buffer::new(gpu, parts * config.head_dim)?,
            softmax_stats: Buffer::new(gpu, parts * 2)?,
            gate_up: Buffer::new(gpu, rows * 2 * config.ffn)?,
            hidden: Buffer::new(gpu, rows * config.ffn)?,
            fp8_rows: Buffer::new(gpu, rows.next_multiple_of(FP8_ROWS) * widest_in)?,
            row_scales: Buffer::new(gpu, rows)?,
            sums: Buffer::new(gpu, rows.next_multiple_of(FP8_ROWS) * widest_out)?,
            logits: Buffer::new(gpu, sequences * vocab)?,
            logit_peaks: Buffer::new(gpu, sequences * sample::chunks(vocab) * 2)?,
            sampled: Buffer::new(gpu, 2 * sequences)?,
        };
        let turns = Buffer::from_slice(gpu, config.rope_turns().as_flattened())?;
        let kv = KvShape { kv_heads: config.kv_heads, head_dim: config.head_dim, format: kv_format };
        Ok(Self { config, weights, scratch, turns, pool: None, blocks: 0, kv, multiprocessors, capacity, layout })
    }

    pub(super) fn vocab(&self) -> usize {
        self.config.vocab
    }

    pub(super) fn context(&self) -> usize {
        self.config.context
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    /// Bytes of one block of the pool over all layers.
    pub(super) fn block_bytes(&self) -> usize {
        self.config.layers * self.kv.block_bytes()
    }

    pub(super) fn allocate_kv(&mut self, gpu: &dyn Gpu, blocks: usize) -> Result<(), GpuError> {
        self.pool = Some(Buffer::new(gpu, blocks * self.block_bytes())?);
        self.blocks = blocks;
        Ok(())
    }

    /// Does each matrix product once, in all sizes, so that its algorithms are timed before anybody waits: on random numbers,
    /// as products of zeros are faster than any other.
    pub(super) fn autotune(&self, gpu: &dyn Gpu, padded: impl Fn(usize) -> usize) -> Result<(), GpuError> {
        let mut rng = SmallRng::seed_from_u64(2);
        for input in [&self.scratch.normed, &self.scratch.attended, &self.scratch.hidden] {
            let numbers: Vec<bf16> = (0..input.len()).map(|_| bf16::from_f32(rng.random_range(-1.0..1.0))).collect();
            gpu.write(input.ptr(), bytes_of(&numbers))?;
        }
        let mut rows = 1;
        while rows <= self.capacity.rows {
            let size = padded(rows);
            if let Some(layer) = self.weights.layers.first() {
                self.qkv_proj(gpu, layer, size)?;
                self.o_proj(gpu, layer, size)?;
                self.gate_up_proj(gpu, layer, size)?;
                self.down_proj(gpu, layer, size)?;
            }
            if size <= self.capacity.sequences {
                self.lm_head(gpu, size)?;
            }
            rows = size + 1;
        }
        gpu.synchronize()
    }

    /// Samples tokens from what the layers left, as `sampling` says; the first of them is number `first`.
    pub(super) fn sample(
        &self,
        gpu: &dyn Gpu,
        sampling: &SamplingInputs,
        count: usize,
        first: usize,
    ) -> Result<(), GpuError> {
        self.norm(gpu, self.scratch.x.ptr(), sampling.rows(), &self.weights.output_norm, count)?;
        self.lm_head(gpu, count)?;
        Sample {
            logits: self.scratch.logits.ptr(),
            rows: sampling.choices(),
            biases: sampling.lists(),
            penalised: sampling.lists(),
            masks: sampling.lists(),
            peaks: self.scratch.logit_peaks.ptr(),
            tokens: self.scratch.sampled.at(first),
            count,
            vocab: self.config.vocab,
        }
        .launch(gpu)
    }

    /// Where sampled tokens are left.
    pub(super) fn sampled(&self) -> Ptr {
        self.scratch.sampled.ptr()
    }

    /// The layers of a step. The residual stream is left in `x`.
    pub(super) fn layers(&self, gpu: &dyn Gpu, inputs: &StepInputs, shape: GraphKey) -> Result<(), GpuError> {
        let Self { config, scratch, .. } = self;
        Embed {
            tokens: inputs.tokens(),
            sampled: self.sampled(),
            table: self.weights.embedding.ptr(),
            x: scratch.x.ptr(),
            rows: shape.rows,
            dim: config.dim,
            vocab: config.vocab,
        }
        .launch(gpu)?;
        Angles {
            positions: inputs.positions(),
            turns: self.turns.ptr(),
            angles: scratch.angles.ptr(),
            rows: shape.rows,
            pairs: config.head_dim / 2,
        }
        .launch(gpu)?;
        for (index, layer) in self.weights.layers.iter().enumerate() {
            self.norm(gpu, scratch.x.ptr(), Ptr::NULL, &layer.attn_norm, shape.rows)?;
            self.qkv_proj(gpu, layer, shape.rows)?;
            self.attention(gpu, index, layer, inputs, shape)?;
            self.o_proj(gpu, layer, shape.rows)?;
            self.norm(gpu, scratch.x.ptr(), Ptr::NULL, &layer.mlp_norm, shape.rows)?;
            self.gate_up_proj(gpu, layer, shape.rows)?;
            let (gate_up, out) = (scratch.gate_up.ptr(), scratch.hidden.ptr());
            let bias = layer.gate_up_bias.as_ref().map_or(Ptr::NULL, Buffer::ptr);
            SiluMul { gate_up, bias, out, rows: shape.rows, width: config.ffn }.launch(gpu)?;
            self.down_proj(gpu, layer, shape.rows)?;
        }
        Ok(())
    }

    /// Logits of the first `rows` rows of the residual stream.
    pub(super) fn all_logits(
        &self,
        gpu: &dyn Gpu,
        rows: usize,
        padded: impl Fn(usize) -> usize,
    ) -> Result<Vec<f32>, GpuError> {
        let vocab = self.config.vocab;
        let mut logits = vec![0.0; rows * vocab];
        for (index, logits) in logits.chunks_mut(self.capacity.sequences * vocab).enumerate() {
            let (first, count) = (index * self.capacity.sequences, logits.len() / vocab);
            self.norm(gpu, self.scratch.x.at(first * self.config.dim), Ptr::NULL, &self.weights.output_norm, count)?;
            self.lm_head(gpu, padded(count))?;
            gpu.read(bytes_of_mut(logits), self.scratch.logits.ptr())?;
        }
        Ok(logits)
    }

    /// Rope, the write to the pool, and attention of one layer.
    fn attention(
        &self,
        gpu: &dyn Gpu,
        index: usize,
        layer: &Layer,
        inputs: &StepInputs,
        step: GraphKey,
    ) -> Result<(), GpuError> {
        let Self { config, scratch, kv: shape, .. } = self;
        let pool = self.pool.as_ref().ok_or_else(|| GpuError::Failed("the KV pool is not allocated".into()))?;
        let pool = pool.at(index * self.blocks * shape.block_bytes());
        let norm = |which: usize| layer.qk_norms.as_ref().map_or(Ptr::NULL, |norms| norms[which].ptr());
        let (queries, out, tables) = (scratch.queries.ptr(), scratch.attended.ptr(), inputs.tables());
        let (heads, shape) = (config.heads, *shape);
        Rope {
            qkv: scratch.qkv.ptr(),
            bias: layer.qkv_bias.as_ref().map_or(Ptr::NULL, Buffer::ptr),
            query_norm: norm(0),
            key_norm: norm(1),
            eps: config.norm_eps,
            angles: scratch.angles.ptr(),
            slots: inputs.slots(),
            queries,
            pool,
            rows: step.rows,
            heads,
            shape,
            interleaved: config.layer.rope_style == RopeStyle::Interleaved,
            rotated: config.rotated,
        }
        .launch(gpu)?;
        if step.singles > 0 {
            let splits = decode::splits(self.multiprocessors, step.singles, heads, shape.kv_heads);
            let (spans, count) = (inputs.singles(), step.singles);
            let (partial, weights) = (scratch.partial.ptr(), scratch.softmax_stats.ptr());
            Decode { queries, pool, tables, spans, out, partial, weights, count, heads, shape, splits }.launch(gpu)?;
        }
        if step.chunks > 0 {
            let (spans, count) = (inputs.chunks(), step.chunks);
            Prefill { queries, pool, tables, spans, out, count, heads, shape }.launch(gpu)?;
        }
        Ok(())
    }

    fn norm(&self, gpu: &dyn Gpu, x: Ptr, rows: Ptr, weight: &Buffer<f32>, count: usize) -> Result<(), GpuError> {
        let (dim, eps) = (self.config.dim, self.config.norm_eps);
        RmsNorm { x, rows, weight: weight.ptr(), out: self.scratch.normed.ptr(), count, dim, eps }.launch(gpu)
    }

    /// Queries, keys and values of normed rows, before rope.
    fn qkv_proj(&self, gpu: &dyn Gpu, layer: &Layer, rows: usize) -> Result<(), GpuError> {
        let width = (self.config.heads + 2 * self.config.kv_heads) * self.config.head_dim;
        let (input, output) = (self.scratch.normed.ptr(), self.scratch.qkv.ptr());
        self.gemm(gpu, rows, &layer.qkv, [width, self.config.dim], input, output, Epilogue::Bf16)
    }

    /// Adds the output projection of what was attended to to the residual stream.
    fn o_proj(&self, gpu: &dyn Gpu, layer: &Layer, rows: usize) -> Result<(), GpuError> {
        let width = self.config.heads * self.config.head_dim;
        let (input, output) = (self.scratch.attended.ptr(), self.scratch.x.ptr());
        self.gemm(gpu, rows, &layer.output, [self.config.dim, width], input, output, Epilogue::AddF32)?;
        self.add_bias(gpu, layer.output_bias.as_ref(), rows)
    }

    /// Gate and up projections of normed rows.
    fn gate_up_proj(&self, gpu: &dyn Gpu, layer: &Layer, rows: usize) -> Result<(), GpuError> {
        let (input, output) = (self.scratch.normed.ptr(), self.scratch.gate_up.ptr());
        self.gemm(gpu, rows, &layer.gate_up, [2 * self.config.ffn, self.config.dim], input, output, Epilogue::Bf16)
    }

    /// Adds the down projection of the gated rows to the residual stream.
    fn down_proj(&self, gpu: &dyn Gpu, layer: &Layer, rows: usize) -> Result<(), GpuError> {
        let (input, output) = (self.scratch.hidden.ptr(), self.scratch.x.ptr());
        self.gemm(gpu, rows, &layer.down, [self.config.dim, self.config.ffn], input, output, Epilogue::AddF32)?;
        self.add_bias(gpu, layer.down_bias.as_ref(), rows)
    }

    /// Adds a bias, if there is one, to the residual stream.
    fn add_bias(&self, gpu: &dyn Gpu, bias: Option<&Buffer<f32>>, rows: usize) -> Result<(), GpuError> {
        let Some(bias) = bias else { return Ok(()) };
        AddBias { x: self.scratch.x.ptr(), bias: bias.ptr(), rows, dim: self.config.dim }.launch(gpu)
    }

    /// Logits of normed rows.
    fn lm_head(&self, gpu: &dyn Gpu, rows: usize) -> Result<(), GpuError> {
        let (input, output) = (self.scratch.normed.ptr(), self.scratch.logits.ptr());
        let (outputs, inputs, weight) = (self.config.vocab, self.config.dim, self.weights.lm_head().ptr());
        let (operands, epilogue) = (OperandType::Bf16, Epilogue::F32);
        self.launch_gemm(gpu, &Gemm { rows, outputs, inputs, operands, weight, input, output, epilogue })
    }

    #[expect(clippy::too_many_arguments, reason = "a product has two matrices, a result and their sizes")]
    fn gemm(
        &self,
        gpu: &dyn Gpu,
        rows: usize,
        weight: &Matrix,
        [outputs, inputs]: [usize; 2],
        input: Ptr,
        output: Ptr,
        epilogue: Epilogue,
    ) -> Result<(), GpuError> {
        match weight {
            Matrix::Bf16(weight) => {
                let (operands, weight) = (OperandType::Bf16, weight.ptr());
                self.launch_gemm(gpu, &Gemm { rows, outputs, inputs, operands, weight, input, output, epilogue })
            }
            Matrix::Fp8 { numbers, scales } => {
                let Scratch { fp8_rows, row_scales, sums, .. } = &self.scratch;
                let (fp8_rows, row_scales, sums) = (fp8_rows.ptr(), row_scales.ptr(), sums.ptr());
                QuantiseRows { x: input, out: fp8_rows, scales: row_scales, rows, width: inputs }.launch(gpu)?;
                let gemm = Gemm {
                    // What lies in the rows that are too many becomes sums that nobody reads.
                    rows: rows.next_multiple_of(FP8_ROWS),
                    outputs,
                    inputs,
                    operands: OperandType::E4m3,
                    weight: numbers.ptr(),
                    input: fp8_rows,
                    output: sums,
                    epilogue: Epilogue::F32,
                };
                self.launch_gemm(gpu, &gemm)?;
                let (scales, add) = (scales.ptr(), epilogue == Epilogue::AddF32);
                Rescale { sums, row_scales, scales, out: output, rows, width: outputs, add }.launch(gpu)
            }
        }
    }

    /// A product as it is, or cut to the size that all have where results must not depend on company.
    fn launch_gemm(&self, gpu: &dyn Gpu, whole: &Gemm) -> Result<(), GpuError> {
        let Gemm { rows, outputs, inputs, operands, input, output, epilogue, .. } = *whole;
        let group = if self.layout.deterministic { DETERMINISTIC_ROWS } else { rows };
        let number = if epilogue == Epilogue::Bf16 { size_of::<bf16>() } else { size_of::<f32>() };
        for first in (0..rows).step_by(group) {
            gpu.gemm(&Gemm {
                rows: group,
                input: input.offset(first * inputs * operands.bytes()),
                output: output.offset(first * outputs * number),
                ..*whole
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    #[test]
    fn fp8_weights_are_refused_where_nothing_multiplies_them() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny/llama");
        let config = Model::open(&folder).unwrap().config().clone();
        let unsupported =
            |config: &ModelConfig, capability| unsupported(config, WeightFormat::Fp8, capability).unwrap_or_default();
        for old in [(8, 0), (8, 6)] {
            let said = unsupported(&config, old);
            assert!(said.contains("8.9 or newer") && said.contains("--weight-dtype"), "{old:?}: {said}");
        }
        assert_eq!(unsupported(&config, (8, 9)) + &unsupported(&config, (9, 0)), "");
        assert!(unsupported(&ModelConfig { ffn: 72, ..config }, (9, 0)).contains("72 is not a multiple of 16"));
    }
}
