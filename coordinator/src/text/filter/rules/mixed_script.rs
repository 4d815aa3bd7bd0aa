//! The rule about letters of another script than the text's: "the锅炉", "Arquitetра", "graphic设计".

use std::cell::LazyCell;
use std::collections::HashMap;
use std::ops::Range;

use crate::domain::document::Assembled;
use crate::domain::language::Language;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::around;
use crate::text::filter::script::{Run, Script, runs};
use crate::text::filter::source::Source;
use crate::text::filter::{blank, vocabulary};
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "mixed_script",
    key: "max_mixed_script",
    measures: "words in letters of another script than the text's",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// A word that a text uses so often is a term of its subject, unless English has it.
const TERM: usize = 3;

/// Words of lower-case Latin letters that Chinese writers use as they are: loans, units, functions.
const ZH_WORDS: &str = " app apps vlog blog logo wifi emoji bug demo ppt pdf cosplay email ok vs etc iphone min max sin cos tan \
                        log exp lim mod mol rpm ppm bit byte dpi psi cal kcal \
                        web root shell token prompt ";
/// What introduces a word of another language: the end of the text before it.
const EN_INTRODUCES: &str = " word words character characters letter letters kanji hanzi term phrase called written means \
                             chinese japanese korean russian greek arabic hebrew ";
const ZH_INTRODUCES: [&str; 14] = [
    "英文",
    "英语",
    "英译",
    "拉丁",
    "法语",
    "德语",
    "日语",
    "日文",
    "韩语",
    "俄语",
    "西班牙语",
    "希腊",
    "单词",
    "词根",
];

/// Number of places where the script changes without need. Code, what is quoted, put in parentheses or emphasised, and what
/// the instruction or its texts say, do not count.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let source = LazyCell::new(|| Source::of(document.instruction));
    let uses = LazyCell::new(|| latin_words(document.text));
    let term = |word: &str| uses.get(word).is_some_and(|times| *times >= TERM) && vocabulary::lookup(word).is_none();
    let (mut places, mut first) = (0, None);
    let mut fence = Fence::default();
    for line in document.text.lines().filter(|line| !fence.holds(line) && !line.trim_start().starts_with('>')) {
        let found = match document.instruction.language {
            Language::En if line.is_ascii() => continue,
            Language::En => in_english(line, |word| source.holds(word)),
            Language::Zh => in_chinese(line, |word| source.holds(word) || term(word)),
        };
        places += found.len();
        first = first.or_else(|| found.into_iter().next().map(|place| around(line, place)));
    }
    Some(Measure::count(places, first))
}

fn latin_words(text: &str) -> HashMap<&str, usize> {
    let mut words = HashMap::new();
    for run in runs(text).into_iter().filter(|run| run.script == Script::Latin) {
        *words.entry(&text[run.range]).or_insert(0) += 1;
    }
    words
}

fn in_english(line: &str, allowed: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let line = &*blank::code(line);
    let mut places = foreign(line, |script| script == Script::Latin, &allowed);
    // A quotation may be in any script, but not half a word.
    let all = runs(line);
    let half = |pair: &&[Run]| {
        let (word, other) = if pair[0].script == Script::Latin { (&pair[0], &pair[1]) } else { (&pair[1], &pair[0]) };
        let word = &line[word.range.clone()];
        pair[0].range.end == pair[1].range.start
            && other.script != Script::Greek
            && word.len() > 1
            && word.chars().all(char::is_lowercase)
    };
    let glued = all.windows(2).filter(half).map(|pair| pair[0].range.start..pair[1].range.end);
    for place in glued.filter(|place| !allowed(&line[place.clone()])) {
        if places.iter().all(|other| other.end <= place.start || place.end <= other.start) {
            places.push(place);
        }
    }
    places
}

fn in_chinese(line: &str, allowed: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let line = &*blank::code(line);
    let mut places = foreign(line, |script| matches!(script, Script::Han | Script::Latin), &allowed);
    // A table may have a column for the words of another language.
    if line.trim_start().starts_with('|') {
        return places;
    }
    let own = blank::asides(line);
    let latin = runs(&own).into_iter().filter(|run| run.script == Script::Latin).map(|run| run.range);
    places
        .extend(latin.filter(|word| (is_leftover(&own, word) || is_slip(&own, word)) && !allowed(&own[word.clone()])));
    places
}

