//! All weights of a model, repacked.

use std::slice;

use super::activations::Forms;
use super::blocks::RUN;
use super::matrix::Matrix;
use super::partition::TileRange;
use super::pool::Pool;
use crate::model::LayerWeight::{self, *};
use crate::model::{LayerSpec, Model, ModelError, WeightId};

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attn_norm: Vec<f32>,
    /// Queries, keys, values.
    pub(crate) qkv: [Matrix; 3],
    /// Empty where the layer has none.
    pub(crate) biases: [Vec<f32>; 3],
    /// Of each head's query and key; empty where the layer has none.
    pub(crate) qk_norms: [Vec<f32>; 2],
    pub(crate) output: Matrix,
    /// Empty where the layer has none.
    pub(crate) output_bias: Vec<f32>,
    pub(crate) mlp_norm: Vec<f32>,
    /// Of what attention and the feed-forward layer give; empty where the layer has none.
    pub(crate) post_attn_norm: Vec<f32>,
    pub(crate) post_mlp_norm: Vec<f32>,
    pub(crate) mlp: Mlp,
}

/// A feed-forward layer.
#[derive(Debug)]
pub(crate) enum Mlp {
    Dense(DenseMlp),
    Experts(ExpertMlp),
}

/// One for all tokens.
#[derive(Debug)]
pub(crate) struct DenseMlp {
    pub(crate) gate: Matrix,
    pub(crate) up: Matrix,
    pub(crate) down: Matrix,
    /// Of gate and up, zeros where the layer has none: whole tiles.
    pub(crate) gate_up_biases: [Vec<f32>; 2],
    /// Empty where the layer has none.
    pub(crate) down_bias: Vec<f32>,
}

/// A mixture of experts; matrices in the order of the experts.
#[derive(Debug)]
pub(crate) struct ExpertMlp {
    pub(crate) router: Matrix,
    pub(crate) gate: Vec<Matrix>,
    pub(crate) up: Vec<Matrix>,
    pub(crate) down: Vec<Matrix>,
    /// How many a row passes through.
    pub(crate) used: usize,
    /// Their shares add up to one.
    pub(crate) renormalise: bool,
}

impl Mlp {
    /// What is read first.
    pub(crate) fn first(&self) -> TileRange<'_> {
        match self {
            Self::Dense(mlp) => TileRange::Pairs(&mlp.gate, &mlp.up),
            Self::Experts(mlp) => TileRange::Each(slice::from_ref(&mlp.router)),
        }
    }

    pub(crate) fn dense(&self) -> Option<&DenseMlp> {
        match self {
            Self::Dense(mlp) => Some(mlp),
            Self::Experts(_) => None,
        }
    }

    pub(crate) fn experts(&self) -> Option<&ExpertMlp> {
        match self {
            Self::Dense(_) => None,
            Self::Experts(mlp) => Some(mlp),
        }
    }

    fn load(model: &Model, index: usize, pool: &mut Pool) -> Result<Self, ModelError> {
        let config = model.config();
        let vector = |weight| model.floats(WeightId::Layer(index, weight));
        let Some(experts) = config.experts_of(index) else {
            let mut matrix = |weight| packed(model, WeightId::Layer(index, weight), pool);
            let vector_if = |present, weight| if present { vector(weight) } else { Ok(Vec::new()) };
            let tiles = config.ffn.next_multiple_of(RUN);
            let padded = |mut bias: Vec<f32>| {
                bias.resize(tiles, 0.0);
                bias
            };
            let biases = config.layer.mlp_bias;
            return Ok(Self::Dense(DenseMlp {
                gate: matrix(GateProj)?,
                up: matrix(UpProj)?,
                down: matrix(DownProj)?,
                gate_up_biases: [padded(vector_if(biases, GateBias)?), padded(vector_if(biases, UpBias)?)],
                down_bias: vector_if(biases, DownBias)?,
            }));
        };
        let router = packed(model, WeightId::Layer(index, Router), pool)?;
        let mut matrices = |weight: fn(usize) -> LayerWeight| -> Result<Vec<Matrix>, ModelError> {
            let tensors = (0..experts.count).map(|expert| model.tensor(WeightId::Layer(index, weight(expert))));
            Ok(Matrix::pack_all(&tensors.collect::<Result<Vec<_>, _>>()?, pool))
        };
        let (gate, up, down) = (matrices(ExpertGate)?, matrices(ExpertUp)?, matrices(ExpertDown)?);
        let (used, renormalise) = (experts.used, experts.renormalise);
        Ok(Self::Experts(ExpertMlp { router, gate, up, down, used, renormalise }))
    }
}

#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// None if it is the embedding.
    lm_head: Option<Matrix>,
}

impl Weights {
    /// Repacks all weights for the kernels.
    pub(crate) fn load(model: &Model, pool: &mut Pool) -> Result<Self, ModelError> {
        let config = model.config();
        let layers = (0..config.layers).map(|index| Layer::load(model, index, pool)).collect::<Result<_, _>>()?;
        let lm_head = if config.tied_embeddings { None } else { Some(packed(model, WeightId::LmHead, pool)?) };
        Ok(Self {
            embedding: packed(model, WeightId::Embedding, pool)?,
            layers,
            output_norm: model.floats(WeightId::OutputNorm)?,
            lm_head,
        })
    }

    pub(crate) fn lm_head(&self) -> &Matrix {
        self.lm_head.as_ref().unwrap_or(&self.embedding)
    }
}

impl Layer {
    fn load(model: &Model, index: usize, pool: &mut Pool) -> Result<Self, ModelError> {
        let LayerSpec { qkv_bias, o_bias, qk_norm, post_norms, .. } = model.config().layer;
        let mut matrix = |weight| packed(model, WeightId::Layer(index, weight), pool);
        let vector = |weight| model.floats(WeightId::Layer(index, weight));
        let vector_if = |present, weight| if present { vector(weight) } else { Ok(Vec::new()) };
        Ok(Self {
            attn_norm: vector(AttnNorm)?,
            qkv: [matrix(QProj)?, matrix(KProj)?, matrix(VProj)?],
            biases: [vector_if(qkv_bias, QBias)?, vector_if(qkv_bias, KBias)?, vector_if(qkv_bias, VBias)?],
            qk_norms: [vector_if(qk_norm, QNorm)?, vector_if(qk_norm, KNorm)?],
            output: matrix(OProj)?,
            output_bias: vector_if(o_bias, OBias)?,
            mlp_norm: vector(MlpNorm)?,
            post_attn_norm: vector_if(post_norms, PostAttnNorm)?,
            post_mlp_norm: vector_if(post_norms, PostMlpNorm)?,
            mlp: Mlp::load(model, index, pool)?,
        })
    }
}

/// Forms that rows must have to be multiplied with all of `matrices`.
pub(crate) fn forms<'a>(matrices: impl IntoIterator<Item = &'a Matrix>) -> Forms {
    matrices.into_iter().fold(Forms::default(), |forms, matrix| {
        let quantised = matrix.kind.is_quantised();
        forms.and(Forms { quantised, dense: !quantised })
    })
}

fn packed(model: &Model, weight: WeightId, pool: &mut Pool) -> Result<Matrix, ModelError> {
    Ok(Matrix::pack(&model.tensor(weight)?, pool))
}
