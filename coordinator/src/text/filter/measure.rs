//! Help for the rules: the worst section, and excerpts for people.

use std::ops::Range;

use crate::domain::rule::Measure;

/// The largest of the values that sections have; `describe` gives the detail for the first with it, unless it is 0.
pub(super) fn worst(values: impl Iterator<Item = f64>, describe: impl Fn(usize, f64) -> String) -> Measure {
    let (at, value) =
        values.enumerate().fold((0, 0.0), |best, (at, value)| if value > best.1 { (at, value) } else { best });
    Measure { value, detail: if value > 0.0 { describe(at, value) } else { String::new() } }
}

/// The beginning of a text on one line, for a detail.
pub(super) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

/// What stands around the bytes `place` of a line, for a detail.
pub(super) fn around(line: &str, place: Range<usize>) -> String {
    const CHARS: usize = 30;
    let start = line[..place.start].char_indices().rev().nth(CHARS - 1).map_or(0, |(at, _)| at);
    let end = line[place.end..].char_indices().nth(CHARS).map_or(line.len(), |(at, _)| place.end + at);
    let (before, after) = (if start > 0 { "…" } else { "" }, if end < line.len() { "…" } else { "" });
    format!("{before}{}{after}", line[start..end].trim())
}
