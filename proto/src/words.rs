//! The word count of the LongWriter evaluation: Chinese characters plus runs of Latin letters between Unicode word
//! boundaries (`[\u4e00-\u9fff]` and `\b[a-zA-Z]+\b`).

/// Number of words in `text`.
pub fn count(text: &str) -> usize {
    let mut counter = Counter::default();
    counter.push(text);
    counter.finish()
}

/// Counts words of a text that arrives in chunks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counter {
    words: usize,
    run: Run,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Run {
    /// Outside a run of word characters.
    #[default]
    None,
    /// Inside a run of Latin letters only.
    Letters,
    /// Inside a run of word characters that does not count: it contains something other than Latin letters.
    Other,
}

impl Counter {
    /// Adds the next chunk of text.
    pub fn push(&mut self, chunk: &str) {
        for c in chunk.chars() {
            if ('\u{4e00}'..='\u{9fff}').contains(&c) {
                self.words += 1;
            }
            self.run = match (self.run, c) {
                (Run::None | Run::Letters, c) if c.is_ascii_alphabetic() => Run::Letters,
                (_, c) if is_word(c) => Run::Other,
                (run, _) => {
                    self.words += usize::from(run == Run::Letters);
                    Run::None
                }
            };
        }
    }

    /// Words so far; a run of letters at the end counts as one.
    pub fn finish(&self) -> usize {
        self.words + usize::from(self.run == Run::Letters)
    }
}

/// `\w` of Unicode: letters, marks, digits, connector punctuation.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || is_mark(c)
}

/// Combining marks in the blocks that follow Latin letters in practice.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}' | '\u{203f}' | '\u{2040}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        for (text, words) in [
            ("don't stop", 3),
            ("co-op", 2),
            ("GPT4 model", 1),
            ("3 apples", 1),
            ("a_b c", 1),
            ("naïve café", 0),
            ("使用GPT模型", 4),
            ("使用 GPT 模型", 5),
            ("", 0),
            ("one", 1),
        ] {
            assert_eq!(count(text), words, "{text:?}");
        }
    }

    #[test]
    fn chunks_count_like_the_whole_text() {
        let text = "don't stop; 使用GPT模型 and a_b naïve co-op GPT4 end";
        for cut in text.char_indices().map(|(i, _)| i) {
            let mut counter = Counter::default();
            counter.push(&text[..cut]);
            counter.push(&text[cut..]);
            assert_eq!(counter.finish(), count(text), "cut at {cut}");
        }
    }
}
