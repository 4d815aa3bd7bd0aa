//! The state of a text during decoding: what was generated so far, whether it ends here, and what may come next. Pure: the
//! same tokens pushed again, as from a checkpoint, give the same state.

use std::sync::Arc;

use longhand_proto::task::{Backtrack, BacktrackCause, FinishReason, LengthControl, Sampling};

use super::dry::Dry;
use super::names::NameSet;
use super::phrases::{PhraseMatcher, PhraseSet};
use super::repetition::{LoopDetector, NgramBlocker, PenaltyWindow};
use super::text_buffer::TextBuffer;
use super::vocabulary::Vocabulary;

/// How often a loop is taken back; the next one ends the text.
const MAX_LOOP_BACKTRACKS: usize = 8;
/// How often a banned phrase is taken back; later ones stay.
const MAX_PHRASE_BACKTRACKS: usize = 64;

/// The limits of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// None where a grammar decides when the text may end.
    pub(crate) length: Option<LengthControl>,
    /// Tokens of this text at which it is truncated.
    pub(crate) max_tokens: usize,
}

/// What a text must keep to.
#[derive(Debug, Clone)]
pub(crate) struct TextRules {
    pub(crate) bounds: Bounds,
    pub(crate) sampling: Sampling,
    /// The text may repeat itself and is never taken back: a grammar's fixed parts have to repeat, and what a remote server
    /// sent cannot be changed.
    pub(crate) fixed: bool,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) ban: Option<Arc<PhraseSet>>,
    /// Tokens that the text may have: bit t of word t/32. None if all are allowed.
    pub(crate) mask: Option<Arc<[u32]>>,
    /// DRY does not penalise them.
    pub(crate) names: Arc<NameSet>,
}

impl TextRules {
    /// Limits alone.
    pub(crate) fn fixed(bounds: Bounds) -> Self {
        Self {
            bounds,
            sampling: Sampling::default(),
            fixed: true,
            vocabulary: Vocabulary::default(),
            ban: None,
            mask: None,
            names: Arc::default(),
        }
    }
}

/// What follows from a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The next token.
    Continues,
    /// The end of the text, with this token.
    Ends(FinishReason),
    /// The end of the text is to be taken back, this token included.
    Backtrack(Backtrack),
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
    rules: TextRules,
    tokens: Vec<u32>,
    text: TextBuffer,
    loop_detector: LoopDetector,
    ngrams: Option<NgramBlocker>,
    window: Option<PenaltyWindow>,
    dry: Option<Dry>,
    phrases: Option<PhraseMatcher>,
    /// With phrases: bytes of the text after each token.
    ends: Vec<usize>,
    /// In order of time.
    backtracks: Vec<Backtrack>,
}

/// What was found in a text with its last token.
#[derive(Debug)]
struct Findings {
    /// Tokens since the first repeat of a loop began.
    repeats: Option<usize>,
    /// Byte at which a completed phrase begins.
    phrase: Option<usize>,
}

impl GenerationState {
    /// An empty text after `prompt`.
    pub(crate) fn new(rules: TextRules, prompt: &[u32]) -> Self {
        let TextRules { sampling, fixed, .. } = &rules;
        let ngrams = sampling.no_repeat_ngram > 0 && !fixed;
        let penalty = sampling.repetition_penalty != 1.0;
        let ban = rules.ban.as_ref().filter(|_| !fixed);
        Self {
            tokens: Vec::new(),
            text: TextBuffer::default(),
            loop_detector: LoopDetector::default(),
            ngrams: ngrams.then(|| NgramBlocker::new(sampling.no_repeat_ngram, prompt)),
            window: penalty.then(|| PenaltyWindow::new(sampling.penalty_window, prompt)),
            dry: if *fixed { None } else { Dry::new(sampling, rules.vocabulary.clone(), prompt) },
            phrases: ban.map(|ban| PhraseMatcher::new(Arc::clone(ban))),
            ends: Vec::new(),
            backtracks: Vec::new(),
            rules,
        }
    }

