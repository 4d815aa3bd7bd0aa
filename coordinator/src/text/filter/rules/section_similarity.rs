//! The rule about sections that say what an earlier one says, in nearly the same words: a paraphrase repeats few long runs of
//! words, but many short ones.

use std::collections::HashMap;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::measure::worst;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "section_similarity",
    key: "max_section_similarity",
    measures: "largest share of a section's short n-grams that one earlier section has",
    stage: Stage::SoFar,
    bound: Bound::AtMost,
    default: Threshold::Number(0.3),
    off: Threshold::Number(1.0),
    range: Rule::SHARE,
    first_version: false,
    measure,
};

/// Shares of fewer n-grams are noise.
const MIN_NGRAMS: usize = 60;

/// Words of an n-gram.
const fn length(language: Language) -> usize {
    match language {
        Language::En => 3,
        Language::Zh => 4,
    }
}

/// The largest share of a section's short n-grams that stand in one and the same earlier section. Time is in proportion to the
/// text, as long as few n-grams stand in many sections.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let length = length(document.instruction.language);
    // The sections that have an n-gram, in order.
    let mut holders: HashMap<u64, Vec<usize>> = HashMap::new();
    let shares = document.sections.iter().enumerate().map(|(at, section)| {
        let words = shingles::word_hashes(&section.text);
        let mut common = vec![0_usize; at];
        let mut ngrams = 0;
        for ngram in shingles::shingles(&words, length) {
            ngrams += 1;
            let sections = holders.entry(ngram).or_default();
            sections.iter().filter(|earlier| **earlier < at).for_each(|earlier| common[*earlier] += 1);
            if sections.last() != Some(&at) {
                sections.push(at);
            }
        }
        let most = common.into_iter().max().unwrap_or(0);
        if ngrams < MIN_NGRAMS { 0.0 } else { most as f64 / ngrams as f64 }
    });
    Some(worst(shares, |at, share| {
        format!("section {}: {:.0} % of its short phrases stand in one earlier section", at + 1, share * 100.0)
    }))
}
