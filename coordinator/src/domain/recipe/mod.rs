//! The recipe: all that decides the text, read from TOML and hashed.

mod check;
mod error;

use longhand_proto::task::{Sampling, SamplingKey, TaskKind};
use serde::{Deserialize, Serialize};

use super::language::Language;
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
    /// The first turn of a document in turns, English.
    pub open_en: String,
    /// The first turn of a document in turns, Chinese.
    pub open_zh: String,
    /// The turn that asks for a section, English.
    pub turn_en: String,
    /// The turn that asks for a section, Chinese.
    pub turn_zh: String,
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
    /// Fewest words of a step. In Chinese twice as many: a word is a character there.
    pub min_words: u32,
    /// Most words of a step.
    pub max_words: u32,
    /// Word budgets are scaled so that their sum is the required length times this.
    pub headroom: f32,
    /// Let the engine enforce the plan's grammar while decoding.
    pub grammar: bool,
    /// Most tokens of a plan.
    pub max_tokens: u32,
    /// How often a plan is asked for before the document fails; each try after the first is told what was wrong.
    pub tries: u32,
    /// Two lines may share this part of their words; with more they make the same point.
    pub max_similarity: f32,
    /// Least share of the lines that have a word of the instruction.
    pub min_on_subject: f32,
    pub sampling: Sampling,
}

/// How a section's prompt is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// A conversation: instruction and plan, then each section as the model's answer to a short request.
    Turns,
    /// One message with instruction, plan and text so far.
    #[default]
    Message,
}

/// How a section is written, and when it is taken. Ratios are of the section's word count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SectionRules {
    /// How the prompt is laid out.
    pub layout: Layout,
    /// How often a section is written before the document is rejected by the rule that the last try failed. 0 asks the
    /// rules only when the document is written.
    pub tries: u32,
    /// After the last try, go on with the try that fails the latest rule instead of ending the document.
    pub keep_best: bool,
    /// Keep the texts that a rule rejected: pairs for preference training are made of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_drafts: bool,
    /// Spread what the sections so far fell short or ran over onto the steps that are left.
    pub carry_over: bool,
    /// Correct the word count in the prompt by what the document's sections so far had of the words asked for.
    pub calibrate: bool,
    /// Phrases that are never written, in English.
    pub ban_en: Vec<String>,
    /// Phrases that are never written, in Chinese.
    pub ban_zh: Vec<String>,
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
            open_en: include_str!("../../../templates/open_en.j2").into(),
            open_zh: include_str!("../../../templates/open_zh.j2").into(),
            turn_en: include_str!("../../../templates/turn_en.j2").into(),
            turn_zh: include_str!("../../../templates/turn_zh.j2").into(),
            summary_en: include_str!("../../../templates/summary_en.j2").into(),
            summary_zh: include_str!("../../../templates/summary_zh.j2").into(),
            judge_en: include_str!("../../../templates/judge_en.j2").into(),
            judge_zh: include_str!("../../../templates/judge_zh.j2").into(),
        }
    }
}

impl PlanRules {
    /// The rules of a plan in this language. See `min_words`.
    pub fn of_language(&self, language: Language) -> Self {
        let min_words = match language {
            Language::En => self.min_words,
            Language::Zh => self.min_words.saturating_mul(2).min(self.max_words),
        };
        Self { min_words, ..self.clone() }
    }
}

impl Default for PlanRules {
    fn default() -> Self {
        Self {
            min_steps: 1,
            max_steps: 50,
            min_words: 120,
            max_words: 1000,
            headroom: 1.05,
            grammar: true,
            max_tokens: 4096,
            tries: 3,
            max_similarity: 0.7,
            min_on_subject: 0.2,
            // The penalty keeps a small model from making one point in every line.
            sampling: Sampling { temperature: 0.7, top_p: 0.95, repetition_penalty: 1.1, ..Sampling::default() },
        }
    }
}

impl Default for SectionRules {
    fn default() -> Self {
        Self {
            layout: Layout::default(),
            tries: 3,
            keep_best: false,
            keep_drafts: false,
            carry_over: true,
            calibrate: true,
            ban_en: phrases(include_str!("../../../templates/ban_en.txt")),
            ban_zh: phrases(include_str!("../../../templates/ban_zh.txt")),
            length_control: true,
            // Above two fifths the model ends a section itself; one that does not end is ended.
            floor: 0.4,
            bias: 0.0,
            // A short section that ends with its sentence stays within the rule of section words.
            ceiling: 1.5,
            hard: 2.0,
            max_tokens_per_word: 4.0,
            sampling: Sampling { temperature: 0.8, min_p: 0.05, dry_multiplier: 1.2, ..Sampling::default() },
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
    /// A recipe that is written with every key there is: some keys are left out at their default.
    pub(crate) fn with_every_key() -> Self {
        let mut recipe = Self::default();
        for sampling in [&mut recipe.plan.sampling, &mut recipe.section.sampling, &mut recipe.judge.sampling] {
            let named = Sampling { dry_multiplier: 1.0, dry_base: 2.0, dry_allowed_length: 3, ..*sampling };
            *sampling = Sampling { dry_penalty_last_n: 1, from_model: vec![SamplingKey::TopK].into(), ..named };
        }
        recipe.section.keep_drafts = true;
        recipe
    }

    /// Sets what a stored recipe of the first version does not name to what that version did.
    pub(crate) fn keep_first_version(&mut self) {
        self.plan = PlanRules { tries: 2, max_similarity: 1.0, min_on_subject: 0.0, ..self.plan.clone() };
        self.section = SectionRules {
            layout: Layout::Message,
            tries: 0,
            carry_over: false,
            calibrate: false,
            ban_en: Vec::new(),
            ban_zh: Vec::new(),
            ..self.section.clone()
        };
    }

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

/// The lines of a list of phrases; empty ones and those that begin with `#` do not count.
fn phrases(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn hash(context: &str, bytes: &[u8]) -> String {
    let mut hash = blake3::Hasher::new_derive_key(context);
    hash.update(bytes);
    hash.finalize().to_hex().to_string()
}

impl Templates {
    /// The texts with their keys in a recipe file.
    pub(crate) fn by_key(&mut self) -> [(&'static str, &mut String); 12] {
        let Self {
            plan_en,
            plan_zh,
            section_en,
            section_zh,
            open_en,
            open_zh,
            turn_en,
            turn_zh,
            summary_en,
            summary_zh,
            judge_en,
            judge_zh,
        } = self;
        [
            ("templates.plan_en", plan_en),
            ("templates.plan_zh", plan_zh),
            ("templates.section_en", section_en),
            ("templates.section_zh", section_zh),
            ("templates.open_en", open_en),
            ("templates.open_zh", open_zh),
            ("templates.turn_en", turn_en),
            ("templates.turn_zh", turn_zh),
            ("templates.summary_en", summary_en),
            ("templates.summary_zh", summary_zh),
            ("templates.judge_en", judge_en),
            ("templates.judge_zh", judge_zh),
        ]
    }
}
