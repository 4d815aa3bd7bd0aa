//! DRY ("don't repeat yourself"): penalises the tokens that would continue a sequence of tokens which occurred before, more
//! the longer that sequence is. As in llama.cpp, but incremental: a new token looks at its own earlier occurrences only.
//!
//! Ours is that words are penalised, not tokens, since a model that may not write a word writes the next best thing to it.
//! A token that goes on with a word is never penalised: a word that was begun must be finished, or "19th" becomes "19st".
//! Nor is one without a letter or digit, or "friends, and" becomes "friends , and". A penalty on a word holds for the same
//! word in other case, with or without a plural's "s", or "informed decisions" becomes "informed decision"; and for a token
//! without the space before it, or with a sign there, or "factors that influence college" becomes "influencecollege".

use std::collections::HashMap;

use longhand_proto::task::Sampling;

use super::vocabulary::Vocabulary;

/// The greatest penalty: more than any two logits differ by, and far from overflowing.
const MAX_PENALTY: f32 = 1e4;

/// An earlier occurrence of the last token.
#[derive(Debug, Clone, Copy)]
struct Match {
    position: u32,
    /// Tokens, up to that occurrence, that are the same as the last ones.
    len: u32,
}

/// The penalties of one text.
#[derive(Debug)]
pub struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: u32,
    /// Number of latest tokens that are looked at.
    last_n: u32,
    vocabulary: Vocabulary,
    tokens: Vec<u32>,
    /// Where each token occurred, in order.
    positions: HashMap<u32, Vec<u32>>,
    /// Occurrences of the last token before it, in order.
    matches: Vec<Match>,
    /// Reused memory.
    previous: Vec<Match>,
}

impl Dry {
    /// The penalties after `prompt`; none where they are off.
    pub fn new(sampling: &Sampling, vocabulary: Vocabulary, prompt: &[u32]) -> Option<Self> {
        if sampling.dry_multiplier.is_nan() || sampling.dry_multiplier <= 0.0 {
            return None;
        }
        let mut dry = Self {
            multiplier: sampling.dry_multiplier,
            base: sampling.dry_base,
            allowed_length: sampling.dry_allowed_length.max(1),
            last_n: if sampling.dry_penalty_last_n == 0 { u32::MAX } else { sampling.dry_penalty_last_n },
            vocabulary,
            tokens: Vec::with_capacity(prompt.len()),
            positions: HashMap::new(),
            matches: Vec::new(),
            previous: Vec::new(),
        };
        prompt.iter().for_each(|token| dry.push(*token));
        Some(dry)
    }

    /// Adds a token of the text. Takes time in proportion to its earlier occurrences.
    pub fn push(&mut self, token: u32) {
        let at = self.tokens.len() as u32;
        self.tokens.push(token);
        std::mem::swap(&mut self.matches, &mut self.previous);
        self.matches.clear();
        if self.vocabulary.is_breaker(token) {
            return;
        }
        let first = self.first();
        let positions = self.positions.entry(token).or_default();
        let visible = positions.partition_point(|position| *position < first);
        // Both lists are in order: a match grows if the token before it matched, too.
        let mut previous = self.previous.iter().peekable();
        for &position in &positions[visible..] {
            while previous.next_if(|before| before.position + 1 < position).is_some() {}
            let before = previous.peek().filter(|before| before.position + 1 == position);
            self.matches.push(Match { position, len: 1 + before.map_or(0, |before| before.len) });
        }
        positions.push(at);
    }

    /// Position of the first token that is looked at.
    fn first(&self) -> u32 {
        (self.tokens.len() as u32).saturating_sub(self.last_n)
    }

