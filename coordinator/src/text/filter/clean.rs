//! Removes what a model adds around a section's text: identifiers, word counts, template leftovers, earlier text.
//! Code is left as it is, and so is an unfinished last sentence: what was cut must stay visible.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::code::Fence;
use super::template_markers::{self, Confidence};
use crate::domain::language::Language;
use crate::text::shingles;

/// A paragraph that stands in an earlier section is removed from this many words on; shorter ones may be refrains.
const MIN_PARAGRAPH_WORDS: usize = 10;
/// The same for a sentence inside a paragraph that is otherwise new. Chinese counts characters.
const fn min_sentence_words(language: Language) -> usize {
    match language {
        Language::En => 14,
        Language::Zh => 24,
    }
}
/// A longer line after "Main Point:" is text, not the point.
const LONGEST_POINT: usize = 60;

/// See [`super::clean_section`].
pub(super) fn section(text: &str, language: Language, earlier: &[&str]) -> String {
    let earlier = Earlier::of(earlier, language);
    let mut text = spaces(text);
    // Taking one thing out may lay another one open. Each pass shortens the text or ends the loop.
    loop {
        let next = spaces(&earlier.remove(&markers_removed(&text)));
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

/// Without control tokens, word counts and identifiers.
fn markers_removed(text: &str) -> String {
    let mut fence = Fence::default();
    let mut out = String::with_capacity(text.len());
    let mut leading = true;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if fence.holds(line) {
            out.push_str(line);
            leading = false;
        } else {
            let line = cut(line, &template_markers::control_tokens(line));
            let line = cut(&line, &template_markers::word_counts(&line)).into_owned();
            let last = lines.peek().is_none();
            let kept = identifier_removed(&line, leading, last);
            leading &= kept.trim().is_empty();
            out.push_str(&kept);
        }
        out.push('\n');
    }
    out
}

fn identifier_removed(line: &str, leading: bool, last: bool) -> String {
    let Some(marker) =
        template_markers::at_start(line).filter(|marker| leading || marker.confidence == Confidence::Anywhere)
    else {
        return line.to_owned();
    };
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

/// `line` without the bytes of `ranges`, which are in order and apart.
fn cut<'a>(line: &'a str, ranges: &[Range<usize>]) -> Cow<'a, str> {
    if ranges.is_empty() {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut from = 0;
    for range in ranges {
        out.push_str(&line[from..range.start]);
        from = range.end;
    }
    out.push_str(&line[from..]);
    Cow::Owned(out)
}

/// What earlier sections hold, by fingerprint.
struct Earlier {
    language: Language,
    paragraphs: HashSet<u64>,
    sentences: HashSet<u64>,
    headings: HashSet<String>,
}

impl Earlier {
    fn of(earlier: &[&str], language: Language) -> Self {
        let mut this =
            Self { language, paragraphs: HashSet::new(), sentences: HashSet::new(), headings: HashSet::new() };
        for line in earlier.iter().flat_map(|text| text.lines()) {
            if line.starts_with('#') {
                this.headings.insert(line.trim().to_owned());
            }
            if shingles::word_count(line) >= MIN_PARAGRAPH_WORDS {
                this.paragraphs.insert(shingles::fingerprint(line));
                this.sentences.extend(this.long_sentences(line).map(shingles::fingerprint).collect::<Vec<_>>());
            }
        }
        this
    }

    fn long_sentences<'a>(&self, line: &'a str) -> impl Iterator<Item = &'a str> {
        let least = min_sentence_words(self.language);
        shingles::sentences(line).filter(move |sentence| shingles::word_count(sentence) >= least)
    }

    /// `text` without the paragraphs and long sentences that stand in earlier sections, and without a title that it
    /// repeats at its beginning.
    fn remove(&self, text: &str) -> String {
        if self.paragraphs.is_empty() && self.headings.is_empty() {
            return text.to_owned();
        }
        let mut fence = Fence::default();
        let mut leading = true;
        let mut out = String::with_capacity(text.len());
        for line in text.lines() {
            // A quotation may be quoted twice, a table row may stand in two tables.
            if fence.holds(line) || line.trim_start().starts_with(['>', '|']) {
                out.push_str(line);
            } else if !(leading && self.headings.contains(line.trim())) {
                out.push_str(&self.remove_from_line(line));
            }
            leading &= out.trim().is_empty();
            out.push('\n');
        }
        out
    }

    fn remove_from_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        if shingles::word_count(line) < MIN_PARAGRAPH_WORDS {
            return Cow::Borrowed(line);
        }
        if self.paragraphs.contains(&shingles::fingerprint(line)) {
            return Cow::Borrowed("");
        }
        let repeated: Vec<Range<usize>> = self
            .long_sentences(line)
            .filter(|sentence| self.sentences.contains(&shingles::fingerprint(sentence)))
            .map(|sentence| {
                // Its place in the line: sentences are slices of it.
                let start = sentence.as_ptr() as usize - line.as_ptr() as usize;
                let end = start + sentence.len();
                start..end + (line.len() - end - line[end..].trim_start().len())
            })
            .collect();
        cut(line, &repeated)
    }
}
