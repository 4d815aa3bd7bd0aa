//! The recipe: all that decides the text, read from TOML and hashed.

mod check;
mod error;
mod load;
#[cfg(test)]
mod tests;

use longhand_proto::task::Sampling;
use serde::{Deserialize, Serialize};

/// A recipe as its TOML file states it, defaults filled in. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    pub name: String,
    pub method: Method,
    pub templates: Templates,
    pub plan: PlanRules,
    pub section: SectionRules,
    pub context: ContextRules,
    pub rolling: Rolling,
    pub filters: Filters,
    pub judge: JudgeRules,
    pub retry: Retry,
}

pub use error::{PromptError, RecipeError};

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
    pub plan_en: String,
    pub plan_zh: String,
    pub section_en: String,
    pub section_zh: String,
    pub summary_en: String,
    pub summary_zh: String,
    pub judge_en: String,
    pub judge_zh: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRules {
    pub min_steps: u32,
    pub max_steps: u32,
    pub min_words: u32,
    pub max_words: u32,
    /// Word budgets are scaled so that their sum is the required length times this.
    pub headroom: f32,
    /// Let the engine enforce the plan's grammar while decoding.
    pub grammar: bool,
    pub max_tokens: u32,
    pub sampling: Sampling,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SectionRules {
    /// Steer the number of words while decoding.
    pub length_control: bool,
    pub floor: f32,
    pub bias: f32,
    pub ceiling: f32,
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

/// Thresholds of the filters: see [`crate::text::filter::RULES`] for what each bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filters {
    /// Fewest words of a document.
    pub min_words: u32,
    /// Least length score S_l, 0 to 100.
    pub min_score_length: f64,
    /// Most sections that ended truncated.
    pub max_truncated: u32,
    pub refusal: bool,
    /// Largest difference of a section's words from its step's, as a share of the step's.
    pub max_section_error: f64,
    /// Most sections whose last sentence has no end.
    pub max_unfinished: u32,
    pub max_broken_characters: u32,
    /// Largest share of a section in another language.
    pub max_other_language: f64,
    /// Largest share of a section's word n-grams that repeat within it.
    pub max_repetition_within: f64,
    /// Largest share of a section's word n-grams that an earlier section holds.
    pub max_repetition_between: f64,
    /// Largest share of the document's sentences that stand in it before.
    pub max_repeated_sentences: f64,
    /// Most sentences in which the model speaks to whoever asked.
    pub max_assistant_talk: u32,
    /// Most sentences about the text itself.
    pub max_commentary: u32,
    /// Most lines that a web page or a form would leave.
    pub max_residue: u32,
    pub leftover_identifiers: bool,
    /// Most sections before the last that conclude.
    pub max_premature_conclusions: u32,
    /// Least mean share of a step's key terms that its section holds.
    pub min_plan_coverage: f64,
    /// Most headings that repeat, miscount or have no text.
    pub max_heading_faults: u32,
    /// Most places where Markdown was begun and not ended.
    pub max_markdown_faults: u32,
    /// Largest similarity to an earlier document of the run; 1 keeps all.
    pub max_similarity: f64,
    /// Most tokens of prompt and text together.
    pub max_tokens: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Errors of one task before the document fails.
    pub max_errors: u32,
    /// Lost leases of one task before the document fails as poison.
    pub max_losses: u32,
    /// First back-off; doubles with each error, with full jitter.
    pub backoff_ms: u64,
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

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "longwriter".into(),
            method: Method::default(),
            templates: Templates::default(),
            plan: PlanRules::default(),
            section: SectionRules::default(),
            context: ContextRules::default(),
            rolling: Rolling::default(),
            filters: Filters::default(),
            judge: JudgeRules::default(),
            retry: Retry::default(),
        }
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

impl Default for Filters {
    fn default() -> Self {
        Self {
            min_words: 300,
            min_score_length: 80.0,
            max_truncated: 0,
            refusal: true,
            max_repetition_within: 0.2,
            max_repetition_between: 0.2,
            leftover_identifiers: true,
            max_tokens: 32_768,
            max_section_error: 0.75,
            max_unfinished: 0,
            max_broken_characters: 0,
            max_other_language: 0.2,
            max_repeated_sentences: 0.05,
            max_assistant_talk: 0,
            max_commentary: 0,
            max_residue: 0,
            max_premature_conclusions: 0,
            min_plan_coverage: 0.2,
            max_heading_faults: 0,
            max_markdown_faults: 0,
            max_similarity: 0.8,
        }
    }
}

impl Filters {
    /// Most places that a rule may be told to allow: more than any document has.
    pub(crate) const MOST_PLACES: u32 = 1_000_000;

    /// With the rules off that a recipe of the first version did not have.
    fn first_version() -> Self {
        Self {
            max_section_error: 100.0,
            max_unfinished: Self::MOST_PLACES,
            max_broken_characters: Self::MOST_PLACES,
            max_other_language: 1.0,
            max_repeated_sentences: 1.0,
            max_assistant_talk: Self::MOST_PLACES,
            max_commentary: Self::MOST_PLACES,
            max_residue: Self::MOST_PLACES,
            max_premature_conclusions: Self::MOST_PLACES,
            min_plan_coverage: 0.0,
            max_heading_faults: Self::MOST_PLACES,
            max_markdown_faults: Self::MOST_PLACES,
            max_similarity: 1.0,
            ..Self::default()
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_errors: 3, max_losses: 3, backoff_ms: 1_000, max_backoff_ms: 60_000 }
    }
}