    /// What to add to the logits of which tokens: distinct ones, in order. One that may repeat costs nothing.
    pub fn penalties(&self, may_repeat: impl Fn(u32) -> bool) -> Vec<(u32, f32)> {
        let first = self.first();
        let continuation = |at: &Match| {
            let (token, len) = (self.tokens[at.position as usize + 1], at.len.min(at.position + 1 - first));
            let last = self.tokens[at.position as usize];
            let is_penalised = len >= self.allowed_length
                && self.vocabulary.is_word(token)
                && !self.vocabulary.continues_word(last, token)
                && !may_repeat(token);
            is_penalised.then_some((token, len))
        };
        let mut longest: Vec<(u32, u32)> = self.matches.iter().filter_map(continuation).collect();
        for at in 0..longest.len() {
            let (token, len) = longest[at];
            longest.extend(self.vocabulary.variants(token).iter().map(|variant| (*variant, len)));
        }
        let last = self.tokens.last().copied().unwrap_or_default();
        for at in 0..longest.len() {
            let (token, len) = longest[at];
            longest.extend(self.vocabulary.glued(last, token).iter().map(|glued| (*glued, len)));
        }
        longest.sort_unstable_by_key(|&(token, len)| (token, std::cmp::Reverse(len)));
        longest.dedup_by_key(|(token, _)| *token);
        longest.into_iter().map(|(token, len)| (token, -self.penalty(len))).collect()
    }

