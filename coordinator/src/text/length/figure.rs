//! Numerals with their unit, joined to ranges, and whether they are said of the text to be written.

use std::sync::LazyLock;

use regex::Regex;

use super::bound::Bound;
use super::number::{self, Number};
use super::{chinese, english};

/// One figure said of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) words: u32,
    pub(super) bound: Bound,
    /// Said of all parts together.
    pub(super) total: bool,
}

/// The middle of a range.
pub(super) fn middle(from: u32, to: u32) -> u32 {
    from + (to - from) / 2
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// "words", "Chinese characters".
    English,
    /// 字, 词.
    Chinese,
    None,
}

/// A numeral or a range as it stands in the text.
#[derive(Debug)]
struct Quantity<'a> {
    before: &'a str,
    after: &'a str,
    low: f64,
    high: f64,
    range: bool,
    /// "+", "or more", 多.
    more: bool,
    vague: bool,
    unit: Unit,
}

/// Figures of a normalised text.
pub(super) fn figures(text: &str) -> Vec<Figure> {
    let quantities = quantities(text);
    let counts_words = quantities.iter().any(|quantity| quantity.unit != Unit::None);
    let mut figures = Vec::new();
    for quantity in quantities.iter().filter(|quantity| !quantity.vague) {
        let said = match quantity.unit {
            Unit::English => !english::about_other(quantity.before, quantity.after),
            Unit::Chinese => !chinese::about_other(quantity.before, quantity.after),
            Unit::None => {
                english::labelled(quantity.before, quantity.after)
                    || chinese::labelled(quantity.before, quantity.after)
                    || counts_words && without_unit(quantity)
            }
        };
        if said {
            figures.extend(quantity.figure());
        }
    }
    figures
}

/// "at least 1500 words but no more than 2500", "不少于两千，不多于三千字", "1000 words each, 3000 in total".
fn without_unit(quantity: &Quantity<'_>) -> bool {
    let bounded = quantity.bound() != Bound::About && !quantity.range;
    let ends = english::ends_clause(quantity.after) || chinese::ends_clause(quantity.after);
    bounded && ends || english::is_total("", quantity.after)
}

impl Quantity<'_> {
    fn bound(&self) -> Bound {
        let stated = english::bound(self.before, self.after).or_else(|| chinese::bound(self.before, self.after));
        match stated {
            _ if self.range => Bound::About,
            Some(bound) => bound,
            None if self.more => Bound::Least,
            None => Bound::About,
        }
    }

    fn figure(&self) -> Option<Figure> {
        let in_range = |words: f64| (1.0..=f64::from(u32::MAX)).contains(&words);
        if !in_range(self.low) || !in_range(self.high) {
            return None;
        }
        let (low, high) = (self.low.min(self.high).round() as u32, self.high.max(self.low).round() as u32);
        let total = english::is_total(self.before, self.after) || chinese::is_total(self.before);
        Some(Figure { words: middle(low, high), bound: self.bound(), total })
    }
}

fn quantities(text: &str) -> Vec<Quantity<'_>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        at += c.len_utf8();
        if !begins_number(&text[..start], c) {
            continue;
        }
        let Some(number) = numeral(text, start) else { continue };
        let mut quantity = quantity(text, start, number);
        at = text.len() - quantity.after.len();
        if let Some((to, end)) = range(text, &quantity, number) {
            quantity = to;
            at = end;
        }
        found.push(quantity);
    }
    found
}

/// No digit of a longer number or name stands before: "GPT-4", "$3000", "1/2".
fn begins_number(before: &str, c: char) -> bool {
    let mut last = before.chars().rev();
    let (last, second) = (last.next(), last.next());
    let inside = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if c.is_ascii_alphanumeric() {
        match last {
            Some('$' | '€' | '£' | '/' | '_' | '#') => false,
            Some('-' | '.' | ',' | '\'') => !inside(second),
            last => !inside(last),
        }
    } else {
        last != Some('第')
    }
}

/// The numeral at `start`. 几 or 数 before 十, 百, 千, 万 makes it vague.
fn numeral(text: &str, start: usize) -> Option<Number> {
    let before = &text[..start];
    let and_joins = !english::between(before);
    let mut number = number::read(&text[start..], and_joins)?;
    let bare = text[start..].starts_with(number::is_unit);
    number.vague |= bare && (before.ends_with(['数', '几']) && !before.ends_with("字数") || before.ends_with("成千上"));
    number.vague |= english::vague(before);
    Some(number)
}

