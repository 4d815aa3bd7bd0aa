//! The rule about punctuation of the other script's width: half-width marks between Chinese characters, full-width ones between
//! Latin letters.

use std::ops::Range;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::blank;
use crate::text::filter::code::Fence;
use crate::text::filter::measure::around;
use crate::text::filter::script::Script;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "punctuation_width",
    key: "max_wrong_width",
    measures: "half-width punctuation between Chinese characters, full-width punctuation between English words",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(2),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// Number of marks outside code with the other width; a pair of parentheses counts once.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let (own, wrong): (_, &[char]) = match document.instruction.language {
        Language::Zh => (Script::Han, &[',', '.', ';', ':', '?', '!', '(']),
        Language::En => (Script::Latin, &['，', '。', '；', '：', '？', '！', '（', '、']),
    };
    let (mut count, mut first) = (0, None);
    let mut fence = Fence::default();
    for line in document.text.lines().filter(|line| !fence.holds(line) && line.contains(wrong)) {
        let found = places(&blank::code(line), own, wrong);
        count += found.len();
        first = first.or_else(|| found.into_iter().next().map(|place| around(line, place)));
    }
    Some(Measure::count(count, first))
}

/// The marks of `wrong` that stand between letters of `own`, spaces aside; the end of the line and a quotation mark count as such.
fn places(line: &str, own: Script, wrong: &[char]) -> Vec<Range<usize>> {
    let is_own = |c: char| Script::of(c) == Some(own);
    let between = |(at, mark): &(usize, &str)| {
        let before = line[..*at].trim_end().chars().next_back();
        let after = line[at + mark.len()..].trim_start().chars().next();
        before.is_some_and(is_own) && after.is_none_or(|c| is_own(c) || matches!(c, '“' | '"' | '「' | '‘'))
    };
    line.match_indices(wrong).filter(between).map(|(at, mark)| at..at + mark.len()).collect()
}
