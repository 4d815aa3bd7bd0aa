//! The rule about characters that no writer meant: what a decoder, an encoding or a web page left.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "characters",
    key: "max_broken_characters",
    measures: "replacement characters, control characters and garbled runs",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// UTF-8 that was read as Latin-1 or as GBK, and entities of a page.
static GARBLED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"[ÂÃ][\u{80}-\u{bf}]|â€[™œ\u{9d}“”˜¦\u{80}-\u{bf}]|锟斤拷|烫烫烫|屯屯屯|&(?:amp|nbsp|quot|apos|lt|gt|mdash|ndash|hellip|#\d{2,5}|#x[0-9a-fA-F]{2,5});")
        .expect("a constant pattern, compiled by the tests")
});

/// Replacement characters, control characters and the like, and garbled runs.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let mut fence = Fence::default();
    let (mut count, mut first) = (0, None);
    for line in document.text.lines() {
        let garbled = if fence.holds(line) { 0 } else { GARBLED.find_iter(line).count() };
        let found = line.chars().filter(|c| broken(*c)).count() + garbled;
        if found > 0 && first.is_none() {
            first = Some(excerpt(line));
        }
        count += found;
    }
    Some(Measure::count(count, first))
}

/// What joins emoji and letters of other scripts (U+200C, U+200D) is meant.
const fn broken(c: char) -> bool {
    matches!(c,
        '\u{fffd}' | '\u{0}'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200b}' | '\u{2028}' | '\u{2029}'
        | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{ffff}' | '\u{fffe}'
        | '\u{f0000}'..='\u{10ffff}')
}
