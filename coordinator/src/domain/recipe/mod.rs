//! The recipe: all that decides the text, read from TOML and hashed.

mod check;
mod error;

use longhand_proto::task::{Sampling, TaskKind};
use serde::{Deserialize, Serialize};

use super::rule::Filters;

pub(crate) use check::ranges;
pub use error::{PromptError, RecipeError};

/// A recipe as its TOML file states it, defaults filled in. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// For people; part of the hash.
    pub name: String,
    /// How a text is written.
    pub method: Method,
    /// Texts of the prompts.
    pub templates: Templates,
    /// Plans: their bounds, and how they are sampled.
    pub plan: PlanRules,
    /// Sections: length control, and how they are sampled.
    pub section: SectionRules,
    /// How much context goes into a prompt.
    pub context: ContextRules,
    /// Summaries of long documents.
    pub rolling: Rolling,
    /// Thresholds of the rules that reject a document.
    pub filters: Filters,
    /// Votes on a finished text.
    pub judge: JudgeRules,
    /// How often a task is tried.
    pub retry: Retry,
}

/// How a text comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A plan, then section by section.
    #[default]
    AgentWrite,
    /// The instruction itself is the prompt, and the answer the text: what there is to compare with.
    Direct,
}

/// Template texts. In a file a value without a line break is the path of a template, relative to the recipe; one with a
/// line break is the template itself. A loaded recipe holds the texts, each with a line break at its end, so that it can
/// be written and loaded again wherever it lies. Keys left out name the templates that come with Longhand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Templates {
    /// The prompt for a plan, English.
    pub plan_en: String,
    /// The prompt for a plan, Chinese.
    pub plan_zh: String,
    /// The prompt for a section, English.
    pub section_en: String,
    /// The prompt for a section, Chinese.
    pub section_zh: String,
    /// The prompt for a summary, English.
    pub summary_en: String,
    /// The prompt for a summary, Chinese.
    pub summary_zh: String,
    /// The prompt for a vote, English.
    pub judge_en: String,
    /// The prompt for a vote, Chinese.
    pub judge_zh: String,
}

/// Bounds of a plan, and how it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRules {
    /// Fewest steps.
    pub min_steps: u32,
    /// Most steps.
    pub max_steps: u32,
    /// Fewest words of a step.
    pub min_words: u32,
    /// Most words of a step.
    pub max_words: u32,
    /// Word budgets are scaled so that their sum is the required length times this.
    pub headroom: f32,
    /// Let the engine enforce the plan's grammar while decoding.
    pub grammar: bool,
    /// Most tokens of a plan.
    pub max_tokens: u32,
    pub sampling: Sampling,
}

/// Length control of a section, and how it is written. Ratios are of the step's word count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SectionRules {
    /// Steer the number of words while decoding.
    pub length_control: bool,
    /// Below this ratio the text cannot end.
    pub floor: f32,
    /// How strongly the end is favoured past the word count.
    pub bias: f32,
    /// Past this ratio the text ends at the next sentence end.
    pub ceiling: f32,
    /// Past this ratio the text is cut, and counts as truncated.
    pub hard: f32,
    /// Bound on tokens per target word, over which a section is truncated.
    pub max_tokens_per_word: f32,
    pub sampling: Sampling,
}

/// How much of an instruction's `context` goes into a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContextRules {
    /// Most tokens of context texts in one prompt, as estimated; those nearest to the step go first. 0 takes none.
    pub max_tokens: u32,
}

/// Documents longer than the model's window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rolling {
    /// Most words of the text so far that a prompt shows; a summary stands for what is older. 0 shows all.
    pub max_words: u32,
    /// Words that are left to be shown when a summary is made.
    pub keep_words: u32,
    /// Words of a summary.
    pub summary_words: u32,
    /// Lines of the plan that a prompt shows are those of the step's group of so many and of the next group. 0 shows all.
    pub plan_steps: u32,
}

/// A model's opinion of the finished text, see [`crate::domain::judge`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeRules {
    /// Votes on each document that the filters let pass; 0 asks for none.
    pub votes: u32,
    /// Ask for votes on those that a filter rejects too.
    pub all: bool,
    /// Least quality score S_q, 0 to 100; 0 only notes it.
    pub min: f64,
    pub max_tokens: u32,
    pub sampling: Sampling,
}

/// How often a task is tried, and how long a document waits in between.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Errors of one task before the document fails.
    pub max_errors: u32,
    /// Lost leases of one task before the document fails as poison.
    pub max_losses: u32,
    /// First back-off; doubles with each error, with full jitter.
    pub backoff_ms: u64,
    /// Longest back-off.
    pub max_backoff_ms: u64,
}

