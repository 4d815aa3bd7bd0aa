//! The rule about documents that a trainer would skip.

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "too_many_tokens",
    key: "max_tokens",
    measures: "tokens of prompt and text",
    stage: Stage::Document,
    bound: Bound::AtMost,
    default: Threshold::Count(32_768),
    off: Threshold::Count(10_000_000),
    range: 256.0..=10_000_000.0,
    first_version: true,
    measure,
};

/// Tokens that a chat template adds around one message.
const PER_MESSAGE: u64 = 8;

/// Tokens of instruction and text together. A section counts with what the engine generated for it, which includes what
/// cleaning took out; the rest was never counted apart (a prompt's tokens hold plan and templates too) and is estimated.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let written: u64 = document
        .sections
        .iter()
        .map(|section| match section.usage.generated {
            0 => shingles::tokens(&section.text),
            known => u64::from(known),
        })
        .sum();
    let asked: u64 =
        document.instruction.messages.iter().map(|message| shingles::tokens(&message.content) + PER_MESSAGE).sum();
    let detail = format!("{written} tokens of text, about {asked} of instruction");
    Some(Measure { value: (written + asked) as f64, detail })
}
