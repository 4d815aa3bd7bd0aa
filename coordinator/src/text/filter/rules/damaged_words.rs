//! The rule about words that decoding damaged: "toprotect", "daTorre", "went_wrong", "20st", "o the way", "re recharge",
//! "available.resources".

mod doubled;

use std::cell::LazyCell;
use std::collections::HashMap;
use std::ops::Range;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::blank;
use crate::text::filter::code::Fence;
use crate::text::filter::measure::around;
use crate::text::filter::script::Script;
use crate::text::filter::source::Source;
use crate::text::filter::vocabulary::{is_common, lookup};

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "damaged_words",
    key: "max_damaged_words",
    measures: "words that ran together, were begun twice, have a capital or an underscore inside, a wrong ordinal ending, or one \
               letter left; lines and \
               sentences broken in the middle",
    stage: Stage::Section,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// Said so often, a word is a name of the text's own.
const NAME: usize = 3;
/// Words that are found joined to any common word: "toprotect", "becauseof".
const JOINERS: [&str; 20] = [
    "and", "to", "the", "of", "for", "with", "from", "that", "this", "but", "was", "were", "are", "her", "his",
    "their", "its", "which", "when", "they",
];
/// These stand at the beginning or the end of many words, so they count only beside another such word: "inthe".
const SHORT: [&str; 16] =
    ["in", "on", "at", "by", "as", "is", "it", "he", "she", "we", "or", "if", "not", "be", "has", "had"];
/// What compounds begin or end with that no list has all of.
const AFFIXES: [&str; 24] = [
    "under", "inter", "multi", "super", "micro", "macro", "hyper", "counter", "trans", "ultra", "infra", "pseudo",
    "quasi", "electro", "hydro", "photo", "thermo", "cross", "after", "psycho", "socio", "retro", "fully", "people",
];
/// A letter that stands before one of these is no name of something.
const DETERMINERS: [&str; 14] =
    ["the", "a", "an", "this", "that", "these", "those", "his", "her", "its", "their", "our", "my", "your"];
/// What many words begin with, and no word of a sentence.
const BEGINNINGS: [&str; 20] = [
    "re", "de", "un", "pre", "con", "com", "dis", "ex", "im", "em", "en", "ad", "ac", "ap", "ob", "mis", "sur", "int",
    "pro", "cha",
];
/// Two words of content have run together if they are as long as this; shorter ones make compounds.
const LONG_WORD: usize = 13;
/// Bytes of a line from which on it is none of verse.
const MIN_BROKEN: usize = 40;
const LONG_HALF: usize = 5;

/// A word, a number or what is left of one, in a line.
struct Token<'a> {
    /// The line without code.
    line: &'a str,
    range: Range<usize>,
}

impl<'a> Token<'a> {
    fn text(&self) -> &'a str {
        &self.line[self.range.clone()]
    }

    fn before(&self) -> &'a str {
        &self.line[..self.range.start]
    }

    fn after(&self) -> &'a str {
        &self.line[self.range.end..]
    }
}

/// Number of damaged words outside code. Words that the instruction or its texts hold do not count.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let source = LazyCell::new(|| Source::of(document.instruction));
    let mut fence = Fence::default();
    let prose: Vec<&str> = document.text.lines().filter(|line| !fence.holds(line)).collect();
    let lines: Vec<_> = prose.iter().map(|line| blank::code(line)).collect();
    let tokens: Vec<Token<'_>> = lines.iter().flat_map(|line| tokens(line)).collect();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for token in &tokens {
        *times.entry(token.text()).or_insert(0) += 1;
    }
    let damaged = tokens.iter().filter(|token| {
        let name = times[token.text()] >= NAME;
        (is_wrong_ordinal(token) || !name && is_damaged(token)) && !source.holds(token.text())
    });
    let mut places: Vec<_> =
        damaged.map(|token| format!("{}: {}", token.text(), around(token.line, token.range.clone()))).collect();
    places.extend(prose.windows(2).filter(|pair| is_broken(pair[0], pair[1])).map(|pair| {
        let end = around(pair[0], pair[0].trim_end().len()..pair[0].len());
        format!("a line ends in a sentence: {end}")
    }));
    places.extend(lines.iter().flat_map(|line| uncapitalised(line)).filter(|it| !source.holds(it)).map(str::to_owned));
    // What looks like an address is blanked in the lines.
    places.extend(prose.iter().flat_map(|line| joined(line)).filter(|word| !source.holds(word)).map(str::to_owned));
    places.extend(doubled::find(&lines).filter(|it| !source.holds(it)).map(str::to_owned));
    Some(Measure::count(places.len(), places.first().cloned()))
}

