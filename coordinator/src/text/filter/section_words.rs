//! The rule about sections that miss the word count of their step.

use super::{Measure, worst};
use crate::domain::document::Assembled;

/// The largest difference between written and asked words of a section, as a share of those asked.
pub(super) fn measure(document: &Assembled<'_>) -> Option<Measure> {
    // A text in one piece may have been written to no length.
    let errors = document.sections.iter().map(|section| match section.target_words {
        0 => 0.0,
        asked => {
            let (written, asked) = (f64::from(section.words), f64::from(asked));
            (written - asked).abs() / asked
        }
    });
    Some(worst(errors, |at, _| {
        let section = &document.sections[at];
        format!("section {}: {} words written, {} asked", at + 1, section.words, section.target_words)
    }))
}
