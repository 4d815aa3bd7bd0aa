//! The interface below the model runner: a device holds weights and the paged KV pool, and runs one whole step at a time,
//! sampling included, so that a GPU copies back nothing but token ids.

use std::fmt::Debug;
use std::sync::Arc;

use longhand_proto::task::Sampling;

/// Tokens in one KV block.
pub const BLOCK_TOKENS: usize = 16;

/// Index of a block in the device's KV pool.
pub type BlockId = u32;

/// One step: decode rows and prefill chunks together, flattened.
#[derive(Debug, Default, Clone)]
pub struct StepBatch {
    /// Token ids of all sequences, one sequence after the other; length = sum of `SeqStep::len`.
    pub tokens: Vec<u32>,
    /// The sequences' parts, in the same order.
    pub sequences: Vec<SeqStep>,
}

/// Set in a token of [`PipelinedDevice::launch`], it makes the rest an index into the tokens that the last [`PipelinedDevice::sample`] sampled.
pub const DEFERRED_TOKEN: u32 = 1 << 31;

impl StepBatch {
    /// Rows whose next token is sampled, with their parameters, for [`PipelinedDevice::sample`].
    pub fn sample_params(&self) -> Vec<(usize, &SampleParams)> {
        let sequences = self.sequences.iter().enumerate();
        sequences.filter_map(|(index, sequence)| Some((index, sequence.sample.as_ref()?))).collect()
    }

    /// Rejects a batch that cannot be run.
    pub(crate) fn check(&self, max_tokens: usize, vocab: usize, blocks: usize) -> Result<(), DeviceError> {
        self.check_after(0, max_tokens, vocab, blocks)
    }

    /// The same for a batch whose tokens may be deferred ones: the `deferred` tokens sampled by the previous step.
    pub(crate) fn check_after(
        &self,
        deferred: usize,
        max_tokens: usize,
        vocab: usize,
        blocks: usize,
    ) -> Result<(), DeviceError> {
        let invalid = |what: String| Err(DeviceError::Step(what));
        let tokens = self.tokens.len();
        if tokens > max_tokens {
            return invalid(format!("{tokens} tokens in one step, where {max_tokens} fit"));
        }
        let lengths: usize = self.sequences.iter().map(|sequence| sequence.len).sum();
        if lengths != tokens {
            return invalid(format!("{tokens} tokens for sequences of {lengths} in all"));
        }
        let known = |token: &u32| {
            (*token as usize) < vocab || token & DEFERRED_TOKEN != 0 && ((token & !DEFERRED_TOKEN) as usize) < deferred
        };
        if let Some(token) = self.tokens.iter().find(|token| !known(token)) {
            return invalid(format!("token {token} is beyond the vocabulary of {vocab}"));
        }
        let mut written = Vec::new();
        for (index, SeqStep { len, start, blocks: table, .. }) in self.sequences.iter().enumerate() {
            let needed = (start + len).div_ceil(BLOCK_TOKENS);
            if *len == 0 || table.len() < needed {
                let held = table.len();
                return invalid(format!(
                    "sequence {index}: {len} tokens from {start} on need {needed} blocks, it has {held}"
                ));
            }
            if let Some(block) = table[..needed].iter().find(|block| **block as usize >= blocks) {
                return invalid(format!("sequence {index}: block {block} is beyond the pool of {blocks}"));
            }
            written.extend_from_slice(&table[start / BLOCK_TOKENS..needed]);
        }
        // Blocks are written by several threads at once: two sequences may share what they read, never what they write.
        written.sort_unstable();
        if let Some(pair) = written.windows(2).find(|pair| pair[0] == pair[1]) {
            return invalid(format!("block {} is written by two sequences, or twice by one", pair[0]));
        }
        Ok(())
    }
}

/// The part of a step that belongs to one sequence.
#[derive(Debug, Clone)]
pub struct SeqStep {
    /// Number of its tokens in this step (1 when decoding).
    pub len: usize,
    /// Position of the first of them: the number of tokens whose keys and values are in the pool already.
    pub start: usize,
    /// Block table: `blocks[p / BLOCK_TOKENS]` holds position p; covers `start + len` positions.
    pub blocks: Vec<BlockId>,
    /// How to sample the token after the last one; none for a prefill chunk that is not the prompt's last.
    pub sample: Option<SampleParams>,
}

