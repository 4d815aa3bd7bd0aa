//! The rule about sections that repeat themselves.

use std::collections::HashSet;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::measure::worst;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "repetition_within",
    key: "max_repetition_within",
    measures: "largest share of a section that repeats the same section",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Number(0.2),
    off: Threshold::Number(1.0),
    range: Rule::SHARE,
    first_version: true,
    measure,
};

/// Shares of fewer n-grams are noise: a section of one sentence repeats nothing and proves nothing.
const MIN_NGRAMS: usize = 20;
/// Sentences with fewer words ("He nodded.") may recur in good prose.
const MIN_SENTENCE_WORDS: usize = 4;
/// A share of fewer sentences says nothing.
const MIN_SENTENCES: usize = 4;
/// Sentences or clauses in a row that may begin alike: a figure of speech has three or four, a refrain some more.
const MAX_ALIKE: usize = 7;
/// Clauses with fewer words are items of a list.
const MIN_CLAUSE_WORDS: usize = 3;

/// The largest share of a section that repeats the same section: by n-grams, by whole sentences, or by sentences or clauses
/// that begin as those before them.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let language = document.instruction.language;
    let shares = document.sections.iter().map(|section| {
        let ngrams = shingles::ngrams(&section.text, language);
        let of_ngrams = if ngrams.len() < MIN_NGRAMS { 0.0 } else { repeated_share(&ngrams) };
        let sentences = sentence_prints(&section.text);
        let of_sentences = if sentences.len() < MIN_SENTENCES { 0.0 } else { repeated_share(&sentences) };
        let sentences = || shingles::sentences(&section.text);
        let clauses = sentences().flat_map(|sentence| sentence.split([',', '，', ';', '；']));
        of_ngrams.max(of_sentences).max(alike(sentences(), language)).max(alike(clauses, language))
    });
    Some(worst(shares, |at, share| format!("section {}: {:.0} % of it repeats within itself", at + 1, share * 100.0)))
}

/// Share of `items` that came before among them.
fn repeated_share(items: &[u64]) -> f64 {
    let mut seen = HashSet::new();
    let repeated = items.iter().filter(|item| !seen.insert(**item)).count();
    if items.is_empty() { 0.0 } else { repeated as f64 / items.len() as f64 }
}

/// The share of `parts` that stands in a long row of parts that begin with the same word, articles apart; in Chinese with the
/// same two characters.
fn alike<'a>(parts: impl Iterator<Item = &'a str>, language: Language) -> f64 {
    let (length, articles) = match language {
        Language::En => (1, shingles::word_hashes("the a an")),
        Language::Zh => (2, Vec::new()),
    };
    let beginning = |part: Vec<u64>| -> Vec<u64> {
        part.into_iter().skip_while(|word| articles.contains(word)).take(length).collect()
    };
    let parts: Vec<Vec<u64>> =
        parts.map(shingles::word_hashes).filter(|words| words.len() >= MIN_CLAUSE_WORDS).map(beginning).collect();
    let rows = parts.chunk_by(|one, next| one == next).map(<[_]>::len).filter(|row| *row > MAX_ALIKE);
    if parts.is_empty() { 0.0 } else { rows.sum::<usize>() as f64 / parts.len() as f64 }
}

fn sentence_prints(text: &str) -> Vec<u64> {
    let long = shingles::sentences(text).filter(|sentence| shingles::word_count(sentence) >= MIN_SENTENCE_WORDS);
    long.map(shingles::fingerprint).collect()
}
