//! What decoders share: sizes that both file formats state under other keys, and weights with their names.

use std::path::Path;

use super::expert_names::{self, ExpertNames};
use super::weight::{LayerWeight, Part, WeightId, WeightSpec};
use crate::model::config::{Experts, LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::ops::rope::RopeScaling;

/// Names of a weight: GGUF, Hugging Face.
type Names = [&'static str; 2];

pub(super) const EMBEDDING: Names = ["token_embd.weight", "model.embed_tokens.weight"];
const OUTPUT_NORM: Names = ["output_norm.weight", "model.norm.weight"];
pub(super) const LM_HEAD: Names = ["output.weight", "lm_head.weight"];

/// Keys under which a format states sizes.
pub(super) struct SizeKeys {
    pub(super) layers: &'static str,
    pub(super) dim: &'static str,
    pub(super) ffn: &'static str,
    pub(super) heads: &'static str,
    /// As many as heads if it is not stated.
    pub(super) kv_heads: &'static str,
    /// The model's width divided by its heads if it is not stated.
    pub(super) head_dim: &'static str,
    pub(super) context: &'static str,
}

/// A file that states sizes.
pub(super) trait SizeSource {
    /// For messages.
    fn file(&self) -> &Path;
    /// A whole number that must be there.
    fn size(&self, key: &str) -> Result<usize, ModelError>;
    /// A whole number that may be missing.
    fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError>;
}

/// What a configuration holds beside sizes.
pub(super) struct Traits {
    pub(super) family: &'static str,
    pub(super) vocab: usize,
    /// Width of a sliding attention window that is in use.
    pub(super) window: Option<usize>,
    pub(super) rope_base: f32,
    pub(super) rope_scaling: Option<RopeScaling>,
    pub(super) rotated: usize,
    pub(super) norm_eps: f32,
    pub(super) tied_embeddings: bool,
    pub(super) layer: LayerSpec,
    pub(super) experts: Option<Experts>,
}

/// The width of a head.
pub(super) fn head_dim(source: &dyn SizeSource, keys: &SizeKeys) -> Result<usize, ModelError> {
    Ok(match source.optional_size(keys.head_dim)? {
        Some(width) => width,
        None => source.size(keys.dim)?.checked_div(source.size(keys.heads)?).unwrap_or(0),
    })
}

/// The configuration of a decoder; an error if a size is missing or impossible.
pub(super) fn config(source: &dyn SizeSource, keys: &SizeKeys, traits: Traits) -> Result<ModelConfig, ModelError> {
    let (dim, heads) = (source.size(keys.dim)?, source.size(keys.heads)?);
    let stretched = traits.rope_scaling.as_ref().and_then(RopeScaling::context);
    let context = source.size(keys.context)?.max(stretched.unwrap_or(0));
    let config = ModelConfig {
        family: traits.family,
        layers: source.size(keys.layers)?,
        dim,
        ffn: source.size(keys.ffn)?,
        experts: traits.experts,
        heads,
        kv_heads: source.optional_size(keys.kv_heads)?.unwrap_or(heads),
        head_dim: head_dim(source, keys)?,
        rotated: traits.rotated,
        vocab: traits.vocab,
        context: traits.window.map_or(context, |window| context.min(window)),
        rope_base: traits.rope_base,
        rope_scaling: traits.rope_scaling,
        window: None,
        embedding_scale: 1.0,
        query_scale: 1.0 / (head_dim(source, keys)? as f32).sqrt(),
        norm_eps: traits.norm_eps,
        norm_offset: 0.0,
        tied_embeddings: traits.tied_embeddings,
        layer: traits.layer,
    };
    match config.fault() {
        None => Ok(config),
        Some(what) => Err(ModelError::Damaged { file: source.file().to_owned(), what }),
    }
}

/// Names of the projections that some families join.
struct Projections {
    q: Names,
    k: Names,
    v: Names,
    gate: Names,
    up: Names,
}

const SEPARATE: Projections = Projections {
    q: ["attn_q.weight", "self_attn.q_proj.weight"],
    k: ["attn_k.weight", "self_attn.k_proj.weight"],
    v: ["attn_v.weight", "self_attn.v_proj.weight"],
    gate: ["ffn_gate.weight", "mlp.gate_proj.weight"],
    up: ["ffn_up.weight", "mlp.up_proj.weight"],
};

const QKV: Names = ["attn_qkv.weight", "self_attn.qkv_proj.weight"];
const GATE_UP: Names = ["ffn_up.weight", "mlp.gate_up_proj.weight"];
const JOINED: Projections = Projections { q: QKV, k: QKV, v: QKV, gate: GATE_UP, up: GATE_UP };

/// All weights of a decoder. Its experts, if it has any, are called as in Qwen's files.
pub(super) fn weights(config: &ModelConfig) -> Vec<WeightSpec> {
    all_weights(config, &SEPARATE, &expert_names::QWEN)
}

/// The same where experts are called as in Mixtral's files.
pub(super) fn mixtral_weights(config: &ModelConfig) -> Vec<WeightSpec> {
    all_weights(config, &SEPARATE, &expert_names::MIXTRAL)
}

/// The same where one matrix holds queries, keys and values, and one holds gate and up.
pub(super) fn joined_weights(config: &ModelConfig) -> Vec<WeightSpec> {
    all_weights(config, &JOINED, &expert_names::QWEN)
}

fn all_weights(config: &ModelConfig, projections: &Projections, experts: &ExpertNames) -> Vec<WeightSpec> {
    let &ModelConfig { dim, vocab, .. } = config;
    let mut weights = vec![whole(WeightId::Embedding, EMBEDDING, &[vocab, dim])];
    weights.push(whole(WeightId::OutputNorm, OUTPUT_NORM, &[dim]));
    if !config.tied_embeddings {
        weights.push(whole(WeightId::LmHead, LM_HEAD, &[vocab, dim]));
    }
    let parts = layer_weights(config, projections);
    for layer in 0..config.layers {
        let mixture = config.experts_of(layer);
        let dense_mlp = |weight| WeightId::Layer(layer, weight).part() == Part::FeedForward;
        let in_layer = parts.iter().filter(|(weight, ..)| mixture.is_none() || !dense_mlp(*weight));
        weights.extend(in_layer.map(|(weight, [gguf, hugging_face], shape)| WeightSpec {
            id: WeightId::Layer(layer, *weight),
            gguf: format!("blk.{layer}.{gguf}"),
            hugging_face: format!("model.layers.{layer}.{hugging_face}"),
            shape: shape.clone(),
        }));
        weights.extend(mixture.into_iter().flat_map(|mixture| experts.weights(mixture, dim, layer)));
    }
    weights
}

/// A weight outside of the layers.
fn whole(id: WeightId, [gguf, hugging_face]: Names, shape: &[usize]) -> WeightSpec {
    WeightSpec { id, gguf: gguf.into(), hugging_face: hugging_face.into(), shape: shape.to_vec() }
}

/// The weights of a layer without experts, with their names below the layer's.
fn layer_weights(config: &ModelConfig, projections: &Projections) -> Vec<(LayerWeight, Names, Vec<usize>)> {
    use LayerWeight::*;
    let &ModelConfig { dim, ffn, head_dim, layer, .. } = config;
    let (q, kv) = (config.heads * head_dim, config.kv_heads * head_dim);
    // Where branches have norms behind them too, the plain name is that of attention's.
    let mlp_norm =
        if layer.post_norms { "pre_feedforward_layernorm.weight" } else { "post_attention_layernorm.weight" };
    let mut weights = vec![
        (AttnNorm, ["attn_norm.weight", "input_layernorm.weight"], vec![dim]),
        (QProj, projections.q, vec![q, dim]),
        (KProj, projections.k, vec![kv, dim]),
        (VProj, projections.v, vec![kv, dim]),
        (OProj, ["attn_output.weight", "self_attn.o_proj.weight"], vec![dim, q]),
        (MlpNorm, ["ffn_norm.weight", mlp_norm], vec![dim]),
        (GateProj, projections.gate, vec![ffn, dim]),
        (UpProj, projections.up, vec![ffn, dim]),
        (DownProj, ["ffn_down.weight", "mlp.down_proj.weight"], vec![dim, ffn]),
    ];
    if layer.qkv_bias {
        weights.extend([
            (QBias, Q_BIAS, vec![q]),
            (KBias, ["attn_k.bias", "self_attn.k_proj.bias"], vec![kv]),
            (VBias, ["attn_v.bias", "self_attn.v_proj.bias"], vec![kv]),
        ]);
    }
    if layer.post_norms {
        weights.extend([
            (PostAttnNorm, ["post_attention_norm.weight", "post_attention_layernorm.weight"], vec![dim]),
            (PostMlpNorm, ["post_ffw_norm.weight", "post_feedforward_layernorm.weight"], vec![dim]),
        ]);
    }
    if layer.o_bias {
        weights.push((OBias, O_BIAS, vec![dim]));
    }
    if layer.mlp_bias {
        weights.extend([
            (GateBias, ["ffn_gate.bias", "mlp.gate_proj.bias"], vec![ffn]),
            (UpBias, ["ffn_up.bias", "mlp.up_proj.bias"], vec![ffn]),
            (DownBias, DOWN_BIAS, vec![dim]),
        ]);
    }
    if layer.qk_norm {
        weights.extend([
            (QNorm, ["attn_q_norm.weight", "self_attn.q_norm.weight"], vec![head_dim]),
            (KNorm, ["attn_k_norm.weight", "self_attn.k_norm.weight"], vec![head_dim]),
        ]);
    }
    weights
}

/// Below the layer's name, as in [`layer_weights`].
const Q_BIAS: Names = ["attn_q.bias", "self_attn.q_proj.bias"];
const O_BIAS: Names = ["attn_output.bias", "self_attn.o_proj.bias"];
const DOWN_BIAS: Names = ["ffn_down.bias", "mlp.down_proj.bias"];

/// `layer` with the biases that a GGUF file has, whose names `has` knows: no metadata says so.
pub(super) fn with_biases(layer: LayerSpec, has: impl Fn(&str) -> bool) -> LayerSpec {
    let has = |[gguf, _]: Names| has(&format!("blk.0.{gguf}"));
    LayerSpec { qkv_bias: has(Q_BIAS), o_bias: has(O_BIAS), mlp_bias: has(DOWN_BIAS), ..layer }
}