    /// By multiplication alone, so that it has the same bits on every machine.
    fn penalty(&self, len: u32) -> f32 {
        let mut penalty = self.multiplier;
        for _ in self.allowed_length..len {
            if penalty >= MAX_PENALTY {
                break;
            }
            penalty *= self.base;
        }
        penalty.min(MAX_PENALTY)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Token 0 has no text, token 1 holds a breaker, token 7 is the end of a word, the others are words.
    fn vocabulary() -> Vocabulary {
        const TEXTS: [&[u8]; 8] = [b"", b"a:", b" b", b" c", b" d", b" e", b" f", b"ing"];
        Vocabulary::new(TEXTS.len(), |token| TEXTS[token as usize])
    }

    fn sampling(allowed_length: u32, last_n: u32) -> Sampling {
        Sampling {
            dry_multiplier: 0.8,
            dry_allowed_length: allowed_length,
            dry_penalty_last_n: last_n,
            ..Sampling::default()
        }
    }

    /// As the definition says, by comparing everything with everything.
    fn naive(tokens: &[u32], sampling: &Sampling) -> Vec<(u32, f32)> {
        let last_n = if sampling.dry_penalty_last_n == 0 { usize::MAX } else { sampling.dry_penalty_last_n as usize };
        let tokens = &tokens[tokens.len().saturating_sub(last_n)..];
        let mut penalties = Vec::new();
        for next in 2..7 {
            let ends = (1..tokens.len()).filter(|end| tokens[*end] == next);
            let same = |end: usize| {
                let pairs = tokens[..end].iter().rev().zip(tokens.iter().rev());
                pairs.take_while(|(a, b)| a == b && **a > 1).count() as u32
            };
            let longest = ends.map(same).max().unwrap_or(0);
            if longest >= sampling.dry_allowed_length {
                let growth = (longest - sampling.dry_allowed_length) as i32;
                penalties.push((next, -sampling.dry_multiplier * sampling.dry_base.powi(growth)));
            }
        }
        penalties
    }

    proptest! {
        #[test]
        fn penalties_are_those_that_a_search_finds(
            tokens in prop::collection::vec(prop::sample::select(vec![0_u32, 1, 2, 3, 4, 7]), 0..60),
            prompt in 0_usize..60,
            allowed_length in 1_u32..5,
            last_n in prop_oneof![Just(0_u32), 1_u32..70],
        ) {
            let sampling = sampling(allowed_length, last_n);
            let prompt = prompt.min(tokens.len());
            let mut dry = Dry::new(&sampling, vocabulary(), &tokens[..prompt]).unwrap();
            for end in prompt..=tokens.len() {
                let (found, want) = (dry.penalties(|_| false), naive(&tokens[..end], &sampling));
                prop_assert_eq!(found.len(), want.len(), "{:?} instead of {:?} after {:?}", found, want, &tokens[..end]);
                for ((token, penalty), (want, exact)) in found.into_iter().zip(want) {
                    prop_assert_eq!(token, want);
                    prop_assert!((penalty - exact).abs() <= exact.abs() * 1e-5, "{} instead of {}", penalty, exact);
                }
                if let Some(token) = tokens.get(end) {
                    dry.push(*token);
                }
            }
        }
    }

    #[test]
    fn a_sequence_costs_its_continuation_more_the_longer_it_is() {
        let mut dry = Dry::new(&sampling(2, 0), vocabulary(), &[2, 3, 4, 5, 6, 2]).unwrap();
        assert_eq!(dry.penalties(|_| false), [], "one token is allowed");
        dry.push(3);
        assert_eq!(dry.penalties(|_| false), [(4, -0.8)]);
        dry.push(4);
        assert_eq!(dry.penalties(|_| false), [(5, -0.8 * 1.75)]);
        dry.push(6);
        assert_eq!(dry.penalties(|_| false), [], "another continuation ends the sequence");
    }

    #[test]
    fn breakers_and_ends_of_turns_are_neither_crossed_nor_penalised() {
        let dry = Dry::new(&sampling(1, 0), vocabulary(), &[2, 3, 0, 2, 3]).unwrap();
        assert_eq!(dry.penalties(|_| false), [], "the end of the turn came next");
        let dry = Dry::new(&sampling(3, 0), vocabulary(), &[2, 1, 3, 4, 2, 1, 3]).unwrap();
        assert_eq!(dry.penalties(|_| false), [], "one token since the breaker");
    }

    #[test]
    fn the_rest_of_a_word_is_not_penalised_and_a_word_without_its_space_is() {
        let dry = Dry::new(&sampling(2, 0), vocabulary(), &[2, 3, 7, 5, 2, 3]).unwrap();
        assert_eq!(dry.penalties(|_| false), [], "a word that was begun must be finished");
        const TEXTS: [&[u8]; 4] = [b" that", b" influence", b" college", b"college"];
        let glued = Vocabulary::new(TEXTS.len(), |token| TEXTS[token as usize]);
        let dry = Dry::new(&sampling(2, 0), glued, &[0, 1, 2, 0, 1]).unwrap();
        assert_eq!(dry.penalties(|_| false), [(2, -0.8), (3, -0.8)]);
    }

    #[test]
    fn a_word_is_penalised_in_all_its_forms_and_a_comma_in_none() {
        const TEXTS: [&[u8]; 6] = [b" make", b" informed", b" decisions", b" decision", b",", b" ,"];
        let forms = Vocabulary::new(TEXTS.len(), |token| TEXTS[token as usize]);
        let dry = Dry::new(&sampling(2, 0), forms.clone(), &[0, 1, 2, 0, 1]).unwrap();
        assert_eq!(dry.penalties(|_| false), [(2, -0.8), (3, -0.8)]);
        let dry = Dry::new(&sampling(2, 0), forms, &[0, 1, 4, 0, 1]).unwrap();
        assert_eq!(dry.penalties(|_| false), []);
    }

    #[test]
    fn what_may_repeat_is_not_penalised() {
        let dry = Dry::new(&sampling(1, 0), vocabulary(), &[2, 3, 2, 4, 2]).unwrap();
        assert_eq!(dry.penalties(|token| token == 3), [(4, -0.8)]);
    }

    #[test]
    fn a_long_repeat_does_not_overflow() {
        let dry = Dry::new(&sampling(2, 0), vocabulary(), &[2; 5_000]).unwrap();
        assert_eq!(dry.penalties(|_| false), [(2, -MAX_PENALTY)]);
        assert!(Dry::new(&Sampling::default(), vocabulary(), &[2; 9]).is_none(), "off by default");
    }
}
