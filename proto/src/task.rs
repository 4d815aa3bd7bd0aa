//! Tasks that a worker is given, and their results.

use serde::{Deserialize, Serialize};

pub use crate::sampling::{RecommendedSampling, Sampling, SamplingKey, SamplingKeys};
use crate::{DocumentId, LeaseId, RunId};

/// The next unit of work of a document: one generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Run of the document.
    pub run: RunId,
    /// The document that the task belongs to.
    pub document: DocumentId,
    /// What is to be generated.
    pub kind: TaskKind,
    /// Index from 0 among the document's tasks of this kind: of the step, the summary or the vote; 0 for a plan.
    pub section: u32,
    /// Number of this attempt of this task from 1, for traces and logs.
    pub attempt: u32,
    /// The conversation that the model's chat template turns into a prompt.
    pub messages: Vec<Message>,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Bounds on the number of words, for sections.
    pub length: Option<LengthControl>,
    /// Grammar that the text must match, for plans and votes.
    pub constraint: Option<Constraint>,
    /// Phrases that the text must not contain: where one is completed, the engine goes back to its beginning and writes on in
    /// another way. ASCII letters match in both cases; a phrase that begins or ends with a letter matches whole words. Not
    /// applied under a grammar, nor by remote engines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ban: Vec<String>,
    /// Letters that the text may have. Not applied under a grammar, nor by remote engines.
    #[serde(default)]
    pub letters: Letters,
    /// Names that the text keeps to: DRY does not penalise them, and it may have their letters. llama.cpp's server takes them as
    /// sequence breakers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Words that are planned for the document from this task on, its own text included; 0 if not known. The engine plans its
    /// memory by them; no text depends on them.
    #[serde(default)]
    pub words_left: u32,
    /// Upper bound on generated tokens; reaching it means the text is truncated.
    pub max_tokens: u32,
    /// Seed of the sampler, combined with document, section and position.
    pub seed: u64,
    /// W3C trace context of the attempt; empty if the document is not traced.
    pub traceparent: String,
}

/// Declares the kinds of task, one row each: what it is, its label, and its title on the dashboard. What else a new kind needs
/// is found by the compiler (every `match` on [`TaskKind`] names all kinds) or by the test of the rows.
macro_rules! task_kinds {
    ($($(#[doc = $doc:literal])* $kind:ident => $label:literal, $title:literal);* $(;)?) => {
        /// A kind of task. Labels are stored and stand in metrics: a new kind is added, none is renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum TaskKind {
            $($(#[doc = $doc])* #[serde(rename = $label)] $kind,)*
        }

        impl TaskKind {
            /// All kinds, in the order of the rows.
            pub const ALL: [Self; [$($label),*].len()] = [$(Self::$kind),*];

            /// The label used in stored attempts, messages, metrics, and as the name of spans.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $label,)*
                }
            }

            /// The title on the dashboard; a task that a document has several of gets its number behind it.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$kind => $title,)*
                }
            }
        }
    };
}

task_kinds! {
    /// The plan of a document.
    Plan => "plan", "Plan";
    /// The text of one step.
    Section => "section", "Section";
    /// A summary of the sections that a prompt does not show any more.
    Summary => "summary", "Summary";
    /// A vote on a finished text.
    Judge => "judge", "Judge";
}

impl TaskKind {
    /// What a worker supports that states no kinds: an older build.
    pub const FIRST: [Self; 3] = [Self::Plan, Self::Section, Self::Judge];
}

/// The letters that a text may have. Signs, digits and punctuation are always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letters {
    /// All.
    #[default]
    Any,
    /// Latin and Greek.
    Latin,
    /// Chinese characters, Latin and Greek letters.
    Chinese,
    /// Chinese characters, Greek letters, and the Latin capitals of "DNA" and "3D".
    Han,
}

