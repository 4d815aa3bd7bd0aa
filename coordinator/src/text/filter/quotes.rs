//! Quotation marks without their other half.

use super::code::{Fence, without_code};
use super::measure::excerpt;

/// One for each paragraph in which a quotation is not closed, or was never opened. A quotation of several paragraphs opens
/// each of them and closes the last.
pub(super) fn faults(text: &str) -> Vec<String> {
    let mut fence = Fence::default();
    let prose = text.lines().filter(|line| !fence.holds(line) && !line.trim().is_empty());
    let lines: Vec<String> = prose.map(without_code).collect();
    let next = lines.iter().skip(1).map(|line| line.trim_start()).chain([""]);
    let goes_on = |next: &str| next.starts_with(['"', '“', '「']);
    let broken = lines.iter().zip(next).filter(|(line, next)| open(line) != 0 && !(open(line) > 0 && goes_on(next)));
    broken.map(|(line, _)| format!("a quotation without its other mark: {}", excerpt(line))).collect()
}

/// Marks that open and are not closed; below 0 for those that close what was never opened.
fn open(line: &str) -> i32 {
    let count = |mark: char| line.matches(mark).count() as i32;
    let curly = count('“') + count('「') - count('”') - count('」');
    // A straight mark after a digit may be inches.
    let inches = line.as_bytes().windows(2).filter(|pair| pair[0].is_ascii_digit() && pair[1] == b'"').count() as i32;
    let straight = count('"');
    if curly != 0 {
        return curly;
    }
    if straight % 2 == 0 || (straight - inches) % 2 == 0 { 0 } else { 1 }
}
