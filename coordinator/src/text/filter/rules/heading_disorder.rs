//! The rule about headings that are out of order.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::Fence;
use crate::text::filter::measure::excerpt;
use crate::text::shingles;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "heading_disorder",
    key: "max_heading_faults",
    measures: "headings that repeat, are misnumbered or have no text",
    stage: Stage::Document,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

/// "## Title", "**Title**", and a short line of its own such as "Chapter 3: The Storm" or "第三章 暴风雨".
static HEADING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)^(?:
            (?P<marks>\#{1,6})\s+(?P<a>\S.*?)\s*\#*
          | \*\*(?P<b>[^*]{1,120})\*\*[:：]?
          | (?P<c>(?:chapter|part|act|scene|book)\s+(?:\d+|[ivxlc]+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b[^.!?]{0,60})
          | (?P<d>第\s*[一二三四五六七八九十百\d]+\s*[章节部卷回幕篇](?:[\s:：·、]+[^。！？，]{0,30})?)
        )$",
    )
    .expect("a constant pattern, compiled by the tests")
});

/// What a heading counts: "Chapter 3", "3.", "3.1", "III.", "第三章", "三、".
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)^\W*(?:
            (?P<label>chapter|part|section|act|scene|book|step|day|week|lesson|phase|stage|tip|lecture|module)\s+(?P<n>\d+|[ivxlc]+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b
          | (?P<m>\d{1,2}|[ivx]+)\s*[.):：、]\s*(?:\D|$)
          | 第\s*(?P<z>[一二三四五六七八九十百\d]+)\s*(?P<zlabel>[章节部卷回幕篇步天周课部]|部分|阶段)
          | (?P<y>[一二三四五六七八九十]{1,3})\s*[、.：:]
        )",
    )
    .expect("a constant pattern, compiled by the tests")
});

/// Headings that repeat one, count wrongly, or have no text below them.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let mut faults: Vec<String> = Vec::new();
    let mut seen: HashSet<(u64, usize)> = HashSet::new();
    let mut counted: HashMap<(usize, String), u32> = HashMap::new();
    let mut open: Option<(&str, usize)> = None;
    let mut fence = Fence::default();
    for line in document.text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((level, title)) = (!fence.holds(line)).then(|| heading(line)).flatten() else {
            open = None;
            continue;
        };
        // A chapter's title may stand over the title of its first part; two of one level have nothing between them.
        if let Some((above, its_level)) = open.filter(|(_, its_level)| *its_level >= level && level < BOLD) {
            faults.push(format!("nothing stands under \"{}\" (level {its_level})", excerpt(above)));
        }
        open = Some((line, level));
        // Each chapter may have its "Summary": under another heading of a higher level the count begins anew.
        counted.retain(|(of, _), _| *of <= level);
        let parents = counted.iter().filter(|((of, _), _)| *of < level).fold(0, |sum, (_, n)| sum * 31 + *n as usize);
        if shingles::word_count(title) > 0 && !seen.insert((shingles::fingerprint(title), parents)) {
            faults.push(format!("\"{}\" is there twice", excerpt(line)));
        } else if let Some((label, number)) = number(title) {
            let before = counted.insert((level, label), number);
            if before.is_some_and(|before| number != before + 1) {
                faults.push(format!("\"{}\" follows number {}", excerpt(line), before.unwrap_or(0)));
            }
        }
    }
    if let Some((last, _)) = open {
        faults.push(format!("nothing stands under \"{}\"", excerpt(last)));
    }
    Some(Measure::count(faults.len(), faults.into_iter().next()))
}

/// Level of a line in bold letters alone: below all others, as it may be a heading of any level.
const BOLD: usize = 7;

/// Level and title of a line that is a heading.
fn heading(line: &str) -> Option<(usize, &str)> {
    let found = HEADING.captures(line)?;
    let text = |name| found.name(name).map(|m| m.as_str());
    match (text("marks"), text("a"), text("b"), text("c").or(text("d"))) {
        (Some(marks), Some(title), _, _) => Some((marks.len(), title)),
        (_, _, Some(title), _) => Some((BOLD, title)),
        (_, _, _, Some(title)) => Some((1, title)),
        _ => None,
    }
}

/// What a heading counts, and where it is.
fn number(title: &str) -> Option<(String, u32)> {
    let found = NUMBER.captures(title)?;
    let text = |name| found.name(name).map(|m| m.as_str().to_lowercase());
    let label = text("label").or(text("zlabel")).unwrap_or_default();
    let number = text("n").or(text("m")).or(text("z")).or(text("y"))?;
    Some((label, value(&number)?))
}

fn value(number: &str) -> Option<u32> {
    const WORDS: [&str; 12] =
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
    if let Ok(number) = number.parse() {
        return Some(number);
    }
    if let Some(at) = WORDS.iter().position(|word| *word == number) {
        return Some(at as u32 + 1);
    }
    if number.is_ascii() { roman(number) } else { chinese(number) }
}

fn roman(number: &str) -> Option<u32> {
    let of = |c| {
        Some(match c {
            'i' => 1,
            'v' => 5,
            'x' => 10,
            'l' => 50,
            'c' => 100,
            _ => return None,
        })
    };
    let digits: Vec<u32> = number.chars().map(of).collect::<Option<_>>()?;
    let next = digits.iter().skip(1).chain([&0]);
    // A smaller digit before a larger one is taken away.
    let sum =
        digits.iter().zip(next).map(|(digit, next)| i64::from(*digit) * if digit < next { -1 } else { 1 }).sum::<i64>();
    u32::try_from(sum).ok()
}

/// Up to 199: "二十三", "一百零五".
fn chinese(number: &str) -> Option<u32> {
    let (mut sum, mut digit) = (0, None);
    for c in number.chars() {
        match c {
            '百' => sum += digit.take().unwrap_or(1) * 100,
            '十' => sum += digit.take().unwrap_or(1) * 10,
            _ => digit = Some("一二三四五六七八九".chars().position(|known| known == c)? as u32 + 1),
        }
    }
    Some(sum + digit.unwrap_or(0))
}
