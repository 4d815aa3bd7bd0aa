//! The rule about sections that were cut.

use longhand_proto::task::FinishReason;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};

/// The rule.
pub const RULE: Rule = Rule {
    name: "truncated",
    key: "max_truncated",
    measures: "sections that were cut",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(200),
    range: 0.0..=200.0,
    first_version: true,
    measure,
};

/// Sections that were cut off: by a limit on tokens, by the hard length, or by the loop stop.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let cut: Vec<String> = document
        .sections
        .iter()
        .enumerate()
        .filter_map(|(k, section)| match section.finish_reason {
            FinishReason::Length | FinishReason::Repetition => {
                Some(format!("{} ({})", k + 1, section.finish_reason.as_str()))
            }
            FinishReason::Stop | FinishReason::Ceiling => None,
        })
        .collect();
    Some(Measure::count(cut.len(), (!cut.is_empty()).then(|| format!("cut sections: {}", cut.join(", ")))))
}
