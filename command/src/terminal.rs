//! Text for a person's terminal. What comes from a file or a model may hold escape sequences, marks that turn the order of
//! the text round, or thousands of characters.

use unicode_width::UnicodeWidthChar;

/// Columns of a terminal whose width is unknown: a pipe, or a file.
const DEFAULT_WIDTH: usize = 120;

/// Columns of the terminal on stdout.
pub fn width() -> usize {
    terminal_size::terminal_size().map_or(DEFAULT_WIDTH, |(width, _)| width.0.into())
}

/// The text with its lines and tabs; all else that a terminal would obey is written as an escape.
pub fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// The text on one line, cut to `width` columns. A cut ends in `…`.
pub fn cell(text: &str, width: usize) -> String {
    let text = escaped(text, |_| false);
    if columns(&text) <= width {
        return text;
    }
    let mut room = width.saturating_sub(1);
    let fits = |c: &char| match room.checked_sub(c.width().unwrap_or(0)) {
        Some(rest) => {
            room = rest;
            true
        }
        None => false,
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    cut.push('…');
    cut
}

/// Columns that a line takes: a Chinese character takes two.
pub fn columns(line: &str) -> usize {
    line.chars().map(|c| c.width().unwrap_or(0)).sum()
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if keep(c) || !is_obeyed(c) {
            out.push(c);
        } else if matches!(c, '\n' | '\r' | '\t') {
            out.extend(c.escape_default());
        } else {
            out.extend(c.escape_unicode());
        }
    }
    out
}

/// True for characters that move the cursor, change the order of the text, or cannot be seen.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators, the byte order mark, annotations, tags.
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(cell("a\u{1b}[31mb\nc\t\r\u{7f}\u{9b}2J", 80), "a\\u{1b}[31mb\\nc\\t\\r\\u{7f}\\u{9b}2J");
        assert_eq!(cell("a\u{202e}b\u{2066}c\u{200f}", 80), "a\\u{202e}b\\u{2066}c\\u{200f}");
        assert_eq!(lines("one\n\ttwo\u{1b}]0;title\u{7}\r\n"), "one\n\ttwo\\u{1b}]0;title\\u{7}\\r\n");
        assert_eq!(lines("Ünïcode, 中文, \u{1f600}, العربية"), "Ünïcode, 中文, \u{1f600}, العربية");
    }

    #[test]
    fn a_cell_is_cut_to_the_columns_it_has() {
        assert_eq!(cell(&"x".repeat(5_000), 10), format!("{}…", "x".repeat(9)));
        assert_eq!(cell("exactly 10", 10), "exactly 10");
        assert_eq!(cell("一二三四五六", 10), "一二三四…");
        assert_eq!(columns(&cell("一二三四五六", 10)), 9);
        assert_eq!(cell("\n\n\n\n", 5), "\\n\\n…", "an escape counts with all its characters");
        assert_eq!(cell("", 0), "");
        assert_eq!(cell("ab", 0), "…");
    }
}
