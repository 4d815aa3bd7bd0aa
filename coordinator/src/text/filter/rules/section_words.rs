//! The rule about sections that miss the word count of their step.

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::measure::worst;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "section_words",
    key: "max_section_error",
    measures: "largest difference between a section's words and its step's, as a share of the step's",
    stage: Stage::SoFar,
    bound: Bound::AtMost,
    default: Threshold::Number(0.75),
    off: Threshold::Number(100.0),
    range: 0.0..=100.0,
    first_version: false,
    measure,
};

/// The largest difference between written and asked words of a section, as a share of those asked. Asked for are the step's
/// words, or what is left for it after longer or shorter sections: all between the two is right.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    // A text in one piece may have been written to no length.
    let errors = document.sections.iter().enumerate().map(|(at, section)| match section.target_words {
        0 => 0.0,
        target => {
            let step = document.plan.steps.get(at).map_or(target, |step| step.words);
            let (written, asked) = (section.words, section.words.clamp(target.min(step), target.max(step)));
            f64::from(written.abs_diff(asked)) / f64::from(asked.max(1))
        }
    });
    Some(worst(errors, |at, _| {
        let section = &document.sections[at];
        format!("section {}: {} words written, {} asked", at + 1, section.words, section.target_words)
    }))
}
