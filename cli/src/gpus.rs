//! GPUs by their data sheets, and how many documents fit on one.

/// Tokens per word, assumed for texts of all kinds: the demo's English takes 1.2 with the tokenizer of SmolLM2.
pub(crate) const TOKENS_PER_WORD: f64 = 1.4;
/// Tokens of instruction, plan and template.
pub(crate) const PROMPT: f64 = 900.0;
/// Words per section: the mean of the built-in recipe's plans.
pub(crate) const SECTION_WORDS: f64 = 500.0;
/// Fraction of a GPU's memory for weights and KV cache.
pub(crate) const USABLE: f64 = 0.9;
/// Bytes for activations, graphs and libraries.
pub(crate) const WORKSPACE: f64 = 2e9;

/// A GPU by its data sheet: memory in GB, bandwidth in TB/s, dense bf16 in TFLOP/s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gpu {
    pub(crate) name: &'static str,
    pub(crate) memory: f64,
    pub(crate) bandwidth: f64,
    pub(crate) tflops: f64,
}

/// All GPUs that the estimates know.
pub(crate) const GPUS: [Gpu; 8] = [
    Gpu { name: "a100-40", memory: 40.0, bandwidth: 1.555, tflops: 312.0 },
    Gpu { name: "a100", memory: 80.0, bandwidth: 2.039, tflops: 312.0 },
    Gpu { name: "l40s", memory: 48.0, bandwidth: 0.864, tflops: 362.0 },
    Gpu { name: "rtx4090", memory: 24.0, bandwidth: 1.008, tflops: 165.0 },
    Gpu { name: "rtx6000-ada", memory: 48.0, bandwidth: 0.960, tflops: 364.0 },
    Gpu { name: "h100", memory: 80.0, bandwidth: 3.35, tflops: 989.0 },
    Gpu { name: "h200", memory: 141.0, bandwidth: 4.8, tflops: 989.0 },
    Gpu { name: "b200", memory: 180.0, bandwidth: 8.0, tflops: 2_250.0 },
];

impl Gpu {
    /// Bytes for the KV cache beside weights of so many bytes.
    pub(crate) fn room(&self, weights: f64) -> f64 {
        self.memory * 1e9 * USABLE - weights - WORKSPACE
    }
}

/// Documents of so many words that are in progress together in a KV cache of `room` bytes, `kv` bytes a token.
pub(crate) fn documents(room: f64, kv: f64, words: f64) -> f64 {
    // They are at all stages, so half a text on average; one more section leaves room to grow.
    let mean = kv * (PROMPT + words * TOKENS_PER_WORD / 2.0 + SECTION_WORDS * TOKENS_PER_WORD);
    (room / mean).floor().max(0.0)
}