/// What may stand between a number and its unit.
static SUFFIX: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:\s*\(\s*[\w\s,.-]{1,40}\s*\))?(?P<more>\s*\+|\s+or\s+more\b|[\s-]*plus\b|[\s-]*(?:odd|ish)\b|\s+or\s+so\b|\s?(?:多|余|来|把|以上|左右|上下))?")
        .expect("a constant expression")
});

static UNIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:[\s*_`-]*(?P<en>(?:(?:chinese|english|total|written)\s+)?words?|(?:chinese\s+)characters)|[\s*]*个?\s?(?:英文|英语|中文|汉)?(?P<zh>字|单?词))")
        .expect("a constant expression")
});

fn quantity(text: &str, start: usize, number: Number) -> Quantity<'_> {
    let end = start + number.len;
    let (before, rest) = (&text[..start], &text[end..]);
    let suffix = SUFFIX.captures(rest);
    let suffix_len = suffix.as_ref().and_then(|found| found.get(0)).map_or(0, |found| found.end());
    let more = suffix.as_ref().and_then(|found| found.name("more")).map_or("", |found| found.as_str().trim());
    let aside = rest[..suffix_len].trim_start().starts_with('(');
    let (unit, after) = match UNIT.captures(&rest[suffix_len..]) {
        Some(found) => {
            let after = &rest[suffix_len + found.get(0).map_or(0, |found| found.end())..];
            let english = found.name("en").is_some();
            let whole_word = !english || !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
            match (whole_word, english) {
                (false, _) => (Unit::None, rest),
                (true, true) => (Unit::English, after),
                (true, false) => (Unit::Chinese, after),
            }
        }
        None => (Unit::None, if aside { rest } else { &rest[suffix_len..] }),
    };
    let more = matches!(more, "+" | "or more" | "多" | "余" | "以上") || more.ends_with("plus");
    let range = number.low < number.high;
    Quantity { before, after, low: number.low, high: number.high, range, more, vague: number.vague, unit }
}

static JOINER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)^(?:\s*-?\s*(?P<to>to|through|up\s+to|and)[\s-]+(?:a\s+maximum\s+of\s+)?|\s+(?P<or>or)\s+|\s*(?:-|—+|~)\s*|\s*(?P<han>至|到|或|和|与|、)\s*)")
        .expect("a constant expression")
});

/// The range that `from` begins, and where it ends.
fn range<'a>(text: &'a str, from: &Quantity<'a>, first: Number) -> Option<(Quantity<'a>, usize)> {
    let joined = JOINER.captures(from.after)?;
    let joiner = joined.get(0)?;
    let start = text.len() - from.after.len() + joiner.end();
    let second = number::read(&text[start..], true)?;
    let to = quantity(text, start, second);
    let (low, scale) = (from.low, if second.unit > first.unit && from.low < 100.0 { second.unit } else { 1.0 });
    // 2-3千 means 2千 to 3千; 800到1千 does not.
    let low = if low * scale < to.high { low * scale } else { low };
    let named = joined.name("to").map(|word| word.as_str().to_ascii_lowercase());
    let far = low * 20.0 < to.high;
    let joins = match (named.as_deref(), joined.name("han").map(|word| word.as_str())) {
        (Some("and"), _) => english::between(from.before),
        (Some(_), _) | (_, Some("至" | "到")) => true,
        (_, Some("和" | "与")) => to.after.trim_start().starts_with("之间"),
        // "5 - 800 words" is item 5.
        (_, Some("、")) => first.unit == 1.0 && second.unit > 1.0 && !far,
        _ => !far,
    };
    if !joins || low >= to.high || from.unit != Unit::None && to.unit == Unit::None && joined.name("or").is_some() {
        return None;
    }
    let unit = if to.unit == Unit::None { from.unit } else { to.unit };
    let vague = from.vague || to.vague;
    let end = text.len() - to.after.len();
    Some((
        Quantity { before: from.before, after: to.after, low, high: to.high, range: true, more: false, vague, unit },
        end,
    ))
}
