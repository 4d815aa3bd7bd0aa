//! Texts from outside, such as names of models, in a page of Markdown: they are shown, and mean nothing.

/// The text on one line, with what Markdown or a renderer would obey escaped.
pub(super) fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_unseen(c) => {}
            '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '&' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// Text between backticks, in which nothing but a backtick has a meaning.
pub(super) fn code(text: &str) -> String {
    text.chars().filter(|c| *c != '`' && !is_unseen(*c)).collect()
}

/// Control characters, and marks that turn the order of a text or are not seen.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text() {
        assert_eq!(inline("Qwen3-8B.Q4"), "Qwen3-8B.Q4");
        assert_eq!(inline("a\n# b <img src=x> [c](d)"), "a # b \\<img src=x\\> \\[c\\](d)");
        assert_eq!(inline("safe\u{202e}gpj.exe\u{1b}[31m"), "safegpj.exe\\[31m");
        assert_eq!(code("a`b\u{2066}"), "ab");
    }
}
