//! The rule about sentences that a document says again.

use std::collections::HashMap;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "repeated_sentences",
    key: "max_repeated_sentences",
    measures: "share of sentences that occur earlier in the document",
    stage: Stage::Document,
    bound: Bound::AtMost,
    default: Threshold::Number(0.05),
    off: Threshold::Number(1.0),
    range: Rule::SHARE,
    first_version: false,
    measure,
};

/// Sentences with fewer words may recur in good prose, as refrains and answers do.
const fn short(language: Language) -> usize {
    match language {
        Language::En => 6,
        Language::Zh => 9,
    }
}
/// A share of fewer sentences says nothing.
const FEW: usize = 8;

/// Share of the document's sentences that stand in it before, in the same section or another.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let least = short(document.instruction.language);
    let mut seen: HashMap<u64, (usize, &str)> = HashMap::new();
    let mut sentences = 0;
    let mut fence = Fence::default();
    let prose = document.text.lines().filter(|line| !fence.holds(line) && !line.starts_with(['|', '>', '#']));
    for sentence in prose.flat_map(shingles::sentences).filter(|sentence| shingles::word_count(sentence) >= least) {
        sentences += 1;
        seen.entry(shingles::fingerprint(sentence)).or_insert((0, sentence)).0 += 1;
    }
    let again: usize = seen.values().map(|(times, _)| times - 1).sum();
    let value = if sentences < FEW { 0.0 } else { again as f64 / sentences as f64 };
    // The one said most often, the first in the text of equals.
    let worst = seen.values().max_by_key(|(times, sentence)| (*times, std::cmp::Reverse(sentence.as_ptr())));
    let detail = worst.filter(|(times, _)| *times > 1).map(|(times, it)| format!("{times} times: {}", excerpt(it)));
    Some(Measure { value, detail: detail.unwrap_or_default() })
}
