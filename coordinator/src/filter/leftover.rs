//! The rule about the plan's marks and the template's tokens in the text: what cleaning could not take out safely.

use super::marks::{self, Fence, Sure};
use super::{Measure, excerpt};
use crate::document::Assembled;

/// Number of lines with a mark.
pub(super) fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let mut found = document.sections.iter().flat_map(|section| {
        let mut fence = Fence::default();
        let mut first = true;
        section.text.lines().filter(move |line| {
            let code = fence.holds(line);
            let leading = !code && first && !line.trim().is_empty();
            first &= !leading;
            !code && has_mark(line, leading)
        })
    });
    let first = found.next();
    let lines = usize::from(first.is_some()) + found.count();
    Some(Measure::count(lines, first.map(excerpt)))
}

fn has_mark(line: &str, leading: bool) -> bool {
    marks::at_start(line).is_some_and(|mark| leading || mark.sure == Sure::Anywhere)
        || !marks::word_counts(line).is_empty()
        || !marks::control_tokens(line).is_empty()
}
