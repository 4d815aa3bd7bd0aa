//! Incremental detokenization: the text of a sequence as it grows, token by token.

use longhand_proto::words::Counter;

/// Decoded text with its word count. A character may be split between tokens: it appears when it is complete.
#[derive(Debug, Default)]
pub(crate) struct TextBuffer {
    text: String,
    /// Bytes of a character that is not complete yet; at most three.
    incomplete: Vec<u8>,
    words: Counter,
    code: CodeState,
}

/// Whether the text so far ends in code, as Markdown marks it.
#[derive(Debug, Default)]
struct CodeState {
    /// Between two lines that begin with three backticks.
    fence: bool,
    /// Between two backticks of one line.
    span: bool,
    /// Backticks at the end.
    ticks: usize,
    /// Something other than spaces stands in the line.
    inside_line: bool,
}

impl CodeState {
    fn push(&mut self, text: &str) {
        for c in text.chars() {
            if c == '`' {
                self.ticks += 1;
                continue;
            }
            match self.ticks {
                0 => {}
                3.. if !self.inside_line => (self.fence, self.span) = (!self.fence, false),
                _ => self.span = !self.span && !self.fence,
            }
            self.inside_line = c != '\n' && (self.inside_line || self.ticks > 0 || !c.is_whitespace());
            self.span &= c != '\n';
            self.ticks = 0;
        }
    }
}

impl TextBuffer {
    /// Adds the bytes of a token.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.incomplete.extend_from_slice(bytes);
        let old = self.text.len();
        let mut used = 0;
        loop {
            let (valid, invalid) = match std::str::from_utf8(&self.incomplete[used..]) {
                Ok(valid) => (valid.len(), None),
                Err(error) => (error.valid_up_to(), Some(error.error_len())),
            };
            self.text.push_str(&String::from_utf8_lossy(&self.incomplete[used..used + valid]));
            used += valid;
            match invalid {
                // Not UTF-8, whatever follows.
                Some(Some(len)) => {
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    used += len;
                }
                Some(None) | None => break,
            }
        }
        self.incomplete.drain(..used);
        self.words.push(&self.text[old..]);
        self.code.push(&self.text[old..]);
    }

    /// The text so far; an incomplete character at its end is left out.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Bytes of the text, an incomplete character included.
    pub(crate) fn len(&self) -> usize {
        self.text.len() + self.incomplete.len()
    }

    pub(crate) fn words(&self) -> usize {
        self.words.finish()
    }

    /// True in code, its marks included: names repeat there.
    pub(crate) fn in_code(&self) -> bool {
        self.code.fence || self.code.span || self.code.ticks > 0
    }

    /// True if the text may stop here: outside fenced code, it ends with a sentence, closing quotes included, or with a line.
    pub(crate) fn ends_sentence(&self) -> bool {
        if self.code.fence {
            return false;
        }
        let trimmed = self.text.trim_end_matches([' ', '\t', '\r']);
        if trimmed.ends_with('\n') {
            return !trimmed.trim_end().is_empty();
        }
        let bare = trimmed.trim_end_matches(['"', '\'', '”', '’', '」', '』', ')', '）', '》', '*', '_']);
        match bare.chars().next_back() {
            Some('!' | '?' | '。' | '！' | '？' | '…') => true,
            Some('.') => !is_abbreviation(&bare[..bare.len() - 1]),
            Some(_) | None => false,
        }
    }

    /// The text; an incomplete character at its end is left out.
    pub(crate) fn into_string(self) -> String {
        self.text
    }
}

/// True if a full stop after `text` may not end a sentence: after a digit ("3.5"), an initial ("J."), a title ("Dr.").
fn is_abbreviation(text: &str) -> bool {
    let word = text.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let single = word.chars().count() == 1;
    single
        || word.ends_with(|c: char| c.is_ascii_digit())
        || ["Dr", "Mr", "Mrs", "Ms", "St", "vs", "etc"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pieces: &[&[u8]]) -> TextBuffer {
        let mut text = TextBuffer::default();
        pieces.iter().for_each(|piece| text.push(piece));
        text
    }

    #[test]
    fn a_character_split_between_tokens_appears_once_complete() {
        let hanzi = "水".as_bytes();
        let mut split = text(&[b"a ", &hanzi[..1]]);
        assert_eq!((split.text.as_str(), split.words()), ("a ", 1));
        split.push(&hanzi[1..]);
        assert_eq!((split.text.as_str(), split.words()), ("a 水", 2));
        split.push(&hanzi[..2]);
        assert_eq!(split.into_string(), "a 水", "half a character is left out");
    }

    #[test]
    fn invalid_bytes_are_replaced_at_once() {
        assert_eq!(text(&[b"a\xff", b"b\xe6", b"c"]).into_string(), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn code_is_told_from_prose_as_it_comes() {
        let mut buffer = TextBuffer::default();
        let mut code = String::new();
        for piece in
            ["Call ", "`", "save", "`", " now.\n", "An ` alone\n", "```", "java\n", "a = `b`;\n", "``", "`\n", "Done."]
        {
            buffer.push(piece.as_bytes());
            code.push(if buffer.in_code() { '#' } else { '.' });
        }
        assert_eq!(code, ".###..####..");
        assert!(buffer.ends_sentence());
        assert!(!text(&[b"So:\n```\nlet x;\n"]).ends_sentence(), "code goes on");
        assert!(text(&[b"So:\n```\nlet x;\n```\n"]).ends_sentence());
    }

    #[test]
    fn sentence_ends() {
        for end in
            ["It ends.", "He said \"no.\"", "Really?!", "结束。", "他说：“好。”", "a line\n", "(so it is.)", "end.  "]
        {
            assert!(text(&[end.as_bytes()]).ends_sentence(), "{end:?}");
        }
        for open in ["", "\n", "pi is 3.", "by J.", "Dr.", "and,", "word", "“"] {
            assert!(!text(&[open.as_bytes()]).ends_sentence(), "{open:?}");
        }
    }
}
