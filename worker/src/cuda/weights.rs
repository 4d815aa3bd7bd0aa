//! A model's weights on the GPU: matrices in bf16, those that meet the same rows joined; vectors in float32.

use half::bf16;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::gpu::{Buffer, Gpu, GpuError, Ptr};
use super::kernels::dequantise::Dequantise;
use super::kernels::quantise::QuantiseRows;
use crate::model::LayerWeight::{self, *};
use crate::model::{DType, Model, ModelConfig, ModelError, WeightId};

/// Type of the weights of all layers. Embedding and head are bf16 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightFormat {
    /// As they are in the file, rounded to bf16.
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
    /// `[q + k + v]`, where the layer has one.
    pub(super) qkv_bias: Option<Buffer<f32>>,
    /// Of each head's query, then of its key; where the layer has them.
    pub(super) qk_norms: Option<[Buffer<f32>; 2]>,
    /// `[dim][heads * head_dim]`
    pub(super) output: Matrix,
    /// `[dim]`, where the layer has one.
    pub(super) output_bias: Option<Buffer<f32>>,
    pub(super) mlp_norm: Buffer<f32>,
    /// `[gate + up][dim]`
    pub(super) gate_up: Matrix,
    /// `[gate + up]`, where the layer has one.
    pub(super) gate_up_bias: Option<Buffer<f32>>,
    /// `[dim][ffn]`
    pub(super) down: Matrix,
    /// `[dim]`, where the layer has one.
    pub(super) down_bias: Option<Buffer<f32>>,
}

#[derive(Debug)]
pub(super) struct Weights {
    /// `[vocab][dim]`
    pub(super) embedding: Buffer<bf16>,
    pub(super) layers: Vec<Layer>,
    pub(super) output_norm: Buffer<f32>,
    /// None if it is the embedding.
    lm_head: Option<Buffer<bf16>>,
}

/// Weights that cannot be brought onto the GPU.
#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    /// A weight cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A call of the driver failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// Where weights come from.
pub(super) trait WeightSource {
    /// The numbers of a norm or a bias.
    fn vector(&mut self, weight: WeightId, len: usize) -> Result<Vec<f32>, WeightError>;
    /// Brings a matrix to `to`, as bf16.
    fn matrix(&mut self, gpu: &dyn Gpu, weight: WeightId, shape: [usize; 2], to: Ptr) -> Result<(), WeightError>;
}

impl Weights {
    pub(super) fn load(
        gpu: &dyn Gpu,
        config: &ModelConfig,
        source: &mut dyn WeightSource,
        format: WeightFormat,
    ) -> Result<Self, WeightError> {
        let &ModelConfig { dim, vocab, .. } = config;
        let layers = (0..config.layers)
            .map(|index| Layer::load(gpu, config, index, source, format))
            .collect::<Result<_, _>>()?;
        let mut table = |weight| -> Result<Buffer<bf16>, WeightError> {
            let all = Buffer::new(gpu, vocab * dim)?;
            source.matrix(gpu, weight, [vocab, dim], all.ptr())?;
            Ok(all)
        };
        let embedding = table(WeightId::Embedding)?;
        let lm_head = if config.tied_embeddings { None } else { Some(table(WeightId::LmHead)?) };
        let output_norm = Buffer::from_slice(gpu, &source.vector(WeightId::OutputNorm, dim)?)?;
        Ok(Self { embedding, layers, output_norm, lm_head })
    }

    /// Bytes that the weights of such a model take, and more while they are loaded.
    pub(super) fn bytes(config: &ModelConfig, format: WeightFormat) -> usize {
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let layer = config.dim * (q + 2 * kv) + q * config.dim + 3 * config.dim * config.ffn;
        let tables = config.vocab * config.dim * if config.tied_embeddings { 1 } else { 2 };
        let layers = match format {
            WeightFormat::Bf16 => config.layers * layer * size_of::<bf16>(),
            // The layer that is being rounded is there as it was, too.
            WeightFormat::Fp8 => config.layers * layer + layer * size_of::<bf16>(),
        };
        layers + tables * size_of::<bf16>()
    }

    pub(super) fn lm_head(&self) -> &Buffer<bf16> {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
    }
}

