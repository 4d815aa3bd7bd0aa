//! The rule about the plan's marks and the template's tokens in the text: what cleaning could not take out safely.

use super::marks::{self, Fence, Sure};
use super::{Measured, excerpt};
use crate::document::Assembled;
use crate::recipe::Filters;

/// Number of lines with a mark.
pub(super) fn leftover(filters: &Filters, document: &Assembled<'_>) -> Option<Measured> {
    if !filters.leftover_identifiers {
        return None;
    }
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
    let value = (usize::from(first.is_some()) + found.count()) as f64;
    Some(Measured {
        rule: "leftover_identifiers",
        value,
        threshold: 0.0,
        fired: value > 0.0,
        detail: first.map(excerpt).unwrap_or_default(),
    })
}

fn has_mark(line: &str, leading: bool) -> bool {
    marks::at_start(line).is_some_and(|mark| leading || mark.sure == Sure::Anywhere)
        || !marks::word_counts(line).is_empty()
        || !marks::control_tokens(line).is_empty()
}