impl Retry {
    /// How long to wait after the given number of errors (from 1): anything up to a bound that doubles with each, drawn
    /// by `jitter` from 0 to 1, so that documents that failed together do not come back together.
    pub fn delay_ms(&self, errors: u32, jitter: f64) -> u64 {
        let doublings = errors.saturating_sub(1).min(32);
        let bound = self.backoff_ms.saturating_mul(1 << doublings).min(self.max_backoff_ms);
        (bound as f64 * jitter.clamp(0.0, 1.0)) as u64
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            plan_en: include_str!("../../../templates/plan_en.j2").into(),
            plan_zh: include_str!("../../../templates/plan_zh.j2").into(),
            section_en: include_str!("../../../templates/section_en.j2").into(),
            section_zh: include_str!("../../../templates/section_zh.j2").into(),
            summary_en: include_str!("../../../templates/summary_en.j2").into(),
            summary_zh: include_str!("../../../templates/summary_zh.j2").into(),
            judge_en: include_str!("../../../templates/judge_en.j2").into(),
            judge_zh: include_str!("../../../templates/judge_zh.j2").into(),
        }
    }
}

impl Default for PlanRules {
    fn default() -> Self {
        Self {
            min_steps: 1,
            max_steps: 50,
            min_words: 200,
            max_words: 1000,
            headroom: 1.05,
            grammar: true,
            max_tokens: 4096,
            // The penalty keeps a small model from making one point in every line.
            sampling: Sampling { temperature: 0.7, top_p: 0.95, repetition_penalty: 1.1, ..Sampling::default() },
        }
    }
}

impl Default for SectionRules {
    fn default() -> Self {
        Self {
            length_control: true,
            floor: 0.9,
            bias: 1.0,
            ceiling: 1.15,
            hard: 1.5,
            max_tokens_per_word: 4.0,
            sampling: Sampling { temperature: 0.7, top_p: 0.95, ..Sampling::default() },
        }
    }
}

impl Default for ContextRules {
    fn default() -> Self {
        Self { max_tokens: 4096 }
    }
}

impl Default for Rolling {
    fn default() -> Self {
        Self { max_words: 0, keep_words: 1_000, summary_words: 300, plan_steps: 0 }
    }
}

impl Default for JudgeRules {
    fn default() -> Self {
        Self {
            votes: 0,
            all: false,
            min: 0.0,
            max_tokens: 256,
            // Votes that are all the same say no more than one.
            sampling: Sampling { temperature: 0.7, top_p: 0.95, ..Sampling::default() },
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_errors: 3, max_losses: 3, backoff_ms: 1_000, max_backoff_ms: 60_000 }
    }
}

impl Recipe {
    /// How the tokens of a task of this kind are chosen.
    pub fn sampling(&self, kind: TaskKind) -> &Sampling {
        match kind {
            TaskKind::Plan => &self.plan.sampling,
            TaskKind::Section | TaskKind::Summary => &self.section.sampling,
            TaskKind::Judge => &self.judge.sampling,
        }
    }

    /// The recipe with its templates in it: loading the text gives the same recipe.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("numbers, texts and tables can be written as TOML")
    }

    /// 64 hexadecimal digits over all that the recipe holds, template texts included. Order and comments of the file do
    /// not count, nor where its templates lie.
    pub fn hash(&self) -> String {
        let canonical = serde_json::to_vec(self).expect("numbers, texts and objects can be written as JSON");
        hash("longhand recipe v1", &canonical)
    }

    /// 64 hexadecimal digits over the template texts alone.
    pub fn template_hash(&self) -> String {
        let canonical = serde_json::to_vec(&self.templates).expect("texts can be written as JSON");
        hash("longhand templates v1", &canonical)
    }
}

fn hash(context: &str, bytes: &[u8]) -> String {
    let mut hash = blake3::Hasher::new_derive_key(context);
    hash.update(bytes);
    hash.finalize().to_hex().to_string()
}

impl Templates {
    /// The texts with their keys in a recipe file.
    pub(crate) fn by_key(&mut self) -> [(&'static str, &mut String); 8] {
        let Self { plan_en, plan_zh, section_en, section_zh, summary_en, summary_zh, judge_en, judge_zh } = self;
        [
            ("templates.plan_en", plan_en),
            ("templates.plan_zh", plan_zh),
            ("templates.section_en", section_en),
            ("templates.section_zh", section_zh),
            ("templates.summary_en", summary_en),
            ("templates.summary_zh", summary_zh),
            ("templates.judge_en", judge_en),
            ("templates.judge_zh", judge_zh),
        ]
    }
}
