//! Takes off what a model puts around a section's text: identifiers, the main point, word counts, control tokens, a code fence
//! around all of it, a line that announces the text or ends it. It looks at the two ends only and cuts nothing inside: what stands there is for the
//! rules to judge, and so is a last sentence that was cut.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::template_markers;
use crate::text::shingles;

/// A longer line after "Main Point:" is text, not the point.
const LONGEST_POINT: usize = 60;
/// Share of the pairs of words that a line and a main point have in common, if the line is the point in other words.
const NEARLY: f64 = 0.6;
/// Share of those of a line that the point has, and how many they are at least, if the line is a part of the point.
const MOST: f64 = 0.8;
const MIN_PAIRS: usize = 2;

/// See [`super::clean_section`].
pub(super) fn section(text: &str, main_point: &str) -> String {
    let mut text = spaces(text);
    // Taking one thing off may lay another one open. Each pass shortens the text or ends the loop.
    loop {
        let next = spaces(&last_line_cleaned(&first_line_cleaned(point_removed(unfenced(&text), main_point))));
        if next.len() >= text.len() {
            return text;
        }
        text = next;
    }
}

/// No spaces at line ends, at most one blank line in a row, no space at the beginning or the end.
fn spaces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for line in text.trim_start().lines().map(str::trim_end) {
        if line.is_empty() {
            blank = true;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if blank { "\n\n" } else { "\n" });
        }
        out.push_str(line);
        blank = false;
    }
    out
}

/// What stands in a fence around the whole text. The fence of a program is part of the text.
fn unfenced(text: &str) -> &str {
    let inner = || {
        let (first, rest) = text.split_once('\n')?;
        let (inner, last) = rest.rsplit_once('\n')?;
        let label = first.trim_start_matches('`');
        let fence = &first[..first.len() - label.len()];
        let prose =
            matches!(label.trim().to_ascii_lowercase().as_str(), "" | "markdown" | "md" | "text" | "txt" | "plaintext");
        let single = last == fence && !inner.lines().any(|line| line.trim_start().starts_with(fence));
        (fence.len() >= 3 && prose && single).then_some(inner)
    };
    inner().unwrap_or(text)
}

/// The text without a first line that is its step's main point, word for word or nearly: the plan's label, not prose.
fn point_removed<'a>(text: &'a str, main_point: &str) -> &'a str {
    let Some((line, rest)) = text.split_once('\n') else { return text };
    let (point, words) = (shingles::word_hashes(main_point), shingles::word_hashes(line));
    // A heading in Markdown is meant, and a sentence is text.
    let bare = line.trim_end_matches([' ', '*', '_']);
    let is_label = !line.starts_with('#') && !bare.ends_with(shingles::is_sentence_end);
    let is_point = !point.is_empty() && (words == point || is_label && is_nearly(&words, &point));
    if is_point { rest } else { text }
}

/// True if a line's pairs of words are the main point's, nearly all of them or most of both: "Keeping a distance" of "Keeping a distance
/// from the women".
fn is_nearly(words: &[u64], point: &[u64]) -> bool {
    let pairs = |words: &[u64]| shingles::shingles(words, 2).collect::<HashSet<u64>>();
    let (one, other) = (pairs(words), pairs(point));
    let both = one.intersection(&other).count() as f64;
    let is_part = one.len() >= MIN_PAIRS && both >= MOST * one.len() as f64;
    both > 0.0 && (is_part || both >= NEARLY * one.len().max(other.len()) as f64)
}

fn first_line_cleaned(text: &str) -> String {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    if OPENING.is_match(line) || template_markers::word_counts(line).contains(&(0..line.len())) {
        return rest.to_owned();
    }
    let token = template_markers::control_tokens(line).into_iter().find(|token| token.start == 0);
    let line = &line[token.map_or(0, |token| token.end)..];
    format!("{}\n{rest}", identifier_removed(line, rest.is_empty()))
}

fn last_line_cleaned(text: &str) -> String {
    let text = text.trim_end();
    let (before, line) = text.rsplit_once('\n').unwrap_or(("", text));
    let marker = template_markers::at_start(line).filter(|marker| !before.is_empty() && marker.range.end == line.len());
    if CLOSING.is_match(line) || marker.is_some() {
        return before.to_owned();
    }
    let mut last = template_markers::control_tokens(line);
    last.extend(template_markers::word_counts(line));
    let end = last.into_iter().find(|range| range.end == line.len()).map_or(line.len(), |range| range.start);
    format!("{before}\n{}", &line[..end])
}

