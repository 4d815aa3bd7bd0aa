//! Bounds on templates, which come from strangers, before a parser reads them.
//!
//! The engine bounds the steps and the data of a rendering. Its parser and its compiler recurse over what is nested, chained
//! filters included, so a long chain overflows the stack and ends the process: nothing catches that.

/// Longest template in bytes; the largest published ones have 30 kB.
pub const MAX_TEMPLATE_BYTES: usize = 256 << 10;
/// Most words and signs in one tag, texts in quotes count as one; published ones have up to 150.
const MAX_TAG_WORDS: usize = 512;
/// Deepest nesting of brackets in a tag.
const MAX_BRACKETS: usize = 32;
/// Deepest nesting of blocks; each `elif` counts as a block.
const MAX_BLOCKS: usize = 128;

/// Why a template is not parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateBound {
    /// It is too long.
    #[error("the template has more than {} KiB", MAX_TEMPLATE_BYTES >> 10)]
    Bytes,
    /// One of its tags is too long.
    #[error("line {0}: a tag has more than {MAX_TAG_WORDS} words and signs")]
    Words(usize),
    /// Brackets are nested too deep.
    #[error("line {0}: brackets are nested deeper than {MAX_BRACKETS}")]
    Brackets(usize),
    /// Blocks are nested too deep.
    #[error("line {0}: blocks are nested deeper than {MAX_BLOCKS}, or one has more branches")]
    Blocks(usize),
}

/// Checks the bounds of a Jinja template.
///
/// # Errors
/// It is beyond one of them.
pub fn check_template(source: &str) -> Result<(), TemplateBound> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateBound::Bytes);
    }
    // Blocks that are open, each with the branches of it so far.
    let mut blocks = 0_usize;
    let mut branches = 0_usize;
    let mut rest = source;
    while let Some(at) = rest.as_bytes().windows(2).position(|pair| pair == b"{{" || pair == b"{%") {
        let begin = source.len() - rest.len() + at;
        let line = || source[..begin].matches('\n').count() + 1;
        let mut tag = Tag::new(&rest[at + 2..], &rest[at..at + 2] == "{%");
        let first = tag.next_word().trim_start_matches(['-', '+']);
        let first = if first.is_empty() { tag.next_word() } else { first };
        match first {
            "if" | "for" | "macro" | "call" | "filter" | "block" | "with" | "autoescape" => blocks += 1,
            "elif" => branches += 1,
            end if end.starts_with("end") => {
                blocks = blocks.saturating_sub(1);
                if blocks == 0 {
                    branches = 0;
                }
            }
            _ => {}
        }
        if blocks + branches > MAX_BLOCKS {
            return Err(TemplateBound::Blocks(line()));
        }
        let mut words = 1;
        while !tag.next_word().is_empty() {
            words += 1;
            if words > MAX_TAG_WORDS {
                return Err(TemplateBound::Words(line()));
            }
            if tag.brackets > MAX_BRACKETS {
                return Err(TemplateBound::Brackets(line()));
            }
        }
        rest = tag.rest;
    }
    Ok(())
}

/// The line of the first `+` of a Jinja template that may add two lists: one that stands beside no number. The engine counts
/// neither the steps nor the memory of it, and a list that is doubled forty times has as many elements as there are bytes in
/// a terabyte.
pub fn adds_lists(source: &str) -> Option<usize> {
    let mut rest = source;
    while let Some(at) = rest.as_bytes().windows(2).position(|pair| pair == b"{{" || pair == b"{%") {
        let begin = source.len() - rest.len() + at;
        let mut tag = Tag::new(&rest[at + 2..], &rest[at..at + 2] == "{%");
        let words: Vec<&str> = std::iter::from_fn(|| Some(tag.next_word()).filter(|word| !word.is_empty())).collect();
        let word = |at: Option<usize>| at.and_then(|at| words.get(at)).copied().unwrap_or_default();
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        // The first may belong to the tag's own sign, as in `{%+ if %}`, and so may the last.
        for sign in (1..words.len().saturating_sub(1)).filter(|sign| words[*sign] == "+") {
            let before = is_number(word(sign.checked_sub(1))) && word(sign.checked_sub(2)) != ".";
            let after = is_number(word(Some(sign + 1))) && !matches!(word(Some(sign + 2)), "|" | "." | "[");
            if !before && !after {
                return Some(source[..begin].matches('\n').count() + 1);
            }
        }
        rest = tag.rest;
    }
    None
}

