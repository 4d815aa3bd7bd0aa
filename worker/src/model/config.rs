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
    pub vocab: usize,
    /// Tokens the model was trained to hold.
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
