//! Shapes of work: number of streams, prompt tokens, generated tokens.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// `STREAMSxPROMPT+TOKENS`: each stream prefills its own prompt, then all of them decode together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Shape {
    pub(crate) streams: usize,
    pub(crate) prompt: usize,
    pub(crate) tokens: usize,
}

impl Shape {
    /// A shape of `streams` streams.
    pub(crate) const fn new(streams: usize, prompt: usize, tokens: usize) -> Self {
        Self { streams, prompt, tokens }
    }

    /// Tokens of all streams, prompts included.
    pub(crate) fn all_tokens(self) -> usize {
        self.streams * (self.prompt + self.tokens)
    }
}

/// The default shapes: prefill, decoding alone and in batches, and long contexts.
pub(crate) const DEFAULT: [Shape; 9] = [
    Shape::new(1, 512, 1),
    Shape::new(1, 128, 128),
    Shape::new(2, 128, 128),
    Shape::new(4, 128, 128),
    Shape::new(8, 128, 128),
    Shape::new(16, 128, 128),
    Shape::new(32, 128, 128),
    Shape::new(1, 3500, 64),
    Shape::new(8, 3500, 64),
];

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}+{}", self.streams, self.prompt, self.tokens)
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("invalid shape {text:?}: expected STREAMSxPROMPT+TOKENS, such as 8x3500+64");
        let (streams, rest) = text.split_once('x').ok_or_else(invalid)?;
        let (prompt, tokens) = rest.split_once('+').ok_or_else(invalid)?;
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=1 << 20).contains(n)).ok_or_else(invalid);
        Ok(Self { streams: number(streams)?, prompt: number(prompt)?, tokens: number(tokens)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_parsed_as_it_is_displayed() {
        for shape in DEFAULT {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        for text in ["", "8", "8x12", "0x1+1", "1x0+4", "axb+c", "1x1+99999999999999999999"] {
            assert!(text.parse::<Shape>().is_err(), "{text}");
        }
    }
}