impl Letters {
    /// True if a text may have `c`.
    pub fn allow(self, c: char) -> bool {
        let latin = || matches!(c, '\0'..='\u{3ff}' | '\u{1e00}'..='\u{1eff}' | '\u{2000}'..='\u{2bff}');
        let han = || matches!(c, '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..);
        let beside = || matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ffef}');
        match self {
            Self::Any => true,
            Self::Latin => !c.is_alphabetic() || latin(),
            Self::Chinese => !c.is_alphabetic() || latin() || han() || beside(),
            Self::Han => Self::Chinese.allow(c) && !matches!(c, 'a'..='z' | '\u{df}'..='\u{24f}'),
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

/// Controls the number of words of a section. Ratios are relative to `target_words`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LengthControl {
    /// Words asked for.
    pub target_words: u32,
    /// Below this ratio the end-of-text token is masked.
    pub floor: f32,
    /// Added to the logit of end-of-text for every tenth of the target written beyond it.
    pub bias: f32,
    /// Above this ratio the section stops at the next end of a sentence.
    pub ceiling: f32,
    /// Above this ratio the section stops at once and counts as truncated.
    pub hard: f32,
}

/// A grammar that the text must match, enforced while decoding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
    /// A JSON schema.
    JsonSchema(String),
}

/// Tokens of an unfinished task that a worker has saved with the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Generated tokens from the first on.
    pub tokens: Vec<u32>,
    /// The tokenizer of the tokens. A worker with another one restarts the task.
    pub tokenizer_hash: String,
    /// Where the text was taken back so far, in order of time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backtracks: Vec<Backtrack>,
}

impl Checkpoint {
    /// This checkpoint with the tokens of `later`, which are those from index `from` on. None if it has not the tokens before them,
    /// or another tokenizer or other backtracks. What was appended before is appended once.
    #[must_use]
    pub fn appended(mut self, from: u32, later: &Self) -> Option<Self> {
        let after = self.tokens.get(from as usize..)?;
        let fits = after.is_empty() || after == later.tokens;
        if !fits || (&self.tokenizer_hash, &self.backtracks) != (&later.tokenizer_hash, &later.backtracks) {
            return None;
        }
        self.tokens.truncate(from as usize);
        self.tokens.extend_from_slice(&later.tokens);
        Some(self)
    }
}

/// The engine took back the end of a text, to write on from there in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backtrack {
    /// Index in the text of the first token that was taken back.
    pub position: u32,
    /// That token: it is not sampled there again.
    pub token: u32,
    /// Number of tokens that were taken back.
    pub discarded: u32,
    /// Why.
    pub cause: BacktrackCause,
}

/// Why the end of a text was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BacktrackCause {
    /// The same text came many times in a row.
    Repetition,
    /// It completed a phrase of [`Task::ban`].
    Phrase,
}

/// Result of a finished task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The generated text.
    pub text: String,
    /// Why generation ended.
    pub finish_reason: FinishReason,
    /// Token counts.
    pub usage: Usage,
    /// Time spent in the engine.
    pub timings: Timings,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or the grammar was complete.
    Stop,
    /// Length control ended the text at the end of a sentence above the ceiling.
    Ceiling,
    /// `max_tokens`, the hard length or the context ran out: the text is truncated.
    Length,
    /// Repetition detection saw the same text many times in a row.
    Repetition,
}

impl FinishReason {
    /// Its name in records, spans and metrics.
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
    /// Prompt tokens whose keys and values were in the prefix cache.
    pub cached: u32,
    /// Prompt tokens that an unbounded prefix cache of this worker would have had.
    pub reusable: u32,
    /// Tokens of the text, including resumed ones.
    pub generated: u32,
    /// Tokens of the text that came from a checkpoint.
    pub resumed: u32,
    /// How often the end of the text was taken back, also before the checkpoint.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backtracks: u32,
    /// Tokens that were generated and taken back, also before the checkpoint.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub discarded: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Milliseconds of one attempt inside the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timings {
    /// Waiting for a slot.
    pub queue_ms: u64,
    /// Computing the prompt.
    pub prefill_ms: u64,
    /// Generating tokens.
    pub decode_ms: u64,
}

/// Why an attempt ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A short stable identifier to count and filter by, such as `context_too_small`.
    pub class: String,
    /// For people.
    pub message: String,
    /// True if a retry cannot succeed.
    pub permanent: bool,
}

/// An exclusive, expiring claim on one document, with its task.
#[derive(Debug, Clone, PartialEq)]
pub struct Lease {
    /// Fencing token of all writes under the lease.
    pub id: LeaseId,
    /// Time until it expires unless it is renewed, in milliseconds.
    pub ttl_ms: u64,
    /// What to generate.
    pub task: Task,
    /// Tokens of an earlier attempt to resume from.
    pub checkpoint: Option<Checkpoint>,
}

/// The model that a worker serves, as recorded in each document's provenance.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Name of the model.
    pub name: String,
    /// Hash of the weights.
    pub weights_hash: String,
    /// Hash of the tokenizer.
    pub tokenizer_hash: String,
    /// Licence of the weights, as the model states it.
    pub licence: String,
    /// Engine and version, such as `longhand 0.1.0`.
    pub engine: String,
    /// CPU or GPU that runs it.
    pub device: String,
    /// Context length: tokens of prompt and text together.
    pub context: u32,
    /// What its makers recommend.
    #[serde(default, skip_serializing_if = "RecommendedSampling::is_empty")]
    pub sampling: RecommendedSampling,
}

