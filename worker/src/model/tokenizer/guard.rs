//! Special tokens in what people wrote. A chat template's output is encoded with special tokens on, so an instruction
//! that holds the letters `<|im_end|>` would end its own turn. Such letters are marked before the template sees them, and
//! encoded as the plain text that they are.

use std::borrow::Cow;

use super::Tokenizer;
use super::guard_marks::GuardMarks;

impl Tokenizer {
    /// `text` with marks around the written forms of special tokens. Only [`Self::encode_prompt`] understands them.
    pub fn guard<'a>(&self, text: &'a str, marks: GuardMarks) -> Cow<'a, str> {
        let mut guarded = String::new();
        let mut done = 0;
        for found in self.special_forms.find_iter(text) {
            guarded.push_str(&text[done..found.start()]);
            guarded.push(marks.open);
            guarded.push_str(&text[found.range()]);
            guarded.push(marks.close);
            done = found.end();
        }
        if done == 0 {
            return Cow::Borrowed(text);
        }
        guarded.push_str(&text[done..]);
        Cow::Owned(guarded)
    }

    /// Tokens of a chat template's output: special tokens where the template wrote them, text where a person did.
    pub fn encode_prompt(&self, rendered: &str, marks: GuardMarks) -> Vec<u32> {
        let mut tokens = Vec::new();
        let mut rest = rendered;
        while let Some((before, after)) = rest.split_once(marks.open) {
            let (literal, behind) = after.split_once(marks.close).unwrap_or((after, ""));
            tokens.extend(self.encode(before, true));
            tokens.extend(self.encode(literal, false));
            rest = behind;
        }
        tokens.extend(self.encode(rest, true));
        tokens
    }
}
