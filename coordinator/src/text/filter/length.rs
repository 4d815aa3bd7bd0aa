//! Rules about how much was written.

use longhand_proto::task::FinishReason;
use longhand_proto::words;

use super::Measure;
use crate::domain::document::Assembled;

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

/// Words of the document.
pub(super) fn words(document: &Assembled<'_>) -> Option<Measure> {
    let words = words::count(document.text);
    Some(Measure { value: words as f64, detail: format!("{words} words") })
}

/// How well the text meets the length that the instruction states.
pub(super) fn score(document: &Assembled<'_>) -> Option<Measure> {
    let required = document.instruction.required_words?;
    let written = u32::try_from(words::count(document.text)).unwrap_or(u32::MAX);
    let detail = format!("{written} words written, {required} required");
    Some(Measure { value: score_length(required, written), detail })
}

/// Sections that were cut off: by a limit on tokens, by the hard length, or by the loop stop.
pub(super) fn truncated(document: &Assembled<'_>) -> Option<Measure> {
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
