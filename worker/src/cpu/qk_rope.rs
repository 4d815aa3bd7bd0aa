//! What happens to queries and keys between their projection and attention.

use super::isa::Isa;
use super::norm;
use super::weights::Layer;
use crate::model::ModelConfig;
use crate::ops::rope::Rope;

/// Head norms, rope and scale of one layer.
#[derive(Clone, Copy)]
pub(crate) struct QkRope<'a> {
    pub(crate) layer: &'a Layer,
    pub(crate) rope: &'a Rope,
    pub(crate) angles: &'a [[f32; 2]],
    pub(crate) config: &'a ModelConfig,
    /// Of the queries.
    pub(crate) scale: f32,
}

impl QkRope<'_> {
    /// Normalises and rotates queries and keys of a row in place, and scales the queries.
    pub(crate) fn apply(&self, isa: Isa, row: usize, q: &mut [f32], k: &mut [f32]) {
        let head_dim = self.config.head_dim;
        let angles = &self.angles[row * (head_dim / 2)..][..head_dim / 2];
        let mut normed = vec![0.0; if self.config.layer.qk_norm { head_dim } else { 0 }];
        let mut rotate = |head: &mut [f32], weight: &[f32]| {
            if self.config.layer.qk_norm {
                norm::norm(isa, head, weight, self.config.norm_eps, &mut normed);
                head.copy_from_slice(&normed);
            }
            self.rope.rotate(head, angles);
        };
        let [q_norm, k_norm] = &self.layer.qk_norms;
        k.chunks_exact_mut(head_dim).for_each(|head| rotate(head, k_norm));
        for head in q.chunks_exact_mut(head_dim) {
            rotate(head, q_norm);
            head.iter_mut().for_each(|x| *x *= self.scale);
        }
    }
}
