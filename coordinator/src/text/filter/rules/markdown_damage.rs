//! The rule about Markdown and quotation marks that were begun and not ended.

use std::sync::LazyLock;

use regex::Regex;

use crate::domain::document::Assembled;
use crate::domain::rule::{Bound, Measure, Rule, Stage, Threshold};
use crate::text::filter::code::{Fence, without_code};
use crate::text::filter::measure::excerpt;
use crate::text::filter::quotes;

/// The rule.
pub(super) const RULE: Rule = Rule {
    name: "markdown_damage",
    key: "max_markdown_faults",
    measures: "Markdown and quotation marks that are not closed",
    stage: Stage::Document,
    bound: Bound::AtMost,
    default: Threshold::Count(0),
    off: Threshold::Count(Rule::MAX_PLACES),
    range: Rule::PLACES,
    first_version: false,
    measure,
};

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern, compiled by the tests")
}

static STARS: LazyLock<Regex> = LazyLock::new(|| regex(r"\*+"));
/// "[text](address" without its end.
static LINK: LazyLock<Regex> = LazyLock::new(|| regex(r"\[[^\[\]]{1,200}\]\([^()\s]*(?:\s|$)"));
/// A heading's marks in the middle of a line.
static HEADING: LazyLock<Regex> = LazyLock::new(|| regex(r"[^\s#|]\s+#{2,6}\s+\S|[^\s#|]#{3,6}\s+\S"));
/// Tags of a page, and line breaks that were written out.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r#"(?i)</?(?:div|span|font|center|p|ul|ol|li|h[1-6]|html|body)(?:\s+[a-z-]+="[^"]*")*\s*/?>|[^\\]\\n(?:\\n|[A-Z\s*#\p{Han}-]|$)"#,
    )
});
/// The line below a table's head.
static TABLE_RULE: LazyLock<Regex> = LazyLock::new(|| regex(r"^\|?(?:\s*:?-{2,}:?\s*\|)+(?:\s*:?-{2,}:?\s*)?$"));

/// Places where the marks do not fit together.
fn measure(document: &Assembled<'_>) -> Option<Measure> {
    let mut faults: Vec<String> = Vec::new();
    let mut fence = Fence::default();
    let mut block: Vec<&str> = Vec::new();
    let mut opened = "";
    let mut in_code = false;
    for line in document.text.lines().chain([""]) {
        let code = fence.holds(line);
        if code && !in_code {
            opened = line;
        }
        in_code = code && !closes(line, opened, in_code);
        if code || line.trim().is_empty() {
            faults.extend(block_faults(&block));
            block.clear();
        } else {
            block.push(line);
        }
    }
    faults.extend(quotes::faults(document.text));
    if fence.holds("") {
        faults.push(format!("code without an end: {}", excerpt(opened)));
    }
    Some(Measure::count(faults.len(), faults.into_iter().next()))
}

/// True if `line` is the fence that ends what `opened` began.
fn closes(line: &str, opened: &str, in_code: bool) -> bool {
    in_code && line.trim().chars().all(|c| opened.trim_start().starts_with(c))
}

/// Faults of one paragraph, list or table.
fn block_faults(block: &[&str]) -> Vec<String> {
    let bare: Vec<String> = block.iter().map(|line| without_code(line)).collect();
    let mut faults = Vec::new();
    if bare.iter().map(|line| bold_marks(line)).sum::<usize>() % 2 == 1 {
        let line = bare.iter().find(|line| bold_marks(line) % 2 == 1);
        faults.push(format!("bold without an end: {}", excerpt(line.map_or("", String::as_str))));
    }
    for (what, pattern) in
        [("a link without an end", &LINK), ("a heading inside a line", &HEADING), ("a tag or \\n", &TAG)]
    {
        faults
            .extend(bare.iter().filter(|line| pattern.is_match(line)).map(|line| format!("{what}: {}", excerpt(line))));
    }
    faults.extend(table_fault(&bare));
    faults
}

/// Stars that can open or close bold text: neither a power ("2 ** 3") nor a word left out ("f**k").
fn bold_marks(line: &str) -> usize {
    let stars = STARS.find_iter(line).filter(|stars| matches!(stars.len(), 2 | 3));
    stars
        .filter(|stars| {
            let before = line[..stars.start()].chars().next_back();
            let after = line[stars.end()..].chars().next();
            let space = |c: Option<char>| c.is_none_or(char::is_whitespace);
            let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            !(space(before) && space(after) || letter(before) && letter(after))
        })
        .count()
}

/// A table has a rule below its head, and as many cells in each row.
fn table_fault(block: &[String]) -> Option<String> {
    let rows: Vec<&str> = block.iter().map(|line| line.trim()).filter(|line| line.starts_with('|')).collect();
    let (head, rest) = rows.split_first()?;
    let cells = |row: &str| row.replace("\\|", "").trim_matches('|').matches('|').count();
    let fits =
        rest.first().is_some_and(|rule| TABLE_RULE.is_match(rule)) && rest.iter().all(|row| cells(row) == cells(head));
    (!fits).then(|| format!("a table that is not whole: {}", excerpt(head)))
}