/// Everything besides the logits that determines one sampled token.
#[derive(Debug, Clone)]
pub struct SampleParams {
    /// Temperature, top-k, top-p, min-p and penalties.
    pub sampling: Sampling,
    /// Key of the random number.
    pub key: RngKey,
    /// Index of the token in the generated text: the counter of the random number.
    pub position: u32,
    /// Distinct tokens that the repetition penalty applies to.
    pub penalised: Vec<u32>,
    /// Added to logits before everything else; `f32::NEG_INFINITY` forbids.
    pub bias: Vec<(u32, f32)>,
    /// Grammar mask: bit t of word t/32 set if token t is allowed.
    pub mask: Option<Arc<[u32]>>,
}

/// Key of the counter-based random numbers: the same text for the same (seed, document, section), on any device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RngKey {
    /// The task's seed.
    pub seed: u64,
    /// Hash of document, task kind and section.
    pub stream: u64,
}

/// Logits that no token can be chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// A logit is NaN or positive infinity.
    #[error("the model's logits are not numbers")]
    NotNumbers,
    /// Every logit is negative infinity.
    #[error("bias and grammar together forbid every token")]
    NothingAllowed,
}

/// The token sampled for one sequence, or why there is none: only that sequence fails.
pub type Sampled = Result<u32, SampleError>;

/// Why a step gave no tokens.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The device is gone; the engine must end.
    #[error("device lost: {0}")]
    Lost(String),
    /// This step cannot be computed, and would fail on any device: its sequences are at fault.
    #[error("{0}")]
    Step(String),
    /// The device failed to compute the step. It may work again, or be broken: the next steps show which.
    #[error("{0}")]
    Fault(String),
}

/// A decoding device. One thread owns it.
pub trait Device: Send + Debug {
    /// Such as `cpu (avx512-vnni, 2 threads)`.
    fn name(&self) -> String;
    /// Blocks in the KV pool.
    fn kv_blocks(&self) -> usize;
    /// Most tokens of one [`StepBatch`].
    fn max_batch_tokens(&self) -> usize;
    /// Logits of one row.
    fn vocab(&self) -> usize;
    /// Runs the step and pushes one result per sequence with `sample`, in their order, to `sampled`.
    ///
    /// A row's result depends on its own sequence only, bit for bit, never on what else is in the batch, on how its
    /// prompt was cut into chunks, or on which blocks it holds. The CUDA device keeps that in its deterministic mode.
    /// Outside it, the order of sums follows the size of the batch: the last bits of logits depend on the other rows and on
    /// chunks, so a near tie may go the other way; random numbers, masks and everything else do not depend on them.
    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError>;
    /// Runs the step and returns the raw logits `[rows, vocab]` of *every* token in the batch. For tests and perplexity.
    fn logits(&mut self, batch: &StepBatch) -> Result<Vec<f32>, DeviceError>;
    /// The pipelined interface; none if the device computes synchronously.
    fn pipelined(&mut self) -> Option<&mut dyn PipelinedDevice> {
        None
    }
}

/// A device that computes a step while the tokens of the previous step are still being processed on the host. Layers read a
/// token only when they begin, from where it was sampled; the parameters of the next sampling are needed only when they
/// end. For each step: `launch`, then `collect` for the previous step, then `sample`.
pub trait PipelinedDevice {
    /// Launches the layers of a step. Tokens may be [`DEFERRED_TOKEN`]; `SeqStep::sample` is ignored.
    fn launch(&mut self, batch: &StepBatch) -> Result<(), DeviceError>;
    /// Launches the sampling of the tokens after these sequences of the launched step, by their index, in order. The tokens
    /// sampled before must have been collected.
    fn sample(&mut self, rows: &[(usize, &SampleParams)]) -> Result<(), DeviceError>;
    /// Waits for the sampled tokens and pushes them to `sampled`, regardless of what was launched since. What a launched step
    /// computes from a token that could not be sampled is of no use, and reaches no other sequence.
    fn collect(&mut self, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError>;
}