/// Runs of words whose script `own` does not take, each with the letters that it stands against.
fn foreign(line: &str, own: impl Fn(Script) -> bool, allowed: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let text = blank::asides(line);
    let mut phrases: Vec<Range<usize>> = Vec::new();
    let strange = |run: &Run| !(own(run.script) || run.script == Script::Greek && short(&text[run.range.clone()]));
    for run in runs(&text).into_iter().filter(strange) {
        match phrases.last_mut() {
            Some(last) if is_gap(&text[last.end..run.range.start]) => last.end = run.range.end,
            _ => phrases.push(run.range),
        }
    }
    phrases.retain(|phrase| !allowed(&text[phrase.clone()]) && !is_explained(line, &text, phrase));
    phrases
}

/// Greek letters of formulas and names: α, μm, ΔT.
fn short(word: &str) -> bool {
    word.chars().count() <= 2
}

/// Between two words of one phrase: a space or a mark.
fn is_gap(between: &str) -> bool {
    between.chars().count() <= 2 && !between.contains(char::is_alphanumeric)
}

/// A word that a translation follows, that begins an entry of a glossary, or that is introduced as a word.
fn is_explained(line: &str, text: &str, phrase: &Range<usize>) -> bool {
    let (before, after) = (text[..phrase.start].trim_end(), line[phrase.end..].trim_start());
    let alone = !before.contains(char::is_alphanumeric);
    let word = before.trim_end_matches([':', '：', ',']);
    let word = word.rsplit(|c: char| !c.is_alphabetic()).next().unwrap_or_default().to_lowercase();
    after.starts_with(['(', '（'])
        || alone && after.starts_with([':', '：', '—', '–', '-', '='])
        || !word.is_empty() && EN_INTRODUCES.contains(&format!(" {word} "))
        || introduced(before)
}

/// "英文是", "希腊语：" and the like just before.
fn introduced(before: &str) -> bool {
    const NEAR: usize = 8;
    let from = before.char_indices().rev().nth(NEAR - 1).map_or(0, |(at, _)| at);
    ZH_INTRODUCES.iter().any(|word| before[from..].contains(word))
}

/// True if the Latin letters at `word` are an English word that should be Chinese. Names, acronyms, units and loans are not.
fn is_leftover(line: &str, word: &Range<usize>) -> bool {
    let text = &line[word.clone()];
    let (before, after) = (&line[..word.start], &line[word.end..]);
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '\'' | '’' | '_');
    let compound = before.rsplit(|c| !part(c)).next().into_iter().chain(after.split(|c| !part(c)).next());
    // "k-means", "X-ray", "COVID-vaccine", "mp3": a name or a symbol has a part in it.
    let symbol = compound
        .flat_map(|rest| rest.split(['-', '\'', '’', '_']))
        .any(|part| part.len() == 1 || part.contains(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()));
    let unit = before.trim_end().ends_with(|c: char| c.is_ascii_digit());
    let loan = ZH_WORDS.contains(&format!(" {text} "));
    let title = text.len() == 3 && in_title(before);
    text.len() >= 3 && text.chars().all(char::is_lowercase) && !(symbol || unit || loan || title || introduced(before))
}

/// True if a capitalised word at `word` has a space before it, as in English, and Chinese right behind it: "最终 I成功". An acronym may.
fn is_slip(line: &str, word: &Range<usize>) -> bool {
    let text = &line[word.clone()];
    let is_acronym = text.len() > 1 && text.chars().all(char::is_uppercase);
    let Some(before) = line[..word.start].strip_suffix(' ') else { return false };
    let is_chinese = |c: char| shingles::is_ideograph(c) || matches!(c, '，' | '。' | '、' | '：' | '；' | '！' | '？');
    !is_acronym
        && text.starts_with(char::is_uppercase)
        && before.ends_with(is_chinese)
        && line[word.end..].starts_with(shingles::is_ideograph)
}

/// True behind a capitalised word: "Lord of the Rings".
fn in_title(before: &str) -> bool {
    let latin = before.rsplit(|c: char| !(c.is_ascii_alphabetic() || c == ' ')).next().unwrap_or_default();
    latin.trim_start().starts_with(|c: char| c.is_ascii_uppercase())
}
