//! What a worker is asked to do, and what it answers.

use serde::{Deserialize, Serialize};

use crate::{DocumentId, LeaseId, RunId};

/// What a worker is asked to do next for a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub run: RunId,
    pub document: DocumentId,
    pub kind: TaskKind,
    /// Index from 0 among the document's tasks of this kind: of the step, of the summary, of the vote; 0 for a plan.
    pub section: u32,
    /// Number of this attempt of this task from 1, for traces and logs.
    pub attempt: u32,
    /// The conversation that the model's chat template turns into a prompt.
    pub messages: Vec<Message>,
    pub sampling: Sampling,
    pub length: Option<LengthControl>,
    pub constraint: Option<Constraint>,
    /// Upper bound on generated tokens; reaching it means the text is truncated.
    pub max_tokens: u32,
    /// Key of the sampler's random numbers, with document, section and position.
    pub seed: u64,
    /// W3C trace context of the document, empty if it is not traced.
    pub traceparent: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    Plan,
    Section,
    /// What the sections that a prompt does not show any more say, in short.
    Summary,
    Judge,
}

impl TaskKind {
    pub const ALL: [Self; 4] = [Self::Plan, Self::Section, Self::Summary, Self::Judge];

    /// The word used in messages, spans and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Section => "section",
            Self::Summary => "summary",
            Self::Judge => "judge",
        }
    }
}

/// One turn of a conversation; `role` is "system", "user" or "assistant".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: String,
    pub content: String,
}

/// How the next token is chosen. A recipe states it; the defaults leave the model's distribution as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// 0 keeps all tokens.
    pub top_k: u32,
    /// 1 keeps all tokens.
    pub top_p: f32,
    /// Drops tokens less likely than this share of the likeliest; 0 keeps all.
    pub min_p: f32,
    /// 1 is off. Positive logits of tokens seen in the window are divided by it, negative ones multiplied.
    pub repetition_penalty: f32,
    /// Number of latest tokens of prompt and text that the penalty looks at.
    pub penalty_window: u32,
    /// Never write a run of this many tokens that prompt or text already hold; 0 is off.
    pub no_repeat_ngram: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            penalty_window: 256,
            no_repeat_ngram: 0,
        }
    }
}

/// Steers the number of words of a section. All ratios are of `target_words`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LengthControl {
    pub target_words: u32,
    /// Below this ratio end-of-text cannot be chosen.
    pub floor: f32,
    /// Added to the logit of end-of-text for every tenth of the target written beyond the target.
    pub bias: f32,
    /// Past this ratio the section stops at the next sentence end.
    pub ceiling: f32,
    /// Past this ratio the section stops where it is, as truncated.
    pub hard: f32,
}

/// A language that the text must belong to, enforced while decoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
    JsonSchema(String),
}

/// The tokens of an unfinished task that a worker has handed in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    pub tokens: Vec<u32>,
    /// Tokens mean nothing to another tokenizer; a worker with another one starts the task anew.
    pub tokenizer_hash: String,
}

/// The text of a finished task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub text: String,
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timings: Timings,
}

/// Why decoding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or the grammar was complete.
    Stop,
    /// Length control ended the text at a sentence end past the ceiling.
    Ceiling,
    /// `max_tokens`, the hard length or the context ran out: the text is truncated.
    Length,
    /// The loop stop saw a unit repeated many times.
    Repetition,
}

impl FinishReason {
    /// The word used in records, spans and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Ceiling => "ceiling",
            Self::Length => "length",
            Self::Repetition => "repetition",
        }
    }
}

/// Token counts of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Prompt tokens whose keys and values were found in the prefix cache.
    pub cached: u32,
    /// Prompt tokens that an ideal prefix cache of this worker could have supplied.
    pub reusable: u32,
    /// Tokens generated, resumed ones included.
    pub generated: u32,
    /// Generated tokens that came from a checkpoint.
    pub resumed: u32,
}

/// Milliseconds of one attempt inside the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timings {
    pub queue_ms: u64,
    pub prefill_ms: u64,
    pub decode_ms: u64,
}

/// Why an attempt ended without a text. It never becomes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A short stable word to count and filter by, such as `context_too_small`.
    pub class: String,
    pub message: String,
    /// True if another try cannot mend it.
    pub permanent: bool,
}

/// The right to work on one document, with the task to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    pub id: LeaseId,
    pub ttl_ms: u64,
    pub task: Task,
    pub checkpoint: Option<Checkpoint>,
}

/// What a worker runs, as recorded in every document's provenance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: String,
    pub weights_hash: String,
    pub tokenizer_hash: String,
    pub licence: String,
    /// Engine and version, such as `longhand 0.1.0`.
    pub engine: String,
    pub device: String,
    /// Tokens of prompt and text together.
    pub context: u32,
}

/// What a worker says of itself now and then. For people: nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// Of the worker's build.
    pub version: String,
    pub model: ModelInfo,
    /// Documents that it can write at the same time, and those in hand.
    pub slots: u32,
    pub held: u32,
    /// Sequences decoded together now, and those that wait for memory.
    pub running: u32,
    pub waiting: u32,
    /// Blocks of memory for keys and values; 0 where the engine has none of its own.
    pub kv_blocks: u32,
    pub kv_blocks_used: u32,
    /// Over the time since its last report.
    pub tokens_per_second: f64,
    /// Since its start, as the attempts by their end.
    pub generated_tokens: u64,
    pub completed: u64,
    pub failed: u64,
    pub released: u64,
    pub lost: u64,
    pub uptime_ms: u64,
    pub draining: bool,
}
