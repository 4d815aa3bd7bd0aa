//! The rule about documents that miss the required length.

use longhand_proto::words;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};

/// The rule.
pub const RULE: Rule = Rule {
    name: "score_length",
    key: "min_score_length",
    measures: "length score S_l of words written against words required, 0 to 100",
    stage: Stage::Document,
    bound: Bound::AtLeast,
    default: Threshold::Number(80.0),
    off: Threshold::Number(0.0),
    range: 0.0..=100.0,
    first_version: true,
    measure,
};

/// How well the text meets the length that the instruction states; none if it states none.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let required = document.instruction.required_words?;
    let written = u32::try_from(words::count(document.text)).unwrap_or(u32::MAX);
    let detail = format!("{written} words written, {required} required");
    Some(Measure { value: score_length(required, written), detail })
}

/// Length score S_l of LongBench-Write, 0 to 100: 100 where `written` is exactly what was required; falls to 0 at four
/// times too long and at three times too short.
pub fn score_length(required: u32, written: u32) -> f64 {
    let (x, y) = (f64::from(required), f64::from(written));
    if y == 0.0 {
        0.0
    } else if y > x {
        100.0 * (1.0 - (y / x - 1.0) / 3.0).max(0.0)
    } else {
        100.0 * (1.0 - (x / y - 1.0) / 2.0).max(0.0)
    }
}
