//! The rule about sections that stop in the middle of a sentence although the model ended them.

use super::marks::Fence;
use super::{Measure, excerpt};
use crate::document::Assembled;
use crate::units;

/// A last line of no more units may be a name under a letter, or "The End".
const SIGNATURE: usize = 5;

/// Sections whose last line is prose without an end.
pub(super) fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let open: Vec<&str> = document.sections.iter().filter_map(|section| open_end(&section.text)).collect();
    Some(Measure::count(open.len(), open.first().map(|line| excerpt(line))))
}

/// The last line, if a sentence is left open in it.
fn open_end(text: &str) -> Option<&str> {
    let mut fence = Fence::default();
    let (mut last, mut code) = ("", false);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        (last, code) = (line.trim(), fence.holds(line));
    }
    let bare = last.trim_end_matches(['*', '_', '`', ' ']);
    let end = bare.chars().next_back()?;
    let whole = code
        || units::is_end(end)
        || matches!(end, '|' | '>' | ']' | '】' | '~' | '～')
        || last.starts_with(['#', '-', '*', '•', '|', '>'])
        || numbered(last)
        || signature(last);
    (!whole).then_some(last)
}

/// "3. Salt": an item of a list needs no full stop.
fn numbered(line: &str) -> bool {
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with(['.', ')', '、', '）'])
}

/// A short line that begins every word with a capital, or that is Chinese without a comma.
fn signature(line: &str) -> bool {
    let closed = !line.ends_with([',', '，', ':', '：', ';', '；', '、']);
    let capitals = line.split_whitespace().all(|word| word.chars().next().is_some_and(|c| !c.is_lowercase()));
    closed && capitals && units::count(line) <= SIGNATURE
}
