//! Whether a finished document is kept, and how its sections are cleaned before that. Pure rules: each measures one
//! value, which the recipe's threshold bounds, and shows what it saw.

mod blank;
mod clean;
mod code;
mod measure;
mod narration;
mod quotes;
mod rules;
mod script;
mod source;
mod template_markers;
#[cfg(test)]
mod tests;
mod vocabulary;

use crate::domain::document::{Assembled, Verdict};
use crate::domain::rule::{Filters, Measure, Rule, Stage, Threshold};

pub(in crate::text) use rules::echoes;
pub(crate) use rules::filters;
pub use rules::{NEAR_DUPLICATE, NearDuplicateIndex, RULES, SCORE_LENGTH, TOO_SHORT, TRUNCATED, all, score_length};

/// What one rule measured on one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Name of the rule, as it stands in `rejected.jsonl`.
    pub rule: &'static str,
    /// What was measured.
    pub value: f64,
    /// The recipe's threshold.
    pub threshold: f64,
    /// True if the value is on the wrong side of the threshold.
    pub fired: bool,
    /// A short excerpt or explanation, for people.
    pub detail: String,
}

impl Measured {
    /// As a verdict on its document.
    pub fn rejected(self) -> Verdict {
        let Self { rule, value, threshold, fired: _, detail } = self;
        Verdict::Rejected { rule: rule.into(), value, threshold, detail }
    }
}

/// Takes off what a model adds before and after a section's text; what stands inside stays as it is, spaces aside.
/// `main_point` is its step's.
pub fn clean_section(text: &str, main_point: &str) -> String {
    clean::section(text, main_point)
}

/// The verdict: the first rule that fires, or accepted.
pub fn evaluate(filters: &Filters, assembled: &Assembled<'_>) -> Verdict {
    first_fired(filters, assembled).map_or(Verdict::Accepted, Measured::rejected)
}

/// The first rule that fires; none for a document that is accepted.
pub fn first_fired(filters: &Filters, assembled: &Assembled<'_>) -> Option<Measured> {
    let mut measured = RULES.iter().filter_map(|rule| apply(rule, filters, assembled));
    measured.find(|measured| measured.fired)
}

/// What every rule says of a document, in the order in which they are asked; rules that are off are left out.
pub fn measure_all(filters: &Filters, assembled: &Assembled<'_>) -> Vec<Measured> {
    RULES.iter().filter_map(|rule| apply(rule, filters, assembled)).collect()
}

/// The rule that a document fails already as far as it is written; none if it fails none. Only rules that need no more than
/// that are asked. The sections before the newest passed: most rules look at the newest alone, so that a document of n words
/// costs a multiple of n, and at the rest only if they find something there.
pub fn evaluate_so_far(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let newest = &document.sections[document.sections.len().saturating_sub(1)..];
    let text = newest.first().map_or("", |section| &section.text);
    let alone = Assembled { sections: newest, text, ..*document };
    let asked = |rule: &&Rule| match rule.stage {
        Stage::Section => !passes_alone(rule, filters, &alone),
        Stage::SoFar => true,
        Stage::Document => false,
    };
    RULES.iter().filter(asked).filter_map(|rule| apply(rule, filters, document)).find(|measured| measured.fired)
}

/// True if the section adds nothing that could make its document fail.
fn passes_alone(rule: &Rule, filters: &Filters, section: &Assembled<'_>) -> bool {
    apply(rule, filters, section).is_none_or(|measured| match rule.default {
        Threshold::Number(_) => !measured.fired,
        Threshold::Count(_) | Threshold::Switch(_) => measured.value == 0.0,
    })
}

/// What a rule says of a document; none if it is off or has nothing to measure.
fn apply(rule: &Rule, filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let threshold = rule.threshold(filters)?;
    let Measure { value, detail } = rule.measure(document)?;
    Some(Measured { rule: rule.name, value, threshold, fired: !rule.bound.holds(value, threshold), detail })
}
