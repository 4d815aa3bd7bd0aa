//! The rule about documents of too few words. Whether a document has the words that it was asked for, S_l says.

use longhand_proto::words;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};

/// The rule.
pub const RULE: Rule = Rule {
    name: "too_short",
    key: "min_words",
    measures: "words of the document",
    stage: Stage::Document,
    bound: Bound::AtLeast,
    default: Threshold::Count(100),
    off: Threshold::Count(0),
    range: 0.0..=1_000_000.0,
    first_version: true,
    measure,
};

/// Words of the document.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let words = words::count(document.text);
    Some(Measure { value: words as f64, detail: format!("{words} words") })
}
