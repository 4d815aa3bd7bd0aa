//! The numbers that define a model's shape, whichever file they came from.

/// Model families that share one forward pass each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2/3, Mistral, SmolLM2.
    Llama,
    /// Qwen2 and 2.5: biases on q, k, v.
    Qwen2,
    /// Qwen3 dense: RMS norms on each head's q and k.
    Qwen3,
}

/// Which two elements of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// (2i, 2i+1): GGUF files of the llama architecture, whose q and k rows were permuted for it.
    Interleaved,
    /// (i, i + d/2): safetensors, and GGUF files of the Qwen architectures.
    Half,
}

/// Stretching of rope frequencies for long contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    Linear {
        factor: f32,
    },
    Llama3 {
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        original_context: usize,
    },
    /// Divisors of each frequency, as GGUF files carry them in `rope_freqs.weight`; length head_dim / 2.
    Factors(Vec<f32>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of the feed-forward layer.
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// Rows of the embedding matrix: the tokenizer's tokens and the padding behind them.
    pub vocab: usize,
    /// Tokens the model was trained to hold. A sliding attention window that is smaller caps it: up to the window's width
    /// the window hides nothing, and full attention is what the model computes.
    pub context: usize,
    pub rope_base: f32,
    pub rope_scaling: Option<RopeScaling>,
    pub rope_style: RopeStyle,
    pub norm_eps: f32,
    /// The output head is the embedding matrix.
    pub tied: bool,
    /// q, k and v projections have biases.
    pub qkv_bias: bool,
    /// q and k are RMS-normalised per head before rope.
    pub qk_norm: bool,
}

/// Beyond the largest known dense model many times over; a number above it comes from a damaged file, and products of
/// numbers below it cannot overflow.
const MAX_SIZE: usize = 1 << 24;

impl ModelConfig {
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
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Some(format!("{} heads cannot share {} key-value heads evenly", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Some(format!("the head width {} is odd", self.head_dim));
        }
        let positive = |x: f32| x.is_finite() && x > 0.0;
        if !positive(self.rope_base) || !positive(self.norm_eps) {
            return Some(format!(
                "rope base {} or norm epsilon {} is no positive number",
                self.rope_base, self.norm_eps
            ));
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
            Some(RopeScaling::Factors(factors)) => {
                factors.len() == self.head_dim / 2 && factors.iter().copied().all(positive)
            }
        };
        (!scaling).then(|| format!("the rope scaling {:?} makes no sense", self.rope_scaling))
    }
}
