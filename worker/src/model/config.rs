//! The numbers that define a model's shape, whichever file they came from.

use crate::ops::rope::{self, RopeScaling, RopeStyle};

/// What the layers of a model compute, as far as families differ in it. Devices interpret it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerSpec {
    /// q, k and v projections have biases.
    pub qkv_bias: bool,
    /// The output projection of attention has one.
    pub o_bias: bool,
    /// Gate, up and down projections have biases.
    pub mlp_bias: bool,
    /// q and k are RMS-normalised per head before rope.
    pub qk_norm: bool,
    /// What attention and the feed-forward layer give is RMS-normalised before it is added to the residual stream.
    pub post_norms: bool,
    /// Of the feed-forward layer's gate.
    pub activation: Activation,
    /// Which two elements of a head rotate together.
    pub rope_style: RopeStyle,
}

/// The function of a feed-forward layer's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x times the logistic function of x.
    Silu,
    /// The error function's GELU, approximated by a hyperbolic tangent.
    GeluTanh,
}

/// Layers that see the last positions only, and those between them that see all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlidingWindow {
    /// Positions that a token sees, its own included.
    pub width: usize,
    /// One layer of so many sees all: the last of them.
    pub period: usize,
    /// Base of the rope frequencies in layers with a window. They are not scaled.
    pub rope_base: f32,
}

/// Feed-forward layers made of experts, of which each token passes through a few: those that a router finds likeliest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Experts {
    /// Experts of a layer.
    pub count: usize,
    /// How many of them a token passes through.
    pub used: usize,
    /// Width of one expert.
    pub ffn: usize,
    /// The probabilities of the used experts are divided by their sum.
    pub renormalise: bool,
    /// Layers that have one feed-forward layer of [`ModelConfig::ffn`] instead.
    pub dense_layers: Vec<usize>,
}

impl LayerSpec {
    /// Layers without biases and head norms.
    pub(crate) const fn plain(rope_style: RopeStyle) -> Self {
        let activation = Activation::Silu;
        Self {
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            qk_norm: false,
            post_norms: false,
            activation,
            rope_style,
        }
    }
}

/// The shape of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family's name, such as `llama`.
    pub family: &'static str,
    /// Number of layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the feed-forward layer, where it is not made of experts.
    pub ffn: usize,
    /// What feed-forward layers are made of in a mixture of experts.
    pub experts: Option<Experts>,
    /// Query heads.
    pub heads: usize,
    /// Key-value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Leading elements of a head that rope turns; even.
    pub rotated: usize,
    /// Rows of the embedding matrix: the tokenizer's tokens and the padding behind them.
    pub vocab: usize,
    /// Tokens the model was trained to hold. A sliding attention window that is smaller caps it: up to the window's width
    /// the window hides nothing, and full attention is what the model computes.
    pub context: usize,
    /// Base of the rope frequencies, before scaling.
    pub rope_base: f32,
    /// How rope frequencies are stretched.
    pub rope_scaling: Option<RopeScaling>,
    /// Sliding windows of some of the layers.
    pub window: Option<SlidingWindow>,
    /// Embeddings are multiplied with it.
    pub embedding_scale: f32,
    /// Products of queries and keys are multiplied with it.
    pub query_scale: f32,
    /// Added to the mean of squares in every RMS norm.
    pub norm_eps: f32,
    /// Added to the weights of norms as they lie in the file.
    pub norm_offset: f32,
    /// The output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// What its layers compute.
    pub layer: LayerSpec,
}

/// Beyond the largest known model with experts; the manifest has a line for each of their weights.
const MAX_EXPERTS: usize = 1 << 16;

impl Experts {
    fn fault(&self, layers: usize) -> Option<String> {
        let &Self { count, used, ffn, .. } = self;
        if !(1..=MAX_EXPERTS / layers).contains(&count) {
            return Some(format!("each of {layers} layers has {count} experts"));
        }
        if !(1..=count).contains(&used) {
            return Some(format!("a token passes through {used} of {count} experts"));
        }
        (!(1..=MAX_SIZE).contains(&ffn)).then(|| format!("the width of an expert is {ffn}"))
    }
}

