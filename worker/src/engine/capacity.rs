//! How many documents an engine takes: as many as fit into the KV pool until they end, by what is planned for each and by what
//! documents have taken so far.
//!
//! A document grows by a token at a time and gives all its memory back when it ends, so the pool is at its fullest at some
//! moment to come. If all grow at one pace, that is the moment before one of them ends. In the order of the tokens that they
//! have still to get, most first, the first k are there when the k-th ends, and each of them has grown by as many tokens as
//! that one had left. (The bound of the Past-Future scheduler, Gong et al. 2025, <https://arxiv.org/abs/2507.10150>.)

use std::cmp::Reverse;

use super::sequence::Sequence;

/// A share of the pool that is left free: plans are kept to only roughly.
const RESERVE: f64 = 0.03;
/// Tokens of a word before anything was written.
const TOKENS_PER_WORD: f64 = 1.5;
/// A mean follows its latest values: so many count.
const MEMORY: f64 = 64.0;
/// So many values weighs what is assumed before there are any.
const PRIOR: f64 = 8.0;
/// In steps: the estimate follows the texts' growth.
const REFRESH_STEPS: u64 = 32;

/// What a document takes of the pool, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Demand {
    now: usize,
    /// Until it ends.
    left: usize,
}

/// The most tokens that documents will take at one time.
fn peak(documents: &mut [Demand]) -> usize {
    documents.sort_unstable_by_key(|document| Reverse(document.left));
    let mut now = 0;
    let at_end = documents.iter().zip(1..).map(|(document, there)| {
        now += document.now;
        now + there * document.left
    });
    at_end.max().unwrap_or(0)
}

/// The mean of the latest values.
#[derive(Debug, Clone, Copy)]
struct Mean {
    value: f64,
    weight: f64,
}

impl Mean {
    const fn new(assumed: f64) -> Self {
        Self { value: assumed, weight: PRIOR }
    }

    fn add(&mut self, value: f64) {
        self.weight = (self.weight + 1.0).min(MEMORY);
        self.value += (value - self.value) / self.weight;
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Capacity {
    pool: usize,
    max_sequences: usize,
    tokens_per_word: Mean,
    /// Words of a document.
    words: Mean,
    /// Tokens of instruction, plan and templates.
    prompt: Mean,
    estimate: Option<Estimate>,
}

/// The last estimate.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    step: u64,
    /// Documents in the engine.
    here: usize,
    /// How many more fit.
    room: usize,
}

impl Capacity {
    /// For a pool of so many tokens. `document` is the size of a document, in tokens, that is assumed until some have come.
    pub(crate) fn new(pool: usize, max_sequences: usize, document: usize) -> Self {
        Self {
            pool,
            max_sequences: max_sequences.max(1),
            tokens_per_word: Mean::new(TOKENS_PER_WORD),
            words: Mean::new(document as f64 / TOKENS_PER_WORD),
            prompt: Mean::new(0.0),
            estimate: None,
        }
    }

    /// Learns from a task that has come: the first section tells how long a document is planned to be.
    pub(crate) fn started(&mut self, sequence: &Sequence) {
        if sequence.demand.first_section && sequence.demand.words_left > 0 {
            self.words.add(f64::from(sequence.demand.words_left));
            self.prompt.add(f64::from(sequence.usage.prompt));
        }
    }

    /// Learns from a task that is done how many tokens a word takes.
    pub(crate) fn ended(&mut self, sequence: &Sequence) {
        if sequence.demand.target_words > 0 {
            self.tokens_per_word.add(f64::from(sequence.usage.generated) / f64::from(sequence.demand.target_words));
        }
    }

    /// Documents that the engine can hold at a time, those in it included; at least one. `step` counts the device's steps.
    pub(crate) fn slots<'a>(&mut self, step: u64, sequences: impl Iterator<Item = &'a Sequence> + Clone) -> u32 {
        let here = sequences.clone().count();
        let is_fresh = |last: &Estimate| last.here == here && step < last.step + REFRESH_STEPS;
        let estimate = self.estimate.filter(is_fresh).unwrap_or_else(|| {
            let room = self.room(sequences.map(|sequence| self.demand(sequence)).collect());
            Estimate { step, here, room }
        });
        self.estimate = Some(estimate);
        (here + estimate.room).clamp(1, self.max_sequences) as u32
    }

    /// How many more documents of the mean size fit beside these.
    fn room(&self, mut documents: Vec<Demand>) -> usize {
        let new = Demand { now: 0, left: (self.prompt.value + self.words.value * self.tokens_per_word.value) as usize };
        let pool = (self.pool as f64 * (1.0 - RESERVE)) as usize;
        let here = documents.len();
        let mut room = 0;
        while here + room < self.max_sequences {
            documents.push(new);
            if peak(&mut documents) > pool {
                break;
            }
            room += 1;
        }
        room
    }

    fn demand(&self, sequence: &Sequence) -> Demand {
        let words = match sequence.demand.words_left {
            0 => self.words.value,
            words => f64::from(words),
        };
        let written = if sequence.demand.target_words > 0 { sequence.usage.generated as usize } else { 0 };
        Demand {
            now: sequence.tokens.len(),
            left: ((words * self.tokens_per_word.value) as usize).saturating_sub(written),
        }
    }
}

/// What a task says of its document's size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlannedWords {
    /// Of the document from this task on; 0 if not known.
    pub(crate) words_left: u32,
    /// Of this task's own text; 0 if it is none of the document's.
    pub(crate) target_words: u32,
    /// True for the first section.
    pub(crate) first_section: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_fullest_before_a_document_ends() {
        let of = |documents: &[(usize, usize)]| {
            let mut documents: Vec<Demand> = documents.iter().map(|&(now, left)| Demand { now, left }).collect();
            peak(&mut documents)
        };
        assert_eq!(of(&[]), 0);
        assert_eq!(of(&[(100, 50)]), 150);
        // After 10 tokens both are there with 110 and 20; after 90 more the second is alone with 110.
        assert_eq!(of(&[(100, 10), (10, 100)]), 130);
        assert_eq!(of(&[(10, 100), (10, 100), (10, 100)]), 330);
        assert_eq!(of(&[(1_000, 1), (0, 1_000)]), 1_002);
    }
}
