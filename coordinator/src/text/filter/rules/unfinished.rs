//! The rule about sentences that do not end: sections that stop in the middle of one although the model ended them,
//! sentences that go on for a page, and lines of phrases that all break off.

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "unfinished",
    key: "max_unfinished",
    measures: "sections whose last sentence has no end or whose first has no beginning, or with one that is endless or stutters",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// A last line of no more words may be a name under a letter, or "The End".
const MAX_SIGNATURE_WORDS: usize = 5;

/// Words from which on a sentence is endless. Those of good writers who like them long have a hundred.
const fn endless(language: Language) -> usize {
    match language {
        Language::En => 200,
        Language::Zh => 300,
    }
}

/// Lines of fewer words may be verse, items or captions.
const MIN_PROSE_WORDS: usize = 12;
/// Phrases of a line from which on it stutters, if a phrase has few words.
const MAX_PHRASES: usize = 8;
const WORDS_PER_PHRASE: usize = 10;

/// Sections whose last line is prose without an end, that begin in the middle of a sentence, or that hold an endless sentence
/// or a stutter.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let most = endless(document.instruction.language);
    let open = |text| {
        open_end(text).or_else(|| open_beginning(text)).or_else(|| long_sentence(text, most)).or_else(|| stutter(text))
    };
    let open: Vec<&str> = document.sections.iter().filter_map(|section| open(&section.text)).collect();
    Some(Measure::count(open.len(), open.first().map(|line| excerpt(line))))
}

/// The last line, if a sentence is left open in it.
fn open_end(text: &str) -> Option<&str> {
    let mut fence = Fence::default();
    let (mut last, mut code) = ("", false);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        (last, code) = (line.trim(), fence.holds(line));
    }
    // Another line would still be code.
    if fence.holds("") {
        return Some(last);
    }
    let bare = last.trim_end_matches(['*', '_', '`', ' ']);
    let end = bare.chars().next_back()?;
    let whole = code
        || shingles::is_sentence_end(end)
        || matches!(end, '|' | '>' | ']' | '】' | '~' | '～')
        || last.starts_with(['#', '-', '*', '•', '|', '>'])
        || numbered(last)
        || signature(last);
    (!whole).then_some(last)
}

/// The first line, if it begins with a small letter as the rest of a sentence does: "iPhone", "de Gaulle" and verse do not.
fn open_beginning(text: &str) -> Option<&str> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let word: &str = first.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let small = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let particle = matches!(word, "al" | "da" | "de" | "del" | "der" | "di" | "du" | "la" | "le" | "van" | "von");
    let verse = shingles::word_count(first) < MIN_PROSE_WORDS;
    (small && !particle && !verse).then_some(first)
}

/// The first sentence of so many words. A row of a table is none.
fn long_sentence(text: &str, most: usize) -> Option<&str> {
    let mut fence = Fence::default();
    let mut prose = text.lines().filter(|line| !fence.holds(line) && !line.trim_start().starts_with('|'));
    prose.find_map(|line| shingles::sentences(line).find(|sentence| shingles::word_count(sentence) >= most))
}

/// The first line of phrases that break off with dots. Leaders of a table of contents are one run of dots.
fn stutter(text: &str) -> Option<&str> {
    let mut fence = Fence::default();
    let mut prose = text.lines().filter(|line| !fence.holds(line));
    prose.find(|line| {
        let phrases =
            line.replace('…', "...").split("...").filter(|phrase| phrase.contains(char::is_alphabetic)).count();
        phrases > MAX_PHRASES && shingles::word_count(line) < phrases * WORDS_PER_PHRASE
    })
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
    closed && capitals && shingles::word_count(line) <= MAX_SIGNATURE_WORDS
}