    /// Where an earlier attempt took the text back, before its tokens are pushed again.
    pub(crate) fn resume(&mut self, backtracks: Vec<Backtrack>) {
        if !self.rules.fixed {
            self.backtracks = backtracks;
        }
    }

    /// Adds a token. A [`Outcome::Backtrack`] must be given to [`GenerationState::take_back`].
    pub(crate) fn push(&mut self, token: u32, bytes: &[u8]) -> Outcome {
        let Findings { repeats, phrase } = self.add(token, bytes);
        if let Some(backtrack) = phrase.and_then(|begin| self.phrase_backtrack(begin)) {
            return Outcome::Backtrack(backtrack);
        }
        if let Some(repeats) = repeats {
            let backtrack = self.backtrack(self.tokens.len() - repeats, BacktrackCause::Repetition);
            return backtrack.map_or(Outcome::Ends(FinishReason::Repetition), Outcome::Backtrack);
        }
        let Some(reason) = self.limit() else { return Outcome::Continues };
        self.end().map_or(Outcome::Ends(reason), Outcome::Backtrack)
    }

    /// What is to be taken back if the text ends here.
    pub(crate) fn end(&self) -> Option<Backtrack> {
        self.phrases.as_ref().and_then(PhraseMatcher::end).and_then(|begin| self.phrase_backtrack(begin))
    }

