//! Whether a finished document is kept, and how its sections are cleaned before that. Pure rules: each measures one
//! value, which the recipe's threshold bounds, and shows what it saw.

mod assistant_talk;
mod characters;
mod clean;
mod commentary;
mod headings;
mod language_switch;
mod leftover;
mod length;
mod markdown;
mod marks;
mod near_duplicate;
mod plan_coverage;
mod premature;
mod quotes;
mod refusal;
mod repeated_sentences;
mod repetition;
mod residue;
mod rules;
mod section_words;
mod speech;
#[cfg(test)]
mod tests;
mod tokens;
mod unfinished;

use crate::domain::document::{Assembled, Verdict};
use crate::domain::language::Language;
use crate::domain::recipe::Filters;

pub use length::score_length;
pub use near_duplicate::Others;
pub use rules::{Bound, NEAR_DUPLICATE, RULES, Rule};

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
pub fn judge(filters: &Filters, assembled: &Assembled<'_>) -> Verdict {
    let measured = RULES.iter().filter_map(|rule| rule.judge(filters, assembled));
    measured.into_iter().find(|measured| measured.fired).map_or(Verdict::Accepted, Measured::rejected)
}

/// What a rule saw, before a threshold is looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    pub value: f64,
    /// Of the place that decided the value; empty if there is none.
    pub detail: String,
}

impl Measure {
    /// A number of places, and the first of them.
    fn count(places: usize, first: Option<String>) -> Self {
        Self { value: places as f64, detail: first.unwrap_or_default() }
    }
}

/// The largest of the values that sections have; `tell` describes the first with it, unless it is 0.
fn worst(values: impl Iterator<Item = f64>, tell: impl Fn(usize, f64) -> String) -> Measure {
    let (at, value) =
        values.enumerate().fold((0, 0.0), |best, (at, value)| if value > best.1 { (at, value) } else { best });
    Measure { value, detail: if value > 0.0 { tell(at, value) } else { String::new() } }
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
