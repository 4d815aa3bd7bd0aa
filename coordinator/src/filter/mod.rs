//! Whether a finished document is kept, and how its sections are cleaned before that. Pure rules: each measures one
//! value, compares it with the recipe's threshold, and shows what it saw.

mod clean;
mod leftover;
mod length;
mod marks;
mod refusal;
mod repetition;
#[cfg(test)]
mod tests;
mod tokens;

use crate::document::{Assembled, Language, Verdict};
use crate::recipe::Filters;

pub use length::score_length;

/// What one rule measured on one document.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Name of the rule, as it stands in `rejected.jsonl`.
    pub rule: &'static str,
    pub value: f64,
    pub threshold: f64,
    /// True if the value is on the wrong side of the threshold.
    pub fired: bool,
    /// A short excerpt or explanation, for people.
    pub detail: String,
}

/// A rule; none where the recipe switched it off or it has nothing to measure.
type Rule = fn(&Filters, &Assembled<'_>) -> Option<Measured>;

/// In the order in which they are asked: cheap ones first, and those that explain most of a bad document before those
/// that follow from them.
const RULES: [Rule; 8] = [
    length::truncated,
    refusal::refusal,
    length::too_short,
    length::score,
    repetition::within,
    repetition::between,
    leftover::leftover,
    tokens::too_many,
];

/// Removes what a model adds around a section's text. `earlier` are the sections before it, in order.
pub fn clean_section(text: &str, language: Language, earlier: &[&str]) -> String {
    clean::section(text, language, earlier)
}

/// The verdict: the first rule that fires, or accepted.
pub fn judge(filters: &Filters, assembled: &Assembled<'_>) -> Verdict {
    RULES.iter().filter_map(|rule| rule(filters, assembled)).find(|measured| measured.fired).map_or(
        Verdict::Accepted,
        |Measured { rule, value, threshold, detail, .. }| Verdict::Rejected {
            rule: rule.into(),
            value,
            threshold,
            detail,
        },
    )
}

/// What every rule measures, in order, whether it fires or not: the base of a report that helps to choose thresholds.
pub fn all(filters: &Filters, assembled: &Assembled<'_>) -> Vec<Measured> {
    RULES.iter().filter_map(|rule| rule(filters, assembled)).collect()
}

/// The beginning of a text on one line, for a detail.
fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
