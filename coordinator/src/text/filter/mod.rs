//! Whether a finished document is kept, and how its sections are cleaned before that. Pure rules: each measures one
//! value, which the recipe's threshold bounds, and shows what it saw.

mod clean;
mod code;
mod measure;
mod narration;
mod quotes;
mod rules;
mod template_markers;
#[cfg(test)]
mod tests;

use crate::domain::document::{Assembled, Verdict};
use crate::domain::language::Language;
use crate::domain::rule::{Filters, Measure, Rule};

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

/// Removes what a model adds around a section's text. `earlier` are the sections before it, in order.
pub fn clean_section(text: &str, language: Language, earlier: &[&str]) -> String {
    clean::section(text, language, earlier)
}

/// The verdict: the first rule that fires, or accepted.
pub fn evaluate(filters: &Filters, assembled: &Assembled<'_>) -> Verdict {
    let measured = RULES.iter().filter_map(|rule| apply(rule, filters, assembled));
    measured.into_iter().find(|measured| measured.fired).map_or(Verdict::Accepted, Measured::rejected)
}

/// What a rule says of a document; none if it is off or has nothing to measure.
fn apply(rule: &Rule, filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let threshold = rule.threshold(filters)?;
    let Measure { value, detail } = rule.measure(document)?;
    Some(Measured { rule: rule.name, value, threshold, fired: !rule.bound.holds(value, threshold), detail })
}
