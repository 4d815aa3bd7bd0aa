//! Sentences that the text says in its own voice: neither code nor direct speech.

use super::code::Fence;
use super::measure::excerpt;
use crate::domain::document::Assembled;
use crate::domain::rule::Measure;
use crate::text::shingles;

/// Counts the sentences outside code and quotation marks for which `is` holds.
pub(super) fn count(document: &Assembled<'_>, is: impl Fn(&str) -> bool) -> Measure {
    let mut found = Vec::new();
    for section in document.sections {
        let mut fence = Fence::default();
        for line in section.text.lines().filter(|line| !fence.holds(line)) {
            let at = |sentence: &str| sentence.as_ptr() as usize - line.as_ptr() as usize;
            let own = shingles::sentences(line)
                .filter(|sentence| !quoted(&line[..at(sentence)]) && !sentence.starts_with(OPENING));
            found.extend(own.filter(|sentence| is(sentence)));
        }
    }
    Measure::count(found.len(), found.first().map(|sentence| excerpt(sentence)))
}

/// Marks that begin direct speech.
const OPENING: [char; 5] = ['"', '“', '「', '『', '‘'];

/// True if a quotation is open at the end of `before`.
fn quoted(before: &str) -> bool {
    let count = |marks: &[char]| before.chars().filter(|c| marks.contains(c)).count();
    count(&['"']) % 2 == 1 || count(&['“', '「', '『']) > count(&['”', '」', '』'])
}
