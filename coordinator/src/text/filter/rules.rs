//! The list of the rules. A new rule is a file in this folder with a constant `RULE`, its `mod` line and its line in [`RULES`]
//! here, and its cases in `cases/`, in a file with its name.

mod assistant_talk;
mod boilerplate;
mod characters;
mod commentary;
mod damaged_words;
mod heading_disorder;
mod language_switch;
mod leftover_identifiers;
mod markdown_damage;
mod mixed_script;
mod near_duplicate;
mod plan_coverage;
mod premature_conclusion;
mod prompt_echo;
mod punctuation_width;
mod refusal;
mod repeated_sentences;
mod repetition_between;
mod repetition_within;
mod score_length;
mod section_similarity;
mod section_words;
mod too_many_tokens;
mod too_short;
mod truncated;
mod unfinished;

use crate::domain::rule::{Filters, Rule, ThresholdError};

pub use near_duplicate::{NearDuplicateIndex, RULE as NEAR_DUPLICATE};
pub(in crate::text) use prompt_echo::echoes;
pub use score_length::{RULE as SCORE_LENGTH, score_length};
pub use too_short::RULE as TOO_SHORT;
pub use truncated::RULE as TRUNCATED;

/// The rules that judge a document by itself, in the order in which they are asked: those that explain most of a bad document
/// before those that follow from them.
pub static RULES: [Rule; 25] = [
    truncated::RULE,
    refusal::RULE,
    too_short::RULE,
    score_length::RULE,
    section_words::RULE,
    unfinished::RULE,
    characters::RULE,
    language_switch::RULE,
    mixed_script::RULE,
    damaged_words::RULE,
    punctuation_width::RULE,
    repetition_within::RULE,
    repetition_between::RULE,
    section_similarity::RULE,
    repeated_sentences::RULE,
    assistant_talk::RULE,
    commentary::RULE,
    prompt_echo::RULE,
    boilerplate::RULE,
    leftover_identifiers::RULE,
    premature_conclusion::RULE,
    plan_coverage::RULE,
    heading_disorder::RULE,
    markdown_damage::RULE,
    too_many_tokens::RULE,
];

/// All rules in the order in which they are asked. [`NEAR_DUPLICATE`] is the last: it needs the other documents of the run.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain([&NEAR_DUPLICATE])
}

/// All rules in the order of their keys in a written recipe. The recipe's hash covers that order, so it stays as the first
/// recipes had it: the order of [`all`], with two keys before the others and two behind.
fn by_key() -> Vec<&'static Rule> {
    let mut rules: Vec<&Rule> = all().collect();
    rules.sort_by_key(|rule| match rule.key {
        "min_words" => 0,
        "min_score_length" => 1,
        "max_similarity" => 3,
        "max_tokens" => 4,
        _ => 2,
    });
    rules
}

impl Default for Filters {
    /// The default threshold of every rule.
    fn default() -> Self {
        Self::defaults(by_key())
    }
}

/// The thresholds of a recipe whose table `filters` states `stated`. In a `stored` recipe a rule that is not named was added
/// after it was written, and stays off: the documents of one run are all judged alike.
pub(crate) fn filters(stated: &Filters, stored: bool) -> Result<Filters, ThresholdError> {
    Filters::of(by_key(), stated, |rule| if stored && !rule.first_version { rule.off } else { rule.default })
}
