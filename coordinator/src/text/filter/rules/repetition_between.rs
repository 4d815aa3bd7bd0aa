//! The rule about sections that repeat earlier ones.

use std::collections::HashSet;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::measure::worst;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "repetition_between",
    key: "max_repetition_between",
    measures: "largest share of a section that an earlier section holds",
    stage: Stage::SoFar,
    bound: Bound::AtMost,
    default: Threshold::Number(0.2),
    off: Threshold::Number(1.0),
    range: Rule::SHARE,
    first_version: true,
    measure,
};

/// Shares of fewer n-grams are noise.
const MIN_NGRAMS: usize = 20;

/// The largest share of a section's n-grams that an earlier section holds.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let mut earlier = HashSet::new();
    let shares = document.sections.iter().map(|section| {
        let ngrams = shingles::ngrams(&section.text, language);
        let known = ngrams.iter().filter(|ngram| earlier.contains(*ngram)).count();
        let share = if ngrams.len() < MIN_NGRAMS { 0.0 } else { known as f64 / ngrams.len() as f64 };
        earlier.extend(ngrams);
        share
    });
    Some(worst(shares, |at, share| {
        format!("section {}: {:.0} % of it repeats earlier sections", at + 1, share * 100.0)
    }))
}
