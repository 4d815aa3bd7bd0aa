//! A model's weights on the GPU: matrices in bf16, those that meet the same rows joined; vectors in float32.

use half::bf16;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::gpu::{Buffer, Gpu, GpuError, Ptr};
use super::kernels::dequantise::Dequantise;
use super::kernels::quantise::QuantiseRows;
use crate::model::{DType, Model, ModelConfig, ModelError};

/// Type of the weights of all layers. Embedding and head are bf16 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    Bf16,
    /// e4m3 with a scale for each output. Rows that meet them are rounded likewise, each with a scale of its own.
    Fp8,
}

/// `[outputs][inputs]`
#[derive(Debug)]
pub(super) enum Matrix {
    Bf16(Buffer<bf16>),
    Fp8 {
        numbers: Buffer<u8>,
        /// `[outputs]`
        scales: Buffer<f32>,
    },
}

impl Matrix {
    fn new(
        gpu: &dyn Gpu,
        format: WeightFormat,
        numbers: Buffer<bf16>,
        [outputs, inputs]: [usize; 2],
    ) -> Result<Self, GpuError> {
        match format {
            WeightFormat::Bf16 => Ok(Self::Bf16(numbers)),
            WeightFormat::Fp8 => {
                let (out, scales) = (Buffer::new(gpu, outputs * inputs)?, Buffer::new(gpu, outputs)?);
                let (x, rows, width) = (numbers.ptr(), outputs, inputs);
                QuantiseRows { x, out: out.ptr(), scales: scales.ptr(), rows, width }.launch(gpu)?;
                // Before the memory of the numbers goes.
                gpu.synchronize()?;
                Ok(Self::Fp8 { numbers: out, scales })
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attn_norm: Buffer<f32>,
    /// `[q + k + v][dim]`
    pub(super) qkv: Matrix,
    /// `[q + k + v]`, where the family has one.
    pub(super) bias: Option<Buffer<f32>>,
    /// Of each head's query, then of its key; where the family has them.
    pub(super) head_norms: Option<[Buffer<f32>; 2]>,
    /// `[dim][heads * head_dim]`
    pub(super) output: Matrix,
    pub(super) ffn_norm: Buffer<f32>,
    /// `[gate + up][dim]`
    pub(super) gate_up: Matrix,
    /// `[dim][ffn]`
    pub(super) down: Matrix,
}

#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab][dim]`
    pub(super) embedding: Buffer<bf16>,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Buffer<f32>,
    /// None if it is the embedding.
    head: Option<Buffer<bf16>>,
}

/// Weights that cannot be brought onto the GPU.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Where weights come from.
pub(super) trait Origin {
    /// The numbers of a norm or a bias.
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, WeightError>;
    /// Brings a matrix to `to`, as bf16.
    fn matrix(&mut self, gpu: &dyn Gpu, name: &str, shape: [usize; 2], to: Ptr) -> Result<(), WeightError>;
}

impl Weights {
    pub(super) fn load(
        gpu: &dyn Gpu,
        config: &ModelConfig,
        from: &mut dyn Origin,
        format: WeightFormat,
    ) -> Result<Self, WeightError> {
        let &ModelConfig { dim, ffn, vocab, .. } = config;
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = |part: &str| format!("blk.{index}.{part}");
            let bias = match config.qkv_bias {
                true => {
                    let mut all = from.vector(&name("attn_q.bias"), q)?;
                    all.extend(from.vector(&name("attn_k.bias"), kv)?);
                    all.extend(from.vector(&name("attn_v.bias"), kv)?);
                    Some(Buffer::from_slice(gpu, &all)?)
                }
                false => None,
            };
            let mut norm = |part: &str, len| -> Result<Buffer<f32>, WeightError> {
                Ok(Buffer::from_slice(gpu, &from.vector(&name(part), len)?)?)
            };
            let (attn_norm, ffn_norm) = (norm("attn_norm.weight", dim)?, norm("ffn_norm.weight", dim)?);
            let head_norms = match config.qk_norm {
                true => {
                    Some([norm("attn_q_norm.weight", config.head_dim)?, norm("attn_k_norm.weight", config.head_dim)?])
                }
                false => None,
            };
            let mut joined = |parts: &[(&str, usize)], inputs: usize| -> Result<Matrix, WeightError> {
                let outputs: usize = parts.iter().map(|(_, outputs)| outputs).sum();
                let all = Buffer::new(gpu, outputs * inputs)?;
                let mut first = 0;
                for &(part, outputs) in parts {
                    from.matrix(gpu, &name(part), [outputs, inputs], all.at(first * inputs))?;
                    first += outputs;
                }
                Ok(Matrix::new(gpu, format, all, [outputs, inputs])?)
            };
            layers.push(Layer {
                attn_norm,
                qkv: joined(&[("attn_q.weight", q), ("attn_k.weight", kv), ("attn_v.weight", kv)], dim)?,
                bias,
                head_norms,
                output: joined(&[("attn_output.weight", dim)], q)?,
                ffn_norm,
                gate_up: joined(&[("ffn_gate.weight", ffn), ("ffn_up.weight", ffn)], dim)?,
                down: joined(&[("ffn_down.weight", dim)], ffn)?,
            });
        }
        let mut table = |name: &str| -> Result<Buffer<bf16>, WeightError> {
            let all = Buffer::new(gpu, vocab * dim)?;
            from.matrix(gpu, name, [vocab, dim], all.ptr())?;
            Ok(all)
        };
        let embedding = table("token_embd.weight")?;
        let head = if config.tied { None } else { Some(table("output.weight")?) };
        let output_norm = Buffer::from_slice(gpu, &from.vector("output_norm.weight", dim)?)?;
        Ok(Self { embedding, layers, output_norm, head })
    }

    /// Bytes that the weights of such a model take, and more while they are loaded.
    pub(super) fn bytes(config: &ModelConfig, format: WeightFormat) -> usize {
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let layer = config.dim * (q + 2 * kv) + q * config.dim + 3 * config.dim * config.ffn;
        let tables = config.vocab * config.dim * if config.tied { 1 } else { 2 };
        let layers = match format {
            WeightFormat::Bf16 => config.layers * layer * size_of::<bf16>(),
            // The layer that is being rounded is there as it was, too.
            WeightFormat::Fp8 => config.layers * layer + layer * size_of::<bf16>(),
        };
        layers + tables * size_of::<bf16>()
    }

    pub(super) fn head(&self) -> &Buffer<bf16> {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// Bytes of a file that are on the GPU at a time, beside what they become.
const CHUNK: usize = 64 << 20;

/// Weights of a model's files, turned into bf16 by the GPU.
#[derive(Debug)]
pub(super) struct FromModel<'a> {
    model: &'a Model,
    chunk: Option<Buffer<u8>>,
}

impl<'a> FromModel<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { model, chunk: None }
    }
}