    /// Goes back to the text before a backtrack. The state is made anew from what is left: a replay, as from a checkpoint.
    pub(crate) fn take_back<'a>(
        &mut self,
        backtrack: Backtrack,
        prompt: &[u32],
        token_bytes: impl Fn(u32) -> &'a [u8],
    ) {
        let (old, mut backtracks) = (std::mem::take(&mut self.tokens), std::mem::take(&mut self.backtracks));
        backtracks.push(backtrack);
        *self = Self { backtracks, ..Self::new(self.rules.clone(), prompt) };
        for token in old.into_iter().take(backtrack.position as usize) {
            self.add(token, token_bytes(token));
        }
    }

    fn add(&mut self, token: u32, bytes: &[u8]) -> Findings {
        let repeats = self.loop_detector.push(&self.tokens, token);
        self.tokens.push(token);
        let from = self.text.as_str().len();
        self.text.push(bytes);
        if let Some(ngrams) = &mut self.ngrams {
            ngrams.push(token);
        }
        if let Some(window) = &mut self.window {
            window.push(token);
        }
        if let Some(dry) = &mut self.dry {
            dry.push(token);
        }
        let mut phrase = None;
        if let Some(phrases) = &mut self.phrases {
            phrase = phrases.push(self.text.as_str(), from);
            self.ends.push(self.text.len());
        }
        Findings { repeats, phrase }
    }

    /// To the token in which the phrase at byte `begin` begins.
    fn phrase_backtrack(&self, begin: usize) -> Option<Backtrack> {
        self.backtrack(self.ends.partition_point(|end| *end <= begin), BacktrackCause::Phrase)
    }

    /// To `position`, unless that was done as often as it may be.
    fn backtrack(&self, position: usize, cause: BacktrackCause) -> Option<Backtrack> {
        let most = match cause {
            BacktrackCause::Repetition => MAX_LOOP_BACKTRACKS,
            BacktrackCause::Phrase => MAX_PHRASE_BACKTRACKS,
        };
        let done = self.backtracks.iter().filter(|backtrack| backtrack.cause == cause).count();
        let (token, discarded) = (*self.tokens.get(position)?, self.tokens.len() - position);
        let backtrack = Backtrack { position: position as u32, token, discarded: discarded as u32, cause };
        (!self.rules.fixed && done < most).then_some(backtrack)
    }

    /// Why the text ends here, if a limit is reached.
    fn limit(&self) -> Option<FinishReason> {
        let ratio = self.rules.bounds.length.map(|length| (length, self.length_ratio(length)));
        if ratio.is_some_and(|(length, ratio)| ratio >= length.ceiling) && self.text.ends_sentence() {
            Some(FinishReason::Ceiling)
        } else if ratio.is_some_and(|(length, ratio)| ratio >= length.hard)
            || self.tokens.len() >= self.rules.bounds.max_tokens
        {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// Words generated for each word of the target.
    fn length_ratio(&self, length: LengthControl) -> f32 {
        self.text.words() as f32 / length.target_words.max(1) as f32
    }

    /// The tokens of the text.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the text.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Where the text was taken back, in order of time.
    pub(crate) fn backtracks(&self) -> &[Backtrack] {
        &self.backtracks
    }

    /// The bias of the end-of-text tokens at this length.
    pub(crate) fn end_of_text(&self) -> EndOfText {
        let Some(length) = self.rules.bounds.length else { return EndOfText::Bias(0.0) };
        let ratio = self.length_ratio(length);
        if ratio < length.floor {
            EndOfText::Forbidden
        } else {
            EndOfText::Bias(length.bias * (ratio - 1.0).max(0.0) * 10.0)
        }
    }

    /// Tokens that must not come next: they would complete an n-gram a second time, or were taken back here after the same
    /// text. A token may come twice.
    pub(crate) fn forbidden(&self) -> impl Iterator<Item = u32> {
        let ngrams = self.ngrams.as_ref().map_or(&[][..], NgramBlocker::forbidden);
        let here = self.tokens.len() as u32;
        // What was taken back before the text was taken back further belongs to another text.
        let same_text = self.backtracks.iter().rev().take_while(move |backtrack| backtrack.position >= here);
        let taken_back = same_text.filter(move |backtrack| backtrack.position == here).map(|backtrack| backtrack.token);
        ngrams.iter().copied().chain(taken_back)
    }

    /// What to add to the logits of tokens that would continue a repeated sequence. In code, names have to repeat.
    pub(crate) fn dry_penalties<'a>(&self, token_bytes: impl Fn(u32) -> &'a [u8]) -> Vec<(u32, f32)> {
        let Some(dry) = self.dry.as_ref().filter(|_| !self.text.in_code()) else { return Vec::new() };
        let names = self.rules.names.after(self.text.as_str());
        dry.penalties(|token| names.writes_name(token_bytes(token)))
    }

    /// Tokens that the script of the text allows: bit t of word t/32. None if all are allowed.
    pub(crate) fn mask(&self) -> Option<Arc<[u32]>> {
        self.rules.mask.clone()
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

    fn rules(max_tokens: usize, ban: &[&str]) -> TextRules {
        let ban: Vec<String> = ban.iter().map(|&phrase| phrase.to_owned()).collect();
        let bounds = Bounds { length: Some(LENGTH), max_tokens };
        let ban = PhraseSet::new(&ban).unwrap().map(Arc::new);
        TextRules { fixed: false, ban, ..TextRules::fixed(bounds) }
    }

    fn state(max_tokens: usize) -> GenerationState {
        GenerationState::new(rules(max_tokens, &[]), &[])
    }

    fn write(state: &mut GenerationState, words: usize, end: &str) -> Outcome {
        for word in 1..words {
            assert_eq!(state.push(state.len() as u32, b" word"), Outcome::Continues, "word {word}");
        }
        state.push(state.len() as u32, format!(" last{end}").as_bytes())
    }

    #[test]
    fn the_end_is_forbidden_below_the_floor_and_ever_likelier_past_the_target() {
        let mut state = state(100);
        assert_eq!(write(&mut state, 7, "."), Outcome::Continues);
        assert_eq!(state.end_of_text(), EndOfText::Forbidden);
        assert_eq!(write(&mut state, 1, "."), Outcome::Continues);
        assert_eq!(state.end_of_text(), EndOfText::Bias(0.0));
        assert_eq!(write(&mut state, 3, ""), Outcome::Continues);
        let EndOfText::Bias(bias) = state.end_of_text() else { panic!("11 words are past the floor") };
        assert!((bias - 2.0).abs() < 1e-4, "a tenth over the target: {bias}");
    }

    #[test]
    fn stops_at_a_sentence_end_past_the_ceiling_and_anywhere_past_the_hard_length() {
        assert_eq!(write(&mut state(100), 12, "."), Outcome::Ends(FinishReason::Ceiling));
        assert_eq!(write(&mut state(100), 12, ","), Outcome::Continues);
        assert_eq!(write(&mut state(100), 15, ","), Outcome::Ends(FinishReason::Length));
        assert_eq!(write(&mut state(5), 5, "."), Outcome::Ends(FinishReason::Length), "max_tokens");
    }

    /// Pushes one token for each piece; returns the state and the outcome of the last.
    fn pieces(ban: &[&str], pieces: &[&str]) -> (GenerationState, Outcome) {
        let mut state = GenerationState::new(rules(100, ban), &[]);
        let mut last = Outcome::Continues;
        for (token, piece) in pieces.iter().enumerate() {
            assert_eq!(last, Outcome::Continues, "before {piece:?}");
            last = state.push(token as u32, piece.as_bytes());
        }
        (state, last)
    }

    fn phrase(position: u32, token: u32, discarded: u32) -> Backtrack {
        Backtrack { position, token, discarded, cause: BacktrackCause::Phrase }
    }

    #[test]
    fn a_phrase_is_taken_back_to_the_token_in_which_it_begins() {
        let (mut state, outcome) = pieces(&["in conclusion"], &["So", ", In", " con", "clus", "ion", ","]);
        assert_eq!(outcome, Outcome::Backtrack(phrase(1, 1, 5)));
        state.take_back(phrase(1, 1, 5), &[], |token| if token == 0 { b"So" } else { b"?" });
        assert_eq!((state.len(), state.forbidden().collect::<Vec<_>>()), (1, vec![1]));
        assert_eq!(state.push(7, b"."), Outcome::Continues);
        assert_eq!(state.forbidden().count(), 0, "only there");
        assert_eq!(state.into_text(), "So.");
        let (_, outcome) = pieces(&["in conclusion"], &["In conclusion "]);
        assert_eq!(outcome, Outcome::Backtrack(phrase(0, 0, 1)), "at the very start, in one token");
        let (state, outcome) = pieces(&["the end"], &["It", " is", " the", " end"]);
        assert_eq!((outcome, state.end()), (Outcome::Continues, Some(phrase(2, 2, 2))), "only if the text ends here");
    }

    #[test]
    fn what_was_forbidden_after_another_text_is_allowed() {
        let mut state = GenerationState::new(rules(100, &[]), &[]);
        state.resume(vec![phrase(2, 9, 1), phrase(1, 7, 3), phrase(1, 8, 1)]);
        assert_eq!(state.push(5, b"a"), Outcome::Continues);
        assert_eq!(state.forbidden().collect::<Vec<_>>(), [8, 7]);
        assert_eq!(state.push(5, b"a"), Outcome::Continues);
        assert_eq!(state.forbidden().count(), 0, "9 was forbidden after another text");
    }

    #[test]
    fn a_loop_is_taken_back_a_few_times_and_then_ends_the_text() {
        let mut state = GenerationState::new(rules(10_000, &[]), &[]);
        let mut backtracks = 0;
        let reason = loop {
            match state.push(3, b".") {
                Outcome::Continues => {}
                Outcome::Ends(reason) => break reason,
                Outcome::Backtrack(backtrack) => {
                    assert_eq!((backtrack.position, backtrack.token), (1, 3), "before the second of many");
                    state.take_back(backtrack, &[], |_| b".");
                    backtracks += 1;
                }
            }
        };
        assert_eq!((reason, backtracks), (FinishReason::Repetition, MAX_LOOP_BACKTRACKS));
    }

    #[test]
    fn a_phrase_that_comes_again_and_again_is_let_through() {
        let mut state = GenerationState::new(rules(10_000, &["so!"]), &[]);
        let mut outcome = state.push(1, b"so!");
        for _ in 0..MAX_PHRASE_BACKTRACKS {
            let Outcome::Backtrack(backtrack) = outcome else { panic!("{outcome:?}") };
            state.take_back(backtrack, &[], |_| unreachable!("nothing is left"));
            outcome = state.push(1, b"so!");
        }
        assert_eq!(outcome, Outcome::Continues);
    }
}
