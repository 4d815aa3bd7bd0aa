//! A text in the making: what was written so far, whether it ends here, and what may come next. Pure; the same tokens
//! pushed again, as from a checkpoint, give the same draft.

use longhand_proto::task::{FinishReason, LengthControl, Sampling};

use super::repeat::{LoopStop, Ngrams, Window};
use super::text::Text;

/// What bounds a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// None where a grammar decides what may end when.
    pub(crate) length: Option<LengthControl>,
    /// Tokens of this text at which it is cut.
    pub(crate) max_tokens: usize,
}

/// How likely the end of the text is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Forbidden,
    /// Added to the logit of the end tokens.
    Bias(f32),
}

#[derive(Debug)]
pub(crate) struct Draft {
    bounds: Bounds,
    tokens: usize,
    text: Text,
    loops: LoopStop,
    ngrams: Option<Ngrams>,
    window: Option<Window>,
}

impl Draft {
    /// An empty text after `prompt`. With `grammar`, n-grams may come again: a grammar's fixed parts must.
    pub(crate) fn new(bounds: Bounds, sampling: &Sampling, prompt: &[u32], grammar: bool) -> Self {
        let ngrams = sampling.no_repeat_ngram > 0 && !grammar;
        let penalty = sampling.repetition_penalty != 1.0;
        Self {
            bounds,
            tokens: 0,
            text: Text::default(),
            loops: LoopStop::default(),
            ngrams: ngrams.then(|| Ngrams::new(sampling.no_repeat_ngram, prompt)),
            window: penalty.then(|| Window::new(sampling.penalty_window, prompt)),
        }
    }

    /// Adds a token; says why the text ends with it, if it does.
    pub(crate) fn push(&mut self, token: u32, bytes: &[u8]) -> Option<FinishReason> {
        self.tokens += 1;
        self.text.push(bytes);
        if let Some(ngrams) = &mut self.ngrams {
            ngrams.push(token);
        }
        if let Some(window) = &mut self.window {
            window.push(token);
        }
        let looping = self.loops.push(token);
        let share = self.bounds.length.map(|length| (length, self.share(length)));
        if looping {
            Some(FinishReason::Repetition)
        } else if share.is_some_and(|(length, share)| share >= length.ceiling) && self.text.ends_sentence() {
            Some(FinishReason::Ceiling)
        } else if share.is_some_and(|(length, share)| share >= length.hard) || self.tokens >= self.bounds.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// Words written for each word asked.
    fn share(&self, length: LengthControl) -> f32 {
        self.text.words() as f32 / length.target_words.max(1) as f32
    }

    /// Tokens written.
    pub(crate) fn len(&self) -> usize {
        self.tokens
    }

    pub(crate) fn end(&self) -> End {
        let Some(length) = self.bounds.length else { return End::Bias(0.0) };
        let share = self.share(length);
        if share < length.floor { End::Forbidden } else { End::Bias(length.bias * (share - 1.0).max(0.0) * 10.0) }
    }

    /// Tokens that would complete an n-gram a second time.
    pub(crate) fn forbidden(&self) -> &[u32] {
        self.ngrams.as_ref().map_or(&[], Ngrams::forbidden)
    }

    /// Distinct tokens that the repetition penalty falls on.
    pub(crate) fn penalised(&self) -> &[u32] {
        self.window.as_ref().map_or(&[], Window::distinct)
    }

    pub(crate) fn into_text(self) -> String {
        self.text.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: LengthControl = LengthControl { target_words: 10, floor: 0.8, bias: 2.0, ceiling: 1.2, hard: 1.5 };

    fn draft(max_tokens: usize) -> Draft {
        Draft::new(Bounds { length: Some(LENGTH), max_tokens }, &Sampling::default(), &[], false)
    }

    fn write(draft: &mut Draft, words: usize, end: &str) -> Option<FinishReason> {
        for word in 1..words {
            assert_eq!(draft.push(draft.len() as u32, b" word"), None, "word {word}");
        }
        draft.push(draft.len() as u32, format!(" last{end}").as_bytes())
    }

    #[test]
    fn the_end_is_forbidden_below_the_floor_and_ever_likelier_past_the_target() {
        let mut draft = draft(100);
        assert_eq!(write(&mut draft, 7, "."), None);
        assert_eq!(draft.end(), End::Forbidden);
        assert_eq!(write(&mut draft, 1, "."), None);
        assert_eq!(draft.end(), End::Bias(0.0));
        assert_eq!(write(&mut draft, 3, ""), None);
        let End::Bias(bias) = draft.end() else { panic!("11 words are past the floor") };
        assert!((bias - 2.0).abs() < 1e-4, "a tenth over the target: {bias}");
    }

    #[test]
    fn stops_at_a_sentence_end_past_the_ceiling_and_anywhere_past_the_hard_length() {
        assert_eq!(write(&mut draft(100), 12, "."), Some(FinishReason::Ceiling));
        assert_eq!(write(&mut draft(100), 12, ","), None);
        assert_eq!(write(&mut draft(100), 15, ","), Some(FinishReason::Length));
        assert_eq!(write(&mut draft(5), 5, "."), Some(FinishReason::Length), "max_tokens");
    }
}