impl Origin for FromModel<'_> {
    fn vector(&mut self, name: &str, _: usize) -> Result<Vec<f32>, WeightError> {
        let tensor = self.model.tensor(name)?;
        Ok(tensor.to_f32().map_err(|_| ModelError::NoSuchWeight(name.to_owned()))?)
    }

    fn matrix(&mut self, gpu: &dyn Gpu, name: &str, [_, inputs]: [usize; 2], to: Ptr) -> Result<(), WeightError> {
        let tensor = self.model.tensor(name)?;
        if tensor.dtype == DType::BF16 {
            return Ok(gpu.write(to, tensor.data)?);
        }
        let row = inputs / tensor.dtype.block() * tensor.dtype.block_bytes();
        let rows = (CHUNK / row).max(1);
        let chunk = match &self.chunk {
            Some(chunk) if chunk.len() >= row => chunk,
            _ => self.chunk.insert(Buffer::new(gpu, CHUNK.max(row))?),
        };
        for (index, data) in tensor.data.chunks(rows * row).enumerate() {
            gpu.write(chunk.ptr(), data)?;
            let (out, count) = (to.plus(index * rows * inputs * 2), data.len() / row * inputs);
            Dequantise { dtype: tensor.dtype, data: chunk.ptr(), out, count }.launch(gpu)?;
            // The next chunk goes where this one is.
            gpu.synchronize()?;
        }
        Ok(())
    }
}

/// Random weights, for measuring the speed of a shape: a matrix product is faster on zeros, and a model of zeros ends no
/// text.
#[derive(Debug)]
pub(super) struct Random {
    chance: SmallRng,
}

impl Random {
    pub(super) fn new() -> Self {
        Self { chance: SmallRng::seed_from_u64(0) }
    }
}

/// Random numbers that are drawn; a bigger matrix repeats them, at an offset that no row has twice.
const DRAWN: usize = (8 << 20) + 8;

impl Origin for Random {
    fn vector(&mut self, name: &str, len: usize) -> Result<Vec<f32>, WeightError> {
        Ok(vec![if name.ends_with("bias") { 0.1 } else { 1.0 }; len])
    }

    fn matrix(&mut self, gpu: &dyn Gpu, _: &str, [outputs, inputs]: [usize; 2], to: Ptr) -> Result<(), WeightError> {
        // Of a deviation that keeps the size of rows.
        let most = (3.0 / inputs as f32).sqrt();
        let all = outputs * inputs;
        let drawn: Vec<bf16> =
            (0..DRAWN.min(all)).map(|_| bf16::from_f32(self.chance.random_range(-most..most))).collect();
        for first in (0..all).step_by(DRAWN) {
            let count = DRAWN.min(all - first);
            gpu.write(to.plus(first * 2), super::gpu::bytes_of(&drawn[..count]))?;
        }
        Ok(())
    }
}
