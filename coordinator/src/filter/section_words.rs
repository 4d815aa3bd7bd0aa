//! The rule about sections that miss the word count of their step.

use super::{Measure, worst};
use crate::document::Assembled;

/// The largest difference between written and asked words of a section, as a share of those asked.
pub(super) fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let errors = document.sections.iter().map(|section| {
        let (written, asked) = (f64::from(section.words), f64::from(section.target_words.max(1)));
        (written - asked).abs() / asked
    });
    Some(worst(errors, |at, _| {
        let section = &document.sections[at];
        format!("section {}: {} words written, {} asked", at + 1, section.words, section.target_words)
    }))
}
