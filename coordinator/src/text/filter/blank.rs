//! A line with parts of it blanked, so that a rule does not see them: each byte becomes a space, so places stay what they are.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Spans of code, addresses, paths and names of files, tags, and formulas.
static CODE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
            ``[^`].*?[^`]?`` | `[^`\n]+`
          | \$\$[^$]+\$\$ | \$[^\s$\d](?:[^$]{0,80}[^\s$])?\$ | \\\(.{1,80}?\\\) | \\\[.{1,80}?\\\] | \\[A-Za-z]+
          | https?://[^\s，。；、（）]+ | </?[A-Za-z][^<>\n]{0,80}>
          | [!-~]*[A-Za-z0-9](?:://|[@=/\\.]|\(\))[A-Za-z0-9(][!-~]* | [@\#]\w+ | \$[A-Za-z_]\w*",
    )
    .expect("a constant pattern, compiled by the tests")
});

/// The line without code.
pub(super) fn code(line: &str) -> Cow<'_, str> {
    let mut found = CODE.find_iter(line).map(|found| found.range()).peekable();
    if found.peek().is_none() { Cow::Borrowed(line) } else { Cow::Owned(blanked(line, found)) }
}

/// The line without what it only mentions: quotations, titles, parentheses and emphasised words.
pub(super) fn asides(line: &str) -> String {
    blanked(line, asides_of(line).into_iter())
}

fn blanked(line: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut bytes = line.as_bytes().to_vec();
    for range in ranges {
        bytes[range].fill(b' ');
    }
    String::from_utf8(bytes).expect("whole characters became spaces")
}

/// The mark that ends what `open` begins.
const fn closing(open: char) -> Option<char> {
    Some(match open {
        '“' => '”',
        '‘' => '’',
        '「' => '」',
        '『' => '』',
        '《' => '》',
        '〈' => '〉',
        '«' => '»',
        '(' => ')',
        '（' => '）',
        '[' => ']',
        '【' => '】',
        '"' | '\'' | '*' | '_' => open,
        _ => return None,
    })
}

/// Where something is only mentioned, in order and apart.
fn asides_of(line: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    // Marks whose other half does not follow: to look for it again would take the square of a long line's time.
    let mut missing: Vec<char> = Vec::new();
    let mut at = 0;
    while let Some(open) = line[at..].chars().next() {
        let next = at + open.len_utf8();
        let begins = closing(open).filter(|_| !missing.contains(&open) && may_open(line, at, next));
        match begins.map(|close| end(&line[next..], close)) {
            Some(Some(length)) => {
                ranges.push(at..next + length);
                at = next + length;
            }
            Some(None) => {
                missing.push(open);
                at = next;
            }
            None => at = next,
        }
    }
    ranges
}

/// An apostrophe opens nothing, and neither do the two stars of bold text: that may be a whole paragraph.
fn may_open(line: &str, at: usize, next: usize) -> bool {
    let (before, after) = (line[..at].chars().next_back(), line[next..].chars().next());
    match &line[at..next] {
        "'" | "‘" => !before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric),
        "*" | "_" => {
            !before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '*' | '_'))
                && after.is_some_and(char::is_alphanumeric)
        }
        _ => true,
    }
}

/// Length of what stands before the first mark `close` of `rest`, the mark included. An apostrophe in a word is none.
fn end(rest: &str, close: char) -> Option<usize> {
    let in_word = |next: usize| matches!(close, '\'' | '’') && rest[next..].starts_with(char::is_alphanumeric);
    rest.match_indices(close).map(|(at, mark)| at + mark.len()).find(|next| !in_word(*next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_blanked() {
        for (line, want) in [
            ("Call `snake_case` now.", "Call now."),
            ("See https://example.com/a_b, then go.", "See then go."),
            ("Edit main.rs and /etc/hosts here.", "Edit and here."),
            ("Set $x_i = 3$ for $5 or $6.", "Set for $5 or $6."),
            ("Use \\alpha and <b>bold</b>.", "Use and bold ."),
            ("运行main.py即可。", "运行 即可。"),
            ("Nothing here, he said.", "Nothing here, he said."),
        ] {
            let got = code(line);
            assert_eq!(got.len(), line.len(), "{line}");
            assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), want);
        }
    }

    #[test]
    fn asides_are_blanked() {
        for (line, want) in [
            ("He said \"au revoir\" and left.", "He said and left."),
            ("The boys' ship isn't 'мир' at all.", "The boys' ship isn't at all."),
            ("光合作用（photosynthesis）很重要。", "光合作用 很重要。"),
            ("A *мир* and **bold мир**.", "A and **bold мир**."),
            ("An open ( mark (here) stays", "An open stays"),
            ("《Yesterday》和“hello”", "和"),
            ("No end ( here, “nor here", "No end ( here, “nor here"),
        ] {
            let got = asides(line);
            assert_eq!(got.len(), line.len(), "{line}");
            assert_eq!(got.split_whitespace().collect::<Vec<_>>().join(" "), want);
        }
    }
}