impl ModelInfo {
    /// Of the test double, which is no model.
    pub const DOUBLE_HASH: &str = "mock";

    /// True if no model wrote the texts.
    pub fn is_double(&self) -> bool {
        self.weights_hash == Self::DOUBLE_HASH
    }
}

/// Status that a worker reports with its heartbeats, for display. One decision depends on it: whether others do well where a
/// worker fails.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// Version of the worker's build.
    pub version: String,
    /// The model that it serves.
    pub model: ModelInfo,
    /// Documents that it can work on at the same time.
    pub slots: u32,
    /// Leases that it holds.
    pub held: u32,
    /// Sequences in the current batch.
    pub running: u32,
    /// Sequences that wait for KV-cache memory.
    pub waiting: u32,
    /// KV-cache blocks; 0 if the engine has no cache of its own.
    pub kv_blocks: u32,
    /// KV-cache blocks in use.
    pub kv_blocks_used: u32,
    /// Decoding speed since the last report.
    pub tokens_per_second: f64,
    /// Tokens generated since its start.
    pub generated_tokens: u64,
    /// Attempts since its start that ended with a result.
    pub completed: u64,
    /// Attempts since its start that ended in an error.
    pub failed: u64,
    /// Attempts since its start that were handed back unfinished.
    pub released: u64,
    /// Attempts since its start whose lease was lost.
    pub lost: u64,
    /// Time since its start, in milliseconds.
    pub uptime_ms: u64,
    /// It finishes or hands back its leases and takes no more.
    pub draining: bool,
    /// Why its engine gets nothing done, such as the error of its server; empty while it works.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// Labels of the task kinds that it supports; empty means [`TaskKind::FIRST`]. Labels, because a replica of an older build
    /// reads kinds that it does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
}

impl WorkerStatus {
    /// True if the worker supports tasks of this kind.
    pub fn supports(&self, kind: TaskKind) -> bool {
        if self.kinds.is_empty() {
            return TaskKind::FIRST.contains(&kind);
        }
        self.kinds.iter().any(|label| label == kind.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn fields_that_came_later_are_written_only_where_they_say_something() {
        let json = serde_json::to_string(&Sampling::default()).unwrap();
        let old = r#"{"temperature":1.0,"top_k":0,"top_p":1.0,"min_p":0.0,"repetition_penalty":1.0,"penalty_window":256,"no_repeat_ngram":0}"#;
        assert_eq!(json, old, "recipes would have another hash");
        let on = Sampling { dry_multiplier: 0.8, dry_penalty_last_n: 9, ..Sampling::default() };
        let json = serde_json::to_string(&on).unwrap();
        assert!(json.ends_with(r#""no_repeat_ngram":0,"dry_multiplier":0.8,"dry_penalty_last_n":9}"#), "{json}");
        assert_eq!(serde_json::from_str::<Sampling>(&json).unwrap(), on);

        let old = r#"{"prompt":1,"cached":0,"reusable":0,"generated":2,"resumed":0}"#;
        let usage: Usage = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&usage).unwrap(), old);
        let old = r#"{"tokens":[1,2],"tokenizer_hash":"a"}"#;
        let checkpoint: Checkpoint = serde_json::from_str(old).unwrap();
        assert_eq!(serde_json::to_string(&checkpoint).unwrap(), old);
    }

    #[test]
    fn what_was_taken_back_crosses_the_wire() {
        let backtrack = |cause| Backtrack { position: 3, token: 7, discarded: 50, cause };
        let checkpoint = Checkpoint {
            tokens: vec![1, 2, 3],
            tokenizer_hash: "a".into(),
            backtracks: vec![backtrack(BacktrackCause::Repetition), backtrack(BacktrackCause::Phrase)],
        };
        assert_eq!(Checkpoint::from(v1::Checkpoint::from(checkpoint.clone())), checkpoint);
        let json = serde_json::to_string(&checkpoint).unwrap();
        assert_eq!(serde_json::from_str::<Checkpoint>(&json).unwrap(), checkpoint);
        let usage = Usage { generated: 9, backtracks: 2, discarded: 100, ..Usage::default() };
        assert_eq!(Usage::from(v1::Usage::from(usage)), usage);
    }
}
