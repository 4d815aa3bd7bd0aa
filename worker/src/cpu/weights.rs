//! All weights of a model, repacked.

use super::acts::Forms;
use super::pool::Pool;
use super::tile::Matrix;
use crate::model::{Model, ModelError, dequantize};

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    /// Queries, keys, values.
    pub(crate) qkv: [Matrix; 3],
    /// Empty where the family has none.
    pub(crate) biases: [Vec<f32>; 3],
    /// Of each head's query and key; empty where the family has none.
    pub(crate) head_norms: [Vec<f32>; 2],
    pub(crate) output: Matrix,
    pub(crate) ffn_norm: Vec<f32>,
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
}

#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// None if it is the embedding.
    head: Option<Matrix>,
}

impl Weights {
    pub(crate) fn load(model: &Model, pool: &mut Pool) -> Result<Self, ModelError> {
        let config = model.config();
        let mut layers = Vec::with_capacity(config.layers);
        for index in 0..config.layers {
            let name = |part: &str| format!("blk.{index}.{part}");
            let mut matrix = |part: &str| packed(model, &name(&format!("{part}.weight")), pool);
            let qkv = [matrix("attn_q")?, matrix("attn_k")?, matrix("attn_v")?];
            let (output, gate) = (matrix("attn_output")?, matrix("ffn_gate")?);
            let (up, down) = (matrix("ffn_up")?, matrix("ffn_down")?);
            let vector = |part: &str, present: bool| match present {
                true => floats(model, &name(part)),
                false => Ok(Vec::new()),
            };
            let bias = config.qkv_bias;
            layers.push(Layer {
                attn_norm: vector("attn_norm.weight", true)?,
                qkv,
                biases: [vector("attn_q.bias", bias)?, vector("attn_k.bias", bias)?, vector("attn_v.bias", bias)?],
                head_norms: [
                    vector("attn_q_norm.weight", config.qk_norm)?,
                    vector("attn_k_norm.weight", config.qk_norm)?,
                ],
                output,
                ffn_norm: vector("ffn_norm.weight", true)?,
                gate,
                up,
                down,
            });
        }
        let head = if config.tied { None } else { Some(packed(model, "output.weight", pool)?) };
        Ok(Self {
            embedding: packed(model, "token_embd.weight", pool)?,
            layers,
            output_norm: floats(model, "output_norm.weight")?,
            head,
        })
    }

    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

/// Forms that rows must have to be multiplied with all of `matrices`.
pub(crate) fn forms<'a>(matrices: impl IntoIterator<Item = &'a Matrix>) -> Forms {
    matrices.into_iter().fold(Forms::default(), |forms, matrix| {
        let quantised = matrix.kind.is_quantised();
        forms.and(Forms { quantised, dense: !quantised })
    })
}

fn packed(model: &Model, name: &str, pool: &mut Pool) -> Result<Matrix, ModelError> {
    Ok(Matrix::pack(&model.tensor(name)?, pool))
}

/// A norm or a bias.
pub(crate) fn floats(model: &Model, name: &str) -> Result<Vec<f32>, ModelError> {
    let tensor = model.tensor(name)?;
    let mut out = vec![0.0; tensor.shape.iter().product()];
    dequantize(tensor.dtype, tensor.data, &mut out).map_err(|_| ModelError::NoSuchWeight(name.to_owned()))?;
    Ok(out)
}
