//! The template markers that a model copies from the plan into its text: "Paragraph 3:", "Main Point:", "(Word count: 240)". What
//! they look like stands here once; [`super::clean`] takes them off the two ends of a section, the rule `leftover_identifiers` reports the rest.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::code::in_code;

/// Where a marker may be taken for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confidence {
    /// Nobody writes so for a reader: a marker wherever a line begins with it.
    Anywhere,
    /// A heading in a manual may look so: a marker only as the beginning of a section.
    Leading,
}

/// A marker at the beginning of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) confidence: Confidence,
    /// Bytes of the line that belong to it, separator included; a heading's "## " stands before them.
    pub(super) range: Range<usize>,
    /// The rest of the line is the plan's wording too, not text.
    pub(super) plan_line: bool,
}

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern, compiled by the tests")
}

const NUMBER: &str = r"(?:\d{1,3}|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|[ivx]{1,5})";
const ZH_NUMBER: &str = r"(?:\d{1,3}|[一二三四五六七八九十百两零]{1,5})";
const SEPARATOR: &str = r"(?:[*_\])】]{0,3}\s*(?P<sep>[:：]|[-–—]+\s|[-–—]+$|】|\]\s|$)[*_\])】]{0,3}\s*)";

/// "Paragraph 3:", "**Section 2**", "Step 4 - ", "[Paragraph 3 of 9]", "Part 2:".
static EN: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r"(?i)^\s*(?P<head>#{{1,6}}\s+)?(?P<marker>[*_\[(【]{{0,3}}(?P<word>paragraph|section|step|part)\s*(?:#|no\.?|number)?\s*{NUMBER}(?:\s*(?:of|/)\s*\d{{1,3}})?(?:\s*\(\s*(?:~|about |approx\.? )?\d+ words?\s*\))?{SEPARATOR})"
    ))
});

/// "第三段：", "**第二部分**", "段落3：".
static ZH: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r"^\s*(?P<head>#{{1,6}}\s+)?(?P<marker>[*_\[(（【]{{0,3}}(?:第\s*{ZH_NUMBER}\s*(?P<word>自然段|段落|段|部分|节|步)|(?P<para>段落)\s*{ZH_NUMBER})[）]?(?:[（(]\s*(?:约|大约)?\s*\d+\s*[字词]\s*[）)])?{SEPARATOR})"
    ))
});

/// "Main Point:", "**主要内容**：".
static LABEL: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)^\s*(?P<marker>[-–—*_#\[\s]{0,6}(?:main point|key point|主要内容|主要观点|要点|主旨)\s*[*_\]]{0,3}\s*[:：][*_\]]{0,3}\s*)",
    )
});

/// The whole of a plan's line: what is left of it after "Paragraph 3 - " still names its point or its count.
static PLAN_LINE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)(?:[-–—*_]+\s*(?:word count|words|字数(?:要求)?)[*_]*\s*[:：][*_]*\s*(?:约|about|approximately)?\s*\d[\d,]*\s*(?:words?|字|词)?[.。*_]*\s*$)",
    )
});

/// The marker that `line` begins with.
pub(super) fn at_start(line: &str) -> Option<Marker> {
    if let Some(found) = EN.captures(line) {
        let paragraph = found["word"].eq_ignore_ascii_case("paragraph");
        let heading = found.name("head").is_some();
        let dash = !found["sep"].starts_with([':', '：']);
        let section = found["word"].eq_ignore_ascii_case("section");
        let plan_line = PLAN_LINE.is_match(line);
        return match (paragraph || plan_line, heading, dash && section) {
            (true, _, _) | (false, false, true) => Some(Confidence::Anywhere),
            (false, true, _) => None,
            (false, false, false) => Some(Confidence::Leading),
        }
        .map(|confidence| Marker {
            confidence,
            range: found.name("marker").map_or(0..0, |m| m.range()),
            plan_line,
        });
    }
    if let Some(found) = ZH.captures(line) {
        let paragraph = found.name("para").is_some()
            || found.name("word").is_some_and(|word| matches!(word.as_str(), "段" | "段落" | "自然段"));
        let plan_line = PLAN_LINE.is_match(line);
        let confidence = match (paragraph || plan_line, found.name("head").is_some()) {
            (true, _) => Some(Confidence::Anywhere),
            (false, true) => None,
            (false, false) => Some(Confidence::Leading),
        };
        return confidence.map(|confidence| Marker {
            confidence,
            range: found.name("marker").map_or(0..0, |m| m.range()),
            plan_line,
        });
    }
    LABEL.captures(line).map(|found| Marker {
        confidence: if found["marker"].to_lowercase().contains("main point") || PLAN_LINE.is_match(line) {
            Confidence::Anywhere
        } else {
            Confidence::Leading
        },
        range: found.name("marker").map_or(0..0, |m| m.range()),
        plan_line: true,
    })
}

/// "(Word count: 240)", "[240 words]" after a sentence, "Word Count: 200 words" at a line's end, "（字数：240）", "240 Words" as
/// a whole line.
static COUNT: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(?:~|约|大约|about |approximately |approx\.? )?\s*\d[\d,]*\s*(?:words?|字|词|个字)?";
    let label = r"(?:(?:total |final |current |approximate )?word\s*count|字数统计|总字数|字数|词数)";
    regex(&format!(
        r"(?i)(?P<a>[ \t]*[*_]{{0,2}}[(\[（【]\s*{label}\s*[:：=]?\s*{number}\s*[)\]）】][*_]{{0,2}})|(?P<b>^|[.!?。！？…”’」][*_]*\s*)(?P<c>[*_]{{0,2}}[(\[（【]\s*(?:~|约|大约|共|about |approximately |approx\.? )?\s*\d[\d,]*\s*(?:words?|字|词)\s*[)\]）】][*_]{{0,2}}\s*$)|(?P<d>^|[.!?。！？…”’」][*_]*\s*)(?P<e>[-–—]*\s*[*_]{{0,3}}{label}[*_]{{0,3}}\s*[:：=][*_]{{0,3}}\s*{number}[*_]{{0,3}}[.。]?\s*$)|(?P<f>^\s*[*_]{{0,3}}(?:~|约|大约|共|about |approximately )?\s*\d[\d,]*\s*(?:words?|字|词)[*_]{{0,3}}[.。]?[*_]{{0,3}}\s*$)"
    ))
});

/// Where a word count stands in `line`.
pub(super) fn word_counts(line: &str) -> Vec<Range<usize>> {
    COUNT
        .captures_iter(line)
        .filter_map(|found| ["a", "c", "e", "f"].iter().find_map(|name| found.name(name)))
        .map(|found| found.range())
        .filter(|range| !range.is_empty() && !in_code(line, range.start))
        .collect()
}

/// Control tokens of chat templates, and the role's name that follows one.
static CONTROL: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?:<\|(?:im_start|start_header_id)\|>[ \t]*(?:system|user|assistant)?(?:<\|end_header_id\|>)?|<\|[A-Za-z][A-Za-z0-9_]{0,30}\|>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|^<s>|</s>\s*$)",
    )
});

/// Where a control token of a chat template stands in `line`.
pub(super) fn control_tokens(line: &str) -> Vec<Range<usize>> {
    CONTROL.find_iter(line).map(|found| found.range()).filter(|range| !in_code(line, range.start)).collect()
}
