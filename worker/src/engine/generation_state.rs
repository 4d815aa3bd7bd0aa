//! The state of a text during decoding: what was generated so far, whether it ends here, and what may come next. Pure: the
//! same tokens pushed again, as from a checkpoint, give the same state.

use longhand_proto::task::{FinishReason, LengthControl, Sampling};

use super::repetition::{LoopDetector, NgramBlocker, PenaltyWindow};
use super::text_buffer::TextBuffer;

/// The limits of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// None where a grammar decides when the text may end.
    pub(crate) length: Option<LengthControl>,
    /// Tokens of this text at which it is truncated.
    pub(crate) max_tokens: usize,
}

/// How the end-of-text tokens are biased.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EndOfText {
    Forbidden,
    /// Added to the logits of the end-of-text tokens.
    Bias(f32),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct GenerationState {
    bounds: Bounds,
    tokens: usize,
    text: TextBuffer,
    loop_detector: LoopDetector,
    ngrams: Option<NgramBlocker>,
    window: Option<PenaltyWindow>,
}

impl GenerationState {
    /// An empty text after `prompt`. With `grammar`, n-grams may repeat: a grammar's fixed parts have to.
    pub(crate) fn new(bounds: Bounds, sampling: &Sampling, prompt: &[u32], grammar: bool) -> Self {
        let ngrams = sampling.no_repeat_ngram > 0 && !grammar;
        let penalty = sampling.repetition_penalty != 1.0;
        Self {
            bounds,
            tokens: 0,
            text: TextBuffer::default(),
            loop_detector: LoopDetector::default(),
            ngrams: ngrams.then(|| NgramBlocker::new(sampling.no_repeat_ngram, prompt)),
            window: penalty.then(|| PenaltyWindow::new(sampling.penalty_window, prompt)),
        }
    }

    /// Adds a token; returns why the text ends with it, if it does.
    pub(crate) fn push(&mut self, token: u32, bytes: &[u8]) -> Option<FinishReason> {
        self.tokens += 1;
        self.text.push(bytes);
        if let Some(ngrams) = &mut self.ngrams {
            ngrams.push(token);
        }
        if let Some(window) = &mut self.window {
            window.push(token);
        }
        let looping = self.loop_detector.push(token);
        let ratio = self.bounds.length.map(|length| (length, self.length_ratio(length)));
        if looping {
            Some(FinishReason::Repetition)
        } else if ratio.is_some_and(|(length, ratio)| ratio >= length.ceiling) && self.text.ends_sentence() {
            Some(FinishReason::Ceiling)
        } else if ratio.is_some_and(|(length, ratio)| ratio >= length.hard) || self.tokens >= self.bounds.max_tokens {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// Words generated for each word of the target.
    fn length_ratio(&self, length: LengthControl) -> f32 {
        self.text.words() as f32 / length.target_words.max(1) as f32
    }

    /// Tokens generated.
    pub(crate) fn len(&self) -> usize {
        self.tokens
    }

    /// The bias of the end-of-text tokens at this length.
    pub(crate) fn end_of_text(&self) -> EndOfText {
        let Some(length) = self.bounds.length else { return EndOfText::Bias(0.0) };
        let ratio = self.length_ratio(length);
        if ratio < length.floor {
            EndOfText::Forbidden
        } else {
            EndOfText::Bias(length.bias * (ratio - 1.0).max(0.0) * 10.0)
        }
    }

    /// Tokens that would complete an n-gram a second time.
    pub(crate) fn forbidden(&self) -> &[u32] {
        self.ngrams.as_ref().map_or(&[], NgramBlocker::forbidden)
    }

    /// Distinct tokens that the repetition penalty applies to.
    pub(crate) fn penalised(&self) -> &[u32] {
        self.window.as_ref().map_or(&[], PenaltyWindow::distinct)
    }

    /// The text so far.
    pub(crate) fn into_text(self) -> String {
        self.text.into_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: LengthControl = LengthControl { target_words: 10, floor: 0.8, bias: 2.0, ceiling: 1.2, hard: 1.5 };

    fn state(max_tokens: usize) -> GenerationState {
        GenerationState::new(Bounds { length: Some(LENGTH), max_tokens }, &Sampling::default(), &[], false)
    }

    fn write(state: &mut GenerationState, words: usize, end: &str) -> Option<FinishReason> {
        for word in 1..words {
            assert_eq!(state.push(state.len() as u32, b" word"), None, "word {word}");
        }
        state.push(state.len() as u32, format!(" last{end}").as_bytes())
    }

    #[test]
    fn the_end_is_forbidden_below_the_floor_and_ever_likelier_past_the_target() {
        let mut state = state(100);
        assert_eq!(write(&mut state, 7, "."), None);
        assert_eq!(state.end_of_text(), EndOfText::Forbidden);
        assert_eq!(write(&mut state, 1, "."), None);
        assert_eq!(state.end_of_text(), EndOfText::Bias(0.0));
        assert_eq!(write(&mut state, 3, ""), None);
        let EndOfText::Bias(bias) = state.end_of_text() else { panic!("11 words are past the floor") };
        assert!((bias - 2.0).abs() < 1e-4, "a tenth over the target: {bias}");
    }

    #[test]
    fn stops_at_a_sentence_end_past_the_ceiling_and_anywhere_past_the_hard_length() {
        assert_eq!(write(&mut state(100), 12, "."), Some(FinishReason::Ceiling));
        assert_eq!(write(&mut state(100), 12, ","), None);
        assert_eq!(write(&mut state(100), 15, ","), Some(FinishReason::Length));
        assert_eq!(write(&mut state(5), 5, "."), Some(FinishReason::Length), "max_tokens");
    }
}
