//! The rule about documents that a trainer would skip.

use super::Measured;
use crate::document::Assembled;
use crate::recipe::Filters;
use crate::units;

/// Tokens that a chat template adds around one message.
const PER_MESSAGE: u64 = 8;

/// Tokens of instruction and text together. A section counts with what the engine generated for it, which includes what
/// cleaning took out; the rest was never counted apart (a prompt's tokens hold plan and templates too) and is estimated.
pub(super) fn too_many(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let written: u64 = document
        .sections
        .iter()
        .map(|section| match section.usage.generated {
            0 => estimate(&section.text),
            known => u64::from(known),
        })
        .sum();
    let asked: u64 = document.instruction.messages.iter().map(|message| estimate(&message.content) + PER_MESSAGE).sum();
    let value = (written + asked) as f64;
    let threshold = f64::from(filters.max_tokens);
    Some(Measured {
        rule: "too_many_tokens",
        value,
        threshold,
        fired: value > threshold,
        detail: format!("{written} tokens of text, about {asked} of instruction"),
    })
}

/// Tokens of a text under a usual byte-pair tokenizer: one a Chinese character, one for four of other characters.
fn estimate(text: &str) -> u64 {
    let (ideographs, others) =
        text.chars().fold((0, 0), |(i, o), c| if units::is_ideograph(c) { (i + 1, o) } else { (i, o + 1u64) });
    ideographs + others.div_ceil(4)
}
