//! The weights of mixtures of experts, with their names.

use super::weight::{LayerWeight, WeightId, WeightSpec};
use crate::model::config::Experts;

/// What files of the Hugging Face layout call the weights of experts.
pub(super) struct ExpertNames {
    /// Below the layer's name.
    block: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
}

pub(super) const QWEN: ExpertNames = ExpertNames { block: "mlp", gate: "gate_proj", up: "up_proj", down: "down_proj" };
pub(super) const MIXTRAL: ExpertNames = ExpertNames { block: "block_sparse_moe", gate: "w1", up: "w3", down: "w2" };

impl ExpertNames {
    /// Router and experts of a layer of width `dim`. GGUF has one tensor for all experts, which follow one another here.
    pub(super) fn weights(&self, experts: &Experts, dim: usize, layer: usize) -> Vec<WeightSpec> {
        use LayerWeight::*;
        let &Experts { count, ffn, .. } = experts;
        let &Self { block, gate, up, down } = self;
        let prefix = format!("model.layers.{layer}.{block}");
        let mut weights = vec![WeightSpec {
            id: WeightId::Layer(layer, Router),
            gguf: format!("blk.{layer}.ffn_gate_inp.weight"),
            hugging_face: format!("{prefix}.gate.weight"),
            shape: vec![count, dim],
        }];
        let mut of_each = |weight: fn(usize) -> LayerWeight, gguf: &str, hugging_face: &str, shape: [usize; 2]| {
            weights.extend((0..count).map(|expert| WeightSpec {
                id: WeightId::Layer(layer, weight(expert)),
                gguf: format!("blk.{layer}.{gguf}.weight"),
                hugging_face: format!("{prefix}.experts.{expert}.{hugging_face}.weight"),
                shape: shape.to_vec(),
            }));
        };
        of_each(ExpertGate, "ffn_gate_exps", gate, [ffn, dim]);
        of_each(ExpertUp, "ffn_up_exps", up, [ffn, dim]);
        of_each(ExpertDown, "ffn_down_exps", down, [dim, ffn]);
        weights
    }
}