/// The line without the identifier that it begins with.
fn identifier_removed(line: &str, last: bool) -> String {
    let Some(marker) = template_markers::at_start(line) else { return line.to_owned() };
    let (head, rest) = (&line[..marker.range.start], &line[marker.range.end..]);
    let is_point = marker.plan_line && !last && shingles::word_count(rest) <= LONGEST_POINT;
    if is_point || rest.trim().is_empty() {
        return String::new();
    }
    // "**Paragraph 3: The storm**" loses the opening stars with the marker: the closing ones go as well.
    let taken = line[marker.range].trim_start();
    let opened = taken.bytes().take_while(|byte| *byte == b'*').count();
    let closed = taken.matches('*').count() > opened;
    let stars = "*".repeat(opened);
    match rest.trim_end().strip_suffix(stars.as_str()) {
        Some(inner) if opened > 0 && !closed && !inner.contains('*') => format!("{head}{stars}{inner}{stars}"),
        _ => format!("{head}{rest}"),
    }
}

/// A line that announces the text: "Here is the next part:", "好的，以下是第三部分："。
static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    let yes = r"(?:sure(?:\s+thing)?|certainly|of\s+course|absolutely|okay|ok|great|understood)";
    let which =
        r"(?:next|first|second|third|fourth|fifth|final|last|requested|continued|revised|complete|full|following)";
    let noun = r"(?:part|section|paragraph|chapter|passage|continuation|text|draft|version|essay|article|story)";
    let zh_yes = r"(?:好的|当然可以|当然|没问题|可以的?|明白了?|收到)";
    let zh_noun = r"(?:部分|段落?|正文|续写|文章|内容|全文|章节)";
    Regex::new(&format!(
        r"(?ix)^[\s*_\#>]*(?:
            {yes}[.!:]?
          | {yes}[\s,.!:–—-]+(?:here|below|this\s+is|i['’]ll|i\s+will|i\s+can|let\s+me)\b.{{0,60}}\b(?:{noun}|write|continue)\b.{{0,60}}[:.!]
          | (?:here(?:['’]s|\s+is)|below\s+is|this\s+is)\s+(?:(?:the|your|my|a)\s+)?(?:{which}\s+{noun}|{noun}\s+\d+|continuation)\b[^:.]{{0,60}}:
          | (?:the\s+)?(?:next|following)\s+{noun}\s*:
          | (?:continuation|(?:the\s+)?text(?:\s+of\s+(?:this\s+)?part(?:\s+\d+)?)?)\s*:
          | {zh_yes}[。！!：:]?
          | {zh_yes}[，,。！!：:]\s*[^。]{{0,30}}(?:以下|下面|这是|为[您你]|继续|[撰续]写)[^。]{{0,40}}[：:。！!]
          | (?:以下|下面)(?:就)?是[^，。]{{0,20}}{zh_noun}[^，。]{{0,8}}[：:]
        )[\s*_]*$"
    ))
    .expect("a constant pattern, compiled by the tests")
});

/// A line that ends it: "End of part 3.", "[End]", "（本节完）".
static CLOSING: LazyLock<Regex> = LazyLock::new(|| {
    let noun = r"(?:part|section|paragraph|chapter|text|document|essay|article|story)";
    let zh_noun = r"(?:部分|段落?|节|章)";
    Regex::new(&format!(
        r"(?ix)^[\s*_\#>-]*(?:
            [\[(【（*_]*(?:the\s+)?end\s+of\s+(?:the\s+|this\s+)?{noun}(?:\s+\w+)?(?:\s+of\s+\d+)?
          | [\[(【（](?:(?:the\s+)?end|to\s+be\s+continued|(?:全文)?(?:未完)?待续|全文完|正文完|完|结束)[.…。]*[\])】）]
          | thank(?:s|\s+you)\s+(?:very\s+much\s+|so\s+much\s+)?for\s+(?:your\s+)?(?:reading|attention)\b[^.!]{{0,30}}
          | [\[(【（]*(?:本|这一?|第[一二三四五六七八九十\d]+|该){zh_noun}(?:的?内容)?(?:到此|至此)?(?:完|结束|完成|完毕)了?
          | (?:感谢|谢谢)(?:您|你|大家|各位)?的?(?:耐心)?阅读
        )[\s.!。！\])】）*_]*$"
    ))
    .expect("a constant pattern, compiled by the tests")
});