impl Layer {
    fn load(
        gpu: &dyn Gpu,
        config: &ModelConfig,
        index: usize,
        source: &mut dyn WeightSource,
        format: WeightFormat,
    ) -> Result<Self, WeightError> {
        let &ModelConfig { dim, ffn, head_dim, layer: spec, .. } = config;
        let (q, kv) = (config.heads * head_dim, config.kv_heads * head_dim);
        let mut bias = |present: bool, parts: &[(LayerWeight, usize)]| -> Result<Option<Buffer<f32>>, WeightError> {
            if !present {
                return Ok(None);
            }
            let mut all = Vec::new();
            for &(weight, len) in parts {
                all.extend(source.vector(WeightId::Layer(index, weight), len)?);
            }
            Ok(Some(Buffer::from_slice(gpu, &all)?))
        };
        let qkv_bias = bias(spec.qkv_bias, &[(QBias, q), (KBias, kv), (VBias, kv)])?;
        let output_bias = bias(spec.o_bias, &[(OBias, dim)])?;
        let gate_up_bias = bias(spec.mlp_bias, &[(GateBias, ffn), (UpBias, ffn)])?;
        let down_bias = bias(spec.mlp_bias, &[(DownBias, dim)])?;
        let mut norm = |weight, len| -> Result<Buffer<f32>, WeightError> {
            Ok(Buffer::from_slice(gpu, &source.vector(WeightId::Layer(index, weight), len)?)?)
        };
        let (attn_norm, mlp_norm) = (norm(AttnNorm, dim)?, norm(MlpNorm, dim)?);
        let qk_norms = if spec.qk_norm { Some([norm(QNorm, head_dim)?, norm(KNorm, head_dim)?]) } else { None };
        let mut joined = |parts: &[(LayerWeight, usize)], inputs: usize| -> Result<Matrix, WeightError> {
            let outputs: usize = parts.iter().map(|(_, outputs)| outputs).sum();
            let all = Buffer::new(gpu, outputs * inputs)?;
            let mut first = 0;
            for &(part, outputs) in parts {
                let weight = WeightId::Layer(index, part);
                source.matrix(gpu, weight, [outputs, inputs], all.at(first * inputs))?;
                first += outputs;
            }
            Ok(Matrix::new(gpu, format, all, [outputs, inputs])?)
        };
        Ok(Self {
            attn_norm,
            qkv: joined(&[(QProj, q), (KProj, kv), (VProj, kv)], dim)?,
            qkv_bias,
            qk_norms,
            output: joined(&[(OProj, dim)], q)?,
            output_bias,
            mlp_norm,
            gate_up: joined(&[(GateProj, ffn), (UpProj, ffn)], dim)?,
            gate_up_bias,
            down: joined(&[(DownProj, dim)], ffn)?,
            down_bias,
        })
    }
}

/// Bytes of a file that are on the GPU at a time, beside what they become.
const CHUNK: usize = 64 << 20;

/// Weights of a model's files, turned into bf16 by the GPU.
#[derive(Debug)]
pub(super) struct ModelWeights<'a> {
    model: &'a Model,
    chunk: Option<Buffer<u8>>,
}

impl<'a> ModelWeights<'a> {
    pub(super) fn new(model: &'a Model) -> Self {
        Self { model, chunk: None }
    }
}

impl WeightSource for ModelWeights<'_> {
    fn vector(&mut self, weight: WeightId, _: usize) -> Result<Vec<f32>, WeightError> {
        Ok(self.model.floats(weight)?)
    }

    fn matrix(&mut self, gpu: &dyn Gpu, weight: WeightId, [_, inputs]: [usize; 2], to: Ptr) -> Result<(), WeightError> {
        let tensor = self.model.tensor(weight)?;
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
            let (out, count) = (to.offset(index * rows * inputs * 2), data.len() / row * inputs);
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
pub(super) struct RandomWeights {
    rng: SmallRng,
}

impl RandomWeights {
    pub(super) fn new() -> Self {
        Self { rng: SmallRng::seed_from_u64(0) }
    }
}

/// Random numbers that are drawn; a bigger matrix repeats them, at an offset that no row has twice.
const DRAWN: usize = (8 << 20) + 8;

impl WeightSource for RandomWeights {
    fn vector(&mut self, weight: WeightId, len: usize) -> Result<Vec<f32>, WeightError> {
        let is_bias =
            matches!(weight, WeightId::Layer(_, QBias | KBias | VBias | OBias | GateBias | UpBias | DownBias));
        Ok(vec![if is_bias { 0.1 } else { 1.0 }; len])
    }

    fn matrix(
        &mut self,
        gpu: &dyn Gpu,
        _: WeightId,
        [outputs, inputs]: [usize; 2],
        to: Ptr,
    ) -> Result<(), WeightError> {
        // Of a deviation that keeps the size of rows.
        let max = (3.0 / inputs as f32).sqrt();
        let all = outputs * inputs;
        let drawn: Vec<bf16> = (0..DRAWN.min(all)).map(|_| bf16::from_f32(self.rng.random_range(-max..max))).collect();
        for first in (0..all).step_by(DRAWN) {
            let count = DRAWN.min(all - first);
            gpu.write(to.offset(first * 2), super::gpu::bytes_of(&drawn[..count]))?;
        }
        Ok(())
    }
}
