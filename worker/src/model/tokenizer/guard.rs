//! Special tokens in what people wrote. A chat template's output is encoded with special tokens on, so an instruction
//! that holds the letters `<|im_end|>` would end its own turn. Such letters are marked before the template sees them, and
//! encoded as the plain text that they are.

use std::borrow::Cow;

use super::Tokenizer;

/// Private-use characters that no vocabulary gives a meaning.
const OPEN: char = '\u{f8f0}';
const CLOSE: char = '\u{f8f1}';

impl Tokenizer {
    /// `text` with marks around the written forms of special tokens. Only [`Self::encode_prompt`] understands them.
    pub fn guard<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut guarded = String::new();
        let mut rest = text;
        while let Some((at, written)) = self.first_special(rest) {
            guarded.push_str(&rest[..at]);
            guarded.push(OPEN);
            guarded.push_str(written);
            guarded.push(CLOSE);
            rest = &rest[at + written.len()..];
        }
        if guarded.is_empty() {
            return Cow::Borrowed(text);
        }
        guarded.push_str(rest);
        Cow::Owned(guarded)
    }

    /// Tokens of a chat template's output: special tokens where the template wrote them, text where a person did.
    pub fn encode_prompt(&self, rendered: &str) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = rendered;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (literal, behind) = after.split_once(CLOSE).unwrap_or((after, ""));
            tokens.extend(self.encode(before, true));
            tokens.extend(self.encode(literal, false));
            rest = behind;
        }
        tokens.extend(self.encode(rest, true));
        tokens
    }

    /// The first written form of a special token in `text`, the longest one where several begin.
    fn first_special(&self, text: &str) -> Option<(usize, &str)> {
        let forms = self.table.special.iter().flatten().filter(|written| !written.is_empty());
        forms
            .filter_map(|written| Some((text.find(&**written)?, &**written)))
            .min_by_key(|(at, written)| (*at, usize::MAX - written.len()))
    }
}