/// Beyond the largest known dense model many times over; a number above it comes from a damaged file, and products of
/// numbers below it cannot overflow.
const MAX_SIZE: usize = 1 << 24;

impl ModelConfig {
    /// How each pair of a head turns, `[head_dim / 2]`: radians per position, and what cosine and sine are multiplied with.
    pub(crate) fn rope_turns(&self) -> Vec<[f32; 2]> {
        rope::turns(self.head_dim, self.rotated, self.rope_base, self.rope_scaling.as_ref())
    }

    /// The same of layers with a sliding window.
    pub(crate) fn window_rope_turns(&self) -> Option<Vec<[f32; 2]>> {
        self.window.map(|window| rope::turns(self.head_dim, self.rotated, window.rope_base, None))
    }

    /// Positions that a token sees in a layer; none if it sees all.
    pub(crate) fn window_of(&self, layer: usize) -> Option<usize> {
        self.window.filter(|window| !(layer + 1).is_multiple_of(window.period)).map(|window| window.width)
    }

    /// The experts of a layer; none if its feed-forward layer is one for all tokens.
    pub fn experts_of(&self, layer: usize) -> Option<&Experts> {
        self.experts.as_ref().filter(|experts| !experts.dense_layers.contains(&layer))
    }

    /// The first of its numbers that no model can have, with what is wrong about it.
    pub(super) fn fault(&self) -> Option<String> {
        let sizes = [
            ("number of layers", self.layers),
            ("width", self.dim),
            ("feed-forward width", self.ffn),
            ("number of heads", self.heads),
            ("number of key-value heads", self.kv_heads),
            ("head width", self.head_dim),
            ("vocabulary size", self.vocab),
            ("context length", self.context),
        ];
        if let Some((name, size)) = sizes.iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
            return Some(format!("the {name} is {size}"));
        }
        if self.layers > 4096 {
            return Some(format!("the number of layers is {}", self.layers));
        }
        if let Some(experts) = &self.experts
            && let Some(what) = experts.fault(self.layers)
        {
            return Some(what);
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!("{} heads cannot share {} key-value heads evenly", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Some(format!("the head width {} is odd", self.head_dim));
        }
        if self.rotated > self.head_dim || self.rotated == 0 || !self.rotated.is_multiple_of(2) {
            return Some(format!("rope turns {} elements of a head of {}", self.rotated, self.head_dim));
        }
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !positive(self.rope_base) || !positive(self.norm_eps) {
            return Some(format!("rope base {} and norm epsilon {} must be positive", self.rope_base, self.norm_eps));
        }
        let window = self.window.is_none_or(|of| of.width > 0 && of.period > 0 && positive(of.rope_base));
        if !window || !positive(self.embedding_scale) || !positive(self.query_scale) {
            return Some(format!("invalid sliding window or scale: {self:?}"));
        }
        let scaling = match &self.rope_scaling {
            None => true,
            Some(RopeScaling::Linear { factor }) => positive(*factor),
            Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context }) => {
                positive(*factor)
                    && positive(*low_freq_factor)
                    && high_freq_factor.is_finite()
                    && high_freq_factor > low_freq_factor
                    && *original_context > 0
            }
            Some(RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, magnitude, .. }) => {
                [*factor, *beta_slow, *magnitude].into_iter().all(positive)
                    && beta_fast.is_finite()
                    && beta_fast >= beta_slow
                    && *original_context > 0
                    && self.rope_base > 1.0
            }
            Some(RopeScaling::Factors { divisors, magnitude }) => {
                divisors.len() == self.rotated / 2 && positive(*magnitude) && divisors.iter().copied().all(positive)
            }
        };
        (!scaling).then(|| format!("invalid rope scaling {:?}", self.rope_scaling))
    }
}
