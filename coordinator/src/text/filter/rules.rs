//! The rules, each with its name, its threshold's key, and what it measures.

use super::{
    Measure, Measured, assistant_talk, characters, commentary, headings, language_switch, leftover, length, markdown,
    near_duplicate, plan_coverage, premature, refusal, repeated_sentences, repetition, residue, section_words, tokens,
    unfinished,
};
use crate::domain::document::Assembled;
use crate::domain::recipe::Filters;

/// On which side of its threshold a value is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    AtLeast,
    AtMost,
}

impl Bound {
    /// True for the threshold itself too.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => value >= threshold,
            Self::AtMost => value <= threshold,
        }
    }
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As it stands in `rejected.jsonl`.
    pub name: &'static str,
    /// Of its threshold, in the recipe's table `filters`.
    pub key: &'static str,
    pub bound: Bound,
    /// What the value is.
    pub measures: &'static str,
    threshold: fn(&Filters) -> Option<f64>,
    measure: fn(&Assembled<'_>) -> Option<Measure>,
}

impl Rule {
    /// None if the recipe switched it off.
    pub fn threshold(&self, filters: &Filters) -> Option<f64> {
        (self.threshold)(filters)
    }

    /// None if the document has nothing to measure.
    pub fn measure(&self, document: &Assembled<'_>) -> Option<Measure> {
        (self.measure)(document)
    }

    pub(super) fn judge(&self, filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
        let threshold = self.threshold(filters)?;
        let Measure { value, detail } = self.measure(document)?;
        Some(Measured { rule: self.name, value, threshold, fired: !self.bound.holds(value, threshold), detail })
    }
}

const fn rule(
    name: &'static str,
    key: &'static str,
    bound: Bound,
    measures: &'static str,
    threshold: fn(&Filters) -> Option<f64>,
    measure: fn(&Assembled<'_>) -> Option<Measure>,
) -> Rule {
    Rule { name, key, bound, measures, threshold, measure }
}

/// In the order in which they are asked: those that explain most of a bad document before those that follow from them.
pub const RULES: [Rule; 20] = [
    rule(
        "truncated",
        "max_truncated",
        Bound::AtMost,
        "sections that were cut",
        |f| Some(f.max_truncated.into()),
        length::truncated,
    ),
    rule(
        "refusal",
        "refusal",
        Bound::AtMost,
        "sections that begin with a refusal",
        |f| f.refusal.then_some(0.0),
        refusal::measure,
    ),
    rule("too_short", "min_words", Bound::AtLeast, "words", |f| Some(f.min_words.into()), length::words),
    rule(
        "score_length",
        "min_score_length",
        Bound::AtLeast,
        "length score S_l of words written against words asked for, 0 to 100",
        |f| Some(f.min_score_length),
        length::score,
    ),
    rule(
        "section_words",
        "max_section_error",
        Bound::AtMost,
        "largest difference of a section's words from its step's, as a share of the step's",
        |f| Some(f.max_section_error),
        section_words::measure,
    ),
    rule(
        "unfinished",
        "max_unfinished",
        Bound::AtMost,
        "sections whose last sentence has no end, or with one that goes on for a page or stammers",
        |f| Some(f.max_unfinished.into()),
        unfinished::measure,
    ),
    rule(
        "characters",
        "max_broken_characters",
        Bound::AtMost,
        "replacement characters, control characters and garbled runs",
        |f| Some(f.max_broken_characters.into()),
        characters::measure,
    ),
    rule(
        "language_switch",
        "max_other_language",
        Bound::AtMost,
        "largest share of a section in another language",
        |f| Some(f.max_other_language),
        language_switch::measure,
    ),
    rule(
        "repetition_within",
        "max_repetition_within",
        Bound::AtMost,
        "largest share of a section that repeats the same section",
        |f| Some(f.max_repetition_within),
        repetition::within,
    ),
    rule(
        "repetition_between",
        "max_repetition_between",
        Bound::AtMost,
        "largest share of a section that an earlier one holds",
        |f| Some(f.max_repetition_between),
        repetition::between,
    ),
    rule(
        "repeated_sentences",
        "max_repeated_sentences",
        Bound::AtMost,
        "share of sentences that stand in the document before",
        |f| Some(f.max_repeated_sentences),
        repeated_sentences::measure,
    ),
    rule(
        "assistant_talk",
        "max_assistant_talk",
        Bound::AtMost,
        "sentences to whoever asked",
        |f| Some(f.max_assistant_talk.into()),
        assistant_talk::measure,
    ),
    rule(
        "commentary",
        "max_commentary",
        Bound::AtMost,
        "sentences about the text itself",
        |f| Some(f.max_commentary.into()),
        commentary::measure,
    ),
    rule(
        "residue",
        "max_residue",
        Bound::AtMost,
        "hashtags, calls to click, places to fill in, labels of a data set, shouted lines, stage directions",
        |f| Some(f.max_residue.into()),
        residue::measure,
    ),
    rule(
        "leftover_identifiers",
        "leftover_identifiers",
        Bound::AtMost,
        "lines with a mark of the plan or the template, or the length that was asked for",
        |f| f.leftover_identifiers.then_some(0.0),
        leftover::measure,
    ),
    rule(
        "premature_conclusion",
        "max_premature_conclusions",
        Bound::AtMost,
        "sections before the last that conclude",
        |f| Some(f.max_premature_conclusions.into()),
        premature::measure,
    ),
    rule(
        "plan_coverage",
        "min_plan_coverage",
        Bound::AtLeast,
        "mean share of a step's key terms in its section",
        |f| Some(f.min_plan_coverage),
        plan_coverage::measure,
    ),
    rule(
        "heading_disorder",
        "max_heading_faults",
        Bound::AtMost,
        "headings that repeat, miscount or have no text",
        |f| Some(f.max_heading_faults.into()),
        headings::measure,
    ),
    rule(
        "markdown_damage",
        "max_markdown_faults",
        Bound::AtMost,
        "Markdown and quotation marks without their other half",
        |f| Some(f.max_markdown_faults.into()),
        markdown::measure,
    ),
    rule(
        "too_many_tokens",
        "max_tokens",
        Bound::AtMost,
        "tokens of prompt and text",
        |f| Some(f.max_tokens.into()),
        tokens::measure,
    ),
];

/// The rule that needs the other documents of the run; see [`super::Others`], which measures it.
pub const NEAR_DUPLICATE: Rule = rule(
    near_duplicate::NAME,
    near_duplicate::KEY,
    Bound::AtMost,
    "similarity to the most similar document before it",
    |f| Some(f.max_similarity),
    |_| None,
);