/// The runs of Latin letters, digits and underscores of a line.
fn tokens(line: &str) -> Vec<Token<'_>> {
    let part = |c: char| c == '_' || c.is_ascii_digit() || Script::of(c) == Some(Script::Latin);
    let mut tokens: Vec<Token<'_>> = Vec::new();
    for (at, c) in line.char_indices().filter(|(_, c)| part(*c)) {
        let end = at + c.len_utf8();
        match tokens.last_mut() {
            Some(last) if last.range.end == at => last.range.end = end,
            _ => tokens.push(Token { line, range: at..end }),
        }
    }
    tokens
}

fn is_damaged(token: &Token<'_>) -> bool {
    has_underscore(token) || has_capital(token.text()) || is_fragment(token) || is_begun_twice(token) || is_fused(token)
}

/// "went_wrong". Emphasis, calls, constants and symbols with an index have underscores.
fn has_underscore(token: &Token<'_>) -> bool {
    let word = token.text().trim_matches('_');
    !token.text().starts_with('_')
        && word.contains('_')
        && word.split('_').all(|part| part.len() >= 2 && part.chars().all(char::is_alphabetic))
        && word.contains(char::is_lowercase)
        && !token.after().starts_with('(')
}

/// "daTorre", "wasIt", "TheRomans". Names have capitals inside: iPhone, macOS, McDonald, mmHg.
fn has_capital(word: &str) -> bool {
    let Some((at, _)) = word.char_indices().skip(1).find(|(_, c)| c.is_uppercase()) else { return false };
    let (head, tail) = word.split_at(at);
    let tail_end = tail.char_indices().skip(1).find(|(_, c)| c.is_uppercase()).map_or(tail.len(), |(end, _)| end);
    let tail = &tail[..tail_end];
    let lower = |text: &str| text.chars().skip(1).all(char::is_lowercase);
    let is_word = tail.len() >= 4 || tail.len() >= 2 && is_common(&tail.to_lowercase());
    let begins = if head.starts_with(char::is_uppercase) {
        matches!(head, "The" | "And" | "But" | "This" | "That" | "When" | "With" | "From" | "His" | "Her" | "Of")
    } else {
        head.len() >= 2
    };
    begins && lower(head) && lower(tail) && is_word
}

/// "20st", "3th". A weight in stones is followed by pounds.
fn is_wrong_ordinal(token: &Token<'_>) -> bool {
    let word = token.text();
    let digits = word.trim_end_matches(|c: char| c.is_ascii_lowercase());
    let number = digits.get(digits.len().saturating_sub(2)..).and_then(|last| last.parse::<u32>().ok());
    let right = match number {
        None => return false,
        Some(11..=13) => "th",
        Some(number) => match number % 10 {
            1 => "st",
            2 => "nd",
            3 => "rd",
            _ => "th",
        },
    };
    let ending = &word[digits.len()..];
    matches!(ending, "st" | "nd" | "rd" | "th")
        && ending != right
        && !token.after().trim_start().starts_with(|c: char| c.is_ascii_digit())
}

/// "o the way": one letter in the middle of a sentence, before a word that goes with none.
fn is_fragment(token: &Token<'_>) -> bool {
    let [letter @ (b'b'..=b'h' | b'j'..=b'z')] = token.text().as_bytes() else { return false };
    let next = token.after().strip_prefix(' ').unwrap_or_default();
    let next = next.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
    let last = token.before().strip_suffix(' ').unwrap_or_default();
    let word = last.rsplit(' ').next().unwrap_or_default();
    let inside = last.ends_with(|c: char| c.is_ascii_lowercase() || c == ',') && word.len() > 1;
    let idiom = *letter == b'o' && matches!(word, "will" | "top" | "cup" | "man" | "jack" | "tam");
    DETERMINERS.contains(&next) && inside && !idiom && blank::asides(token.line)[token.range.clone()] == *token.text()
}

/// "re recharge": no word of its own, but what the next one begins with.
fn is_begun_twice(token: &Token<'_>) -> bool {
    let word = token.text();
    let next = token.after().strip_prefix(' ').unwrap_or_default();
    let next = next.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
    (2..=4).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_lowercase())
        && next.len() >= word.len() + 3
        && next.starts_with(word)
        && BEGINNINGS.contains(&word)
}

