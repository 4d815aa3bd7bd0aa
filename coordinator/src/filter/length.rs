//! Rules about how much was written.

use longhand_proto::task::FinishReason;
use longhand_proto::words;

use super::Measured;
use crate::document::Assembled;
use crate::recipe::Filters;

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

/// Fewer words than any document of the corpus should have.
pub(super) fn too_short(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let words = words::count(document.text) as f64;
    let threshold = f64::from(filters.min_words);
    Some(Measured {
        rule: "too_short",
        value: words,
        threshold,
        fired: words < threshold,
        detail: format!("{words} words"),
    })
}

/// The text misses the length that the instruction states.
pub(super) fn score(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    let required = document.instruction.required_words?;
    let written = u32::try_from(words::count(document.text)).unwrap_or(u32::MAX);
    let value = score_length(required, written);
    Some(Measured {
        rule: "score_length",
        value,
        threshold: filters.min_score_length,
        fired: value < filters.min_score_length,
        detail: format!("{written} words written, {required} required"),
    })
}

/// Sections that were cut off: by a limit on tokens, by the hard length, or by the loop stop.
pub(super) fn truncated(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
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
    let threshold = f64::from(filters.max_truncated);
    let value = cut.len() as f64;
    let detail = if cut.is_empty() { String::new() } else { format!("cut sections: {}", cut.join(", ")) };
    Some(Measured { rule: "truncated", value, threshold, fired: value > threshold, detail })
}
