//! The rule about the plan's markers and the template's tokens inside the text, and the words that it was to have: cleaning takes
//! them off its ends only.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;
use crate::text::filter::template_markers::{self, Confidence};

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "leftover_identifiers",
    key: "leftover_identifiers",
    measures: "lines with a marker of the plan or the template, or the required length",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Switch(true),
    off: Threshold::Switch(false),
    range: Rule::SHARE,
    first_version: true,
    measure,
};

/// Number of lines with a marker.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let mut found = document.sections.iter().flat_map(|section| {
        let mut fence = Fence::default();
        let mut first = true;
        section.text.lines().filter(move |line| {
            let code = fence.holds(line);
            let leading = !code && first && !line.trim().is_empty();
            first &= !leading;
            let asked = [document.instruction.required_words, Some(section.target_words)];
            !code && (has_marker(line, leading) || names_length(line, asked))
        })
    });
    let first = found.next();
    let lines = usize::from(first.is_some()) + found.count();
    Some(Measure::count(lines, first.map(excerpt)))
}

/// "400 words" in a text that was to have 400.
fn names_length(line: &str, asked: [Option<u32>; 2]) -> bool {
    static WORDS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(\d{3,6}|\d{1,3},\d{3})(?:[\s-]*words?\b|\s*个?字)")
            .expect("a constant pattern, compiled by the tests")
    });
    WORDS.captures_iter(line).any(|found| {
        let number = found[1].replace(',', "").parse().ok();
        number.is_some() && asked.contains(&number)
    })
}

fn has_marker(line: &str, leading: bool) -> bool {
    template_markers::at_start(line).is_some_and(|marker| leading || marker.confidence == Confidence::Anywhere)
        || !template_markers::word_counts(line).is_empty()
        || !template_markers::control_tokens(line).is_empty()
}