/// The words and signs of a tag.
struct Tag<'a> {
    rest: &'a str,
    close: &'static str,
    brackets: usize,
    is_over: bool,
}

impl<'a> Tag<'a> {
    fn new(rest: &'a str, is_block: bool) -> Self {
        Self { rest, close: if is_block { "%}" } else { "}}" }, brackets: 0, is_over: false }
    }

    /// The next word, text in quotes, or sign; empty at the end of the tag.
    fn next_word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        if self.is_over || self.rest.is_empty() {
            return "";
        }
        if self.rest.starts_with(self.close) {
            self.rest = &self.rest[2..];
            self.is_over = true;
            return "";
        }
        let first = self.rest.as_bytes()[0];
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        let length = match first {
            b'\'' | b'"' => literal_len(self.rest),
            byte if is_word(byte) => self.rest.bytes().take_while(|byte| is_word(*byte)).count(),
            byte => {
                match byte {
                    b'(' | b'[' | b'{' => self.brackets += 1,
                    b')' | b']' | b'}' => self.brackets = self.brackets.saturating_sub(1),
                    _ => {}
                }
                1
            }
        };
        let (word, rest) = self.rest.split_at(length);
        self.rest = rest;
        word
    }
}

/// Bytes of the string literal that `text` begins with, quotes included; all of `text` if the literal does not end.
pub fn literal_len(text: &str) -> usize {
    let quote = text.as_bytes()[0];
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            byte if byte == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_overflow_a_parser_is_refused() {
        let chain = format!("one\n{{{{ x{} }}}}", "|upper".repeat(25_000));
        assert_eq!(check_template(&chain), Err(TemplateBound::Words(2)));
        let brackets = format!("{{{{ {}x{} }}}}", "(".repeat(200), ")".repeat(200));
        assert_eq!(check_template(&brackets), Err(TemplateBound::Brackets(1)));
        let nested = format!("{}{}", "{% if x %}".repeat(5_000), "{% endif %}".repeat(5_000));
        assert_eq!(check_template(&nested), Err(TemplateBound::Blocks(1)));
        let branches = format!("{{%- if x %}}{}{{%- endif %}}", "{%- elif y %}z".repeat(5_000));
        assert_eq!(check_template(&branches), Err(TemplateBound::Blocks(1)));
        assert_eq!(check_template(&"x".repeat(MAX_TEMPLATE_BYTES + 1)), Err(TemplateBound::Bytes));
        for odd in
            ["{{", "{% 'never closed", "{{ \u{6e21} }}", "}} {{ a['b\\'}}'] }} {{- x -}} {%-if x-%}{%endif%}", ""]
        {
            assert_eq!(check_template(odd), Ok(()), "{odd}");
        }
    }

    #[test]
    fn long_templates_of_short_tags_are_parsed() {
        let one = "{%- if m.role == 'user' %}{{ '<|user|>' + m.content|trim }}{%- elif x %}y{%- endif %}\n";
        assert_eq!(check_template(&one.repeat(2_000)), Ok(()));
    }

    #[test]
    fn only_numbers_are_added() {
        for good in ["{{ a + 1 }} {{ 10 + loop.index }}", "{%+ if a +%}+{% endif %}", "a + b {{ '+' }}", "{{ a ~ b }}"]
        {
            assert_eq!(adds_lists(good), None, "{good}");
        }
        for bad in ["x\n{{ a + a }}", "\n{% set a = a + 0|default(a, true) %}", "\n{{ a.0 + a }}", "\n{{ [1] + [2] }}"]
        {
            assert_eq!(adds_lists(bad), Some(2), "{bad}");
        }
    }
}