/// A line of prose that breaks off in a word or between two, with the rest in the next line. Verse has short lines.
fn is_broken(line: &str, next: &str) -> bool {
    let line = line.trim_end();
    let is_prose = |line: &str| !line.trim_start().starts_with(['|', '>', '#', '-', '*']);
    line.len() >= MIN_BROKEN
        && line.ends_with(|c: char| c.is_ascii_lowercase() || c == ',')
        && next.starts_with(|c: char| c.is_ascii_lowercase())
        && is_prose(line)
}

/// A common word of at least so many small letters.
fn is_plain(word: &str, least: usize) -> bool {
    word.len() >= least && word.bytes().all(|byte| byte.is_ascii_lowercase()) && is_common(word)
}

/// ". he also uses": a sentence that begins with a small letter, after one that ends with a common word.
fn uncapitalised(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices(". ").filter_map(move |(at, mark)| {
        let before = line[..at].rsplit(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let after = &line[at + mark.len()..];
        let word = &after[..after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len())];
        (is_plain(before, 4) && is_plain(word, 2)).then_some(word)
    })
}

/// "available.resources": two words with a full stop or a comma in place of the space, and nothing else beside them. Names of
/// hosts and files have short parts.
fn joined(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ':', '!', '?']));
    words.filter(move |word| {
        let least = if word.contains('.') { 5 } else { 3 };
        word.split_once(['.', ',']).is_some_and(|(one, other)| is_plain(one, least) && is_plain(other, least))
    })
}

/// "andother", "woodblockprinting": no word, but two of them.
fn is_fused(token: &Token<'_>) -> bool {
    let word = token.text();
    let joined = |c: char| matches!(c, '\'' | '’' | '-');
    word.len() >= 5
        && word.bytes().all(|byte| byte.is_ascii_lowercase())
        && !token.before().ends_with(joined)
        && !token.after().starts_with(joined)
        && lookup(word).is_none()
        && (has_joiner(word) || is_two_words(word))
}

/// A word that joins beside a common word, or beside another that joins.
fn has_joiner(word: &str) -> bool {
    let strong = |half: &str| JOINERS.contains(&half);
    let joins = |half: &str| strong(half) || SHORT.contains(&half);
    let common = |half: &str| half.len() >= 3 && is_common(half);
    (2..word.len() - 1).map(|at| word.split_at(at)).any(|(head, tail)| {
        joins(head) && joins(tail)
            || strong(head) && (common(tail) || tail.len() >= 5 && has_joiner(tail))
            || strong(tail) && (common(head) || head.len() >= 5 && has_joiner(head))
    })
}

/// A word of the list before a common one, both long.
fn is_two_words(word: &str) -> bool {
    word.len() >= LONG_WORD
        && (LONG_HALF..=word.len() - LONG_HALF).map(|at| word.split_at(at)).any(|(head, tail)| {
            ![head, tail].iter().any(|half| AFFIXES.contains(half)) && lookup(head).is_some() && is_common(tail)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Vec<&str> {
        let tokens = tokens(line);
        let damaged = tokens.iter().filter(|token| is_wrong_ordinal(token) || is_damaged(token)).map(Token::text);
        damaged.chain(joined(line)).collect()
    }

    #[test]
    fn damage_is_told_from_names_and_compounds() {
        for (line, want) in [
            ("He ran toprotect the boats andother things inthe harbour", &["toprotect", "andother", "inthe"][..]),
            ("woodblockprinting oneofthe best becauseof rain", &["woodblockprinting", "oneofthe", "becauseof"]),
            ("daTorre wasIt TheRomans went_wrong", &["daTorre", "wasIt", "TheRomans", "went_wrong"]),
            ("the 20st, 3th, 11st, 112nd and 1,002th", &["20st", "3th", "11st", "112nd", "002th"]),
            ("he was o the way, with t the door", &["o", "t"]),
            ("iPhone eBay macOS JavaScript McDonald mmHg PhD kWh mRNA YouTube", &[]),
            ("1st 2nd 3rd 4th 11th 12th 13th 21st 111th 1,003rd; he weighed 11st 4lb", &[]),
            (
                "they relax, re recharge and use available.resources, always,carefully",
                &["re", "available.resources", "always,carefully"],
            ),
            ("so social in interest to together; mail.google.com/always.there, a.b, e.g.this", &[]),
            ("the will o the wisp, top o the morning; let x be a number", &[]),
            ("thereto nevertheless lighthouse birdsong interunderstanding awkwardnesses", &[]),
            ("x_max run_it() MAX_VALUE _done_", &[]),
        ] {
            assert_eq!(found(line), want, "{line}");
        }
    }
}
