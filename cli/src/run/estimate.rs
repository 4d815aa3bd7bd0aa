//! How many tokens a run still needs: the words that its plans and instructions ask for, at the tokens that each word has taken.

/// Tokens of a word before any was written: that of English with most tokenizers.
const TOKENS_PER_WORD: f64 = 1.4;
/// Words after which what was measured counts as much as that.
const PRIOR_WORDS: f64 = 1_000.0;
/// Words of a document before any has a plan or a required length.
const WORDS: f64 = 2_000.0;

/// What is known of one document.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Expected {
    /// Of its plan, else as its instruction requires.
    pub(super) words: Option<u64>,
    /// Words of its sections.
    pub(super) written: u64,
    /// Tokens of all its attempts that gave a text, kept or not.
    pub(super) tokens: u64,
    pub(super) sections: u64,
    pub(super) steps: Option<u64>,
}

impl Expected {
    /// Sections that its plan still needs; none without a plan.
    pub(super) fn sections_left(&self) -> Option<u64> {
        Some(self.steps?.saturating_sub(self.sections))
    }
}

/// What the documents so far teach about the others.
#[derive(Debug, Default)]
pub(super) struct Estimate {
    /// Sum and number of the lengths known: their mean stands for documents without one.
    lengths: (u64, u64),
    /// Words of sections that this process wrote, and tokens of all attempts that ended in it.
    words: u64,
    tokens: u64,
}

impl Estimate {
    /// A document has a length now, which it may not have had `before`.
    pub(super) fn planned(&mut self, before: Option<&Expected>, now: &Expected) {
        if let (Some(words), None) = (now.words, before.and_then(|before| before.words)) {
            self.lengths = (self.lengths.0 + words, self.lengths.1 + 1);
        }
    }

    /// A document went from `before` to `now`.
    pub(super) fn written(&mut self, before: &Expected, now: &Expected) {
        self.words += now.written.saturating_sub(before.written);
        self.tokens += now.tokens.saturating_sub(before.tokens);
    }

    /// False while the length of the documents is a guess.
    pub(super) fn is_known(&self) -> bool {
        self.lengths.1 > 0
    }

    /// Tokens that these documents still need, if `generated` have been generated so far: those that belong to no attempt yet
    /// that ended are of the sections that are being written.
    pub(super) fn tokens_left<'a>(&self, open: impl Iterator<Item = &'a Expected>, generated: u64) -> u64 {
        let mean = if self.is_known() { self.lengths.0 as f64 / self.lengths.1 as f64 } else { WORDS };
        let words: f64 =
            open.map(|it| (it.words.map_or(mean, |words| words as f64) - it.written as f64).max(0.0)).sum();
        // What plans, votes and rejected sections cost is part of each word.
        let per_word = (self.tokens as f64 + TOKENS_PER_WORD * PRIOR_WORDS) / (self.words as f64 + PRIOR_WORDS);
        let being_written = generated.saturating_sub(self.tokens) as f64;
        (words * per_word - being_written).max(1.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(words: Option<u64>, written: u64) -> Expected {
        Expected { words, written, ..Expected::default() }
    }

    #[test]
    fn what_is_being_written_counts_and_an_unknown_length_is_the_mean_of_the_others() {
        let mut estimate = Estimate::default();
        let open = [document(Some(3_000), 0), document(None, 0)];
        open.iter().for_each(|it| estimate.planned(None, it));
        assert_eq!(estimate.tokens_left(open.iter(), 0), 8_400, "6,000 words at 1.4");
        assert_eq!(estimate.tokens_left(open.iter(), 400), 8_000, "the first tokens move it");
        let after = Expected { written: 1_000, tokens: 2_000, ..open[0] };
        estimate.written(&open[0], &after);
        // 3,400 tokens for 2,000 words, the guess among them.
        assert_eq!(estimate.tokens_left([after, open[1]].iter(), 2_000), 8_500);
        assert_eq!(estimate.tokens_left([].iter(), 9_000), 1);
    }
}
