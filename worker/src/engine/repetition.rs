//! Repetition: a loop detector, n-grams that must not repeat, and the tokens that the repetition penalty applies to. Each
//! takes one token at a time, in constant time.

use std::collections::HashMap;

/// Longest period of a loop, in tokens: a long sentence.
const MAX_PERIOD: usize = 64;
/// Fewest tokens of a loop. Below that, a legitimate list or refrain would be stopped.
const MIN_LOOP_TOKENS: usize = 48;
/// Fewest repeats of a loop.
const MIN_REPEATS: usize = 4;

/// Detects a run of tokens repeated many times at the end of a text.
#[derive(Debug)]
pub(crate) struct LoopDetector {
    /// For each period p (index p - 1): how many tokens in a row were equal to the one p before.
    runs: [u32; MAX_PERIOD],
}

impl Default for LoopDetector {
    fn default() -> Self {
        Self { runs: [0; MAX_PERIOD] }
    }
}

impl LoopDetector {
    /// Takes the token after `text`. If the text loops with it, returns the number of tokens, this one included, since the
    /// first repeat began.
    pub(crate) fn push(&mut self, text: &[u32], token: u32) -> Option<usize> {
        let mut repeats = None;
        for (index, run) in self.runs.iter_mut().enumerate() {
            let period = index + 1;
            let same = text.len() >= period && text[text.len() - period] == token;
            *run = if same { *run + 1 } else { 0 };
            let looping = same && *run as usize + period >= MIN_LOOP_TOKENS.max(MIN_REPEATS * period);
            // A text that repeats with a period does so with its multiples, too: the shortest has the first repeat.
            repeats = repeats.or(looping.then_some(*run as usize));
        }
        repeats
    }
}

/// The tokens that would complete an n-gram that has occurred before.
#[derive(Debug)]
pub(crate) struct NgramBlocker {
    n: usize,
    /// Tokens seen after each (n-1)-gram, by its hash: a hash collision forbids a token too many at worst.
    after: HashMap<u64, Vec<u32>>,
    /// The latest n - 1 tokens.
    tail: Vec<u32>,
}

impl NgramBlocker {
    /// Blocks `n`-grams of the prompt and of what is pushed.
    pub(crate) fn new(n: u32, prompt: &[u32]) -> Self {
        let mut ngrams = Self { n: n.max(1) as usize, after: HashMap::new(), tail: Vec::new() };
        prompt.iter().for_each(|token| ngrams.push(*token));
        ngrams
    }

    pub(crate) fn push(&mut self, token: u32) {
        if self.tail.len() + 1 == self.n {
            let after = self.after.entry(hash(&self.tail)).or_default();
            if !after.contains(&token) {
                after.push(token);
            }
            if self.n == 1 {
                return;
            }
            self.tail.remove(0);
        }
        self.tail.push(token);
    }

    /// Tokens that must not come next.
    pub(crate) fn forbidden(&self) -> &[u32] {
        if self.tail.len() + 1 < self.n {
            return &[];
        }
        self.after.get(&hash(&self.tail)).map_or(&[], Vec::as_slice)
    }
}

/// FNV-1a over tokens: fast, and the same on every machine.
fn hash(tokens: &[u32]) -> u64 {
    tokens.iter().fold(0xcbf2_9ce4_8422_2325, |hash, token| (hash ^ u64::from(*token)).wrapping_mul(0x100_0000_01b3))
}

/// The distinct tokens among the latest `size` of prompt and text.
#[derive(Debug)]
pub(crate) struct PenaltyWindow {
    latest: std::collections::VecDeque<u32>,
    size: usize,
    distinct: Vec<u32>,
    /// Index in `distinct` and count in the window.
    entries: HashMap<u32, (usize, u32)>,
}

impl PenaltyWindow {
    pub(crate) fn new(size: u32, prompt: &[u32]) -> Self {
        let size = size as usize;
        let mut window = Self {
            latest: std::collections::VecDeque::with_capacity(size.min(4096)),
            size,
            distinct: Vec::new(),
            entries: HashMap::new(),
        };
        prompt[prompt.len().saturating_sub(size)..].iter().for_each(|token| window.push(*token));
        window
    }

    pub(crate) fn push(&mut self, token: u32) {
        if self.size == 0 {
            return;
        }
        if self.latest.len() == self.size
            && let Some(oldest) = self.latest.pop_front()
        {
            self.evict(oldest);
        }
        self.latest.push_back(token);
        let index = self.distinct.len();
        let (_, count) = self.entries.entry(token).or_insert((index, 0));
        *count += 1;
        if *count == 1 {
            self.distinct.push(token);
        }
    }

    fn evict(&mut self, token: u32) {
        let Some((index, count)) = self.entries.get_mut(&token) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        let index = *index;
        self.entries.remove(&token);
        self.distinct.swap_remove(index);
        if let Some(moved) = self.distinct.get(index)
            && let Some(entry) = self.entries.get_mut(moved)
        {
            entry.0 = index;
        }
    }

    pub(crate) fn distinct(&self) -> &[u32] {
        &self.distinct
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn loops(tokens: impl IntoIterator<Item = u32>) -> Option<usize> {
        let (mut detector, mut text) = (LoopDetector::default(), Vec::new());
        tokens.into_iter().position(|token| {
            let repeats = detector.push(&text, token);
            text.push(token);
            repeats.is_some()
        })
    }

    #[test]
    fn a_loop_is_seen_and_a_list_is_not() {
        let unit = |len: u32| (0..200).map(move |i| 1000 + i % len);
        assert_eq!(loops(unit(1)), Some(MIN_LOOP_TOKENS - 1), "one token for ever");
        assert_eq!(loops(unit(20)), Some(MIN_REPEATS * 20 - 1), "a sentence for ever");
        assert_eq!(loops((0..400).map(|i| i % 65)), None, "longer than a unit");
        // Twelve items of a list that differ in one token of eight.
        let list = (0..12).flat_map(|item| (0..8).map(move |i| if i == 3 { 500 + item } else { i }));
        assert_eq!(loops(list), None);
        // A refrain that comes three times.
        assert_eq!(loops((0..3).flat_map(|_| 0..30)), None);
        // A loop after a long ordinary text.
        assert!(loops((0..500).chain(unit(7))).is_some());
    }

    #[test]
    fn the_first_repeat_is_where_the_loop_begins() {
        let text: Vec<u32> = (0..100).chain((0..200).map(|i| 1000 + i % 20)).collect();
        let (mut detector, mut found) = (LoopDetector::default(), None);
        for end in 0..text.len() {
            found = found.or(detector.push(&text[..end], text[end]).map(|repeats| end + 1 - repeats));
        }
        assert_eq!(found, Some(120), "after the sentence that begins at 100");
    }

    proptest! {
        #[test]
        fn forbidden_tokens_are_those_a_search_finds(tokens in prop::collection::vec(0_u32..4, 0..60), n in 1_u32..5) {
            let ngrams = NgramBlocker::new(n, &tokens);
            let n = n as usize;
            let mut found = BTreeSet::new();
            if tokens.len() + 1 >= n {
                let tail = &tokens[tokens.len() + 1 - n..];
                found.extend(tokens.windows(n).filter(|run| &run[..n - 1] == tail).map(|run| run[n - 1]));
            }
            prop_assert_eq!(ngrams.forbidden().iter().copied().collect::<BTreeSet<_>>(), found);
        }

        #[test]
        fn the_window_holds_the_distinct_latest(tokens in prop::collection::vec(0_u32..6, 0..60), size in 0_u32..10, cut in 0_usize..60) {
            let cut = cut.min(tokens.len());
            let mut window = PenaltyWindow::new(size, &tokens[..cut]);
            tokens[cut..].iter().for_each(|token| window.push(*token));
            let latest = &tokens[tokens.len().saturating_sub(size as usize)..];
            prop_assert_eq!(window.distinct().len(), window.distinct().iter().collect::<BTreeSet<_>>().len());
            prop_assert_eq!(window.distinct().iter().collect::<BTreeSet<_>>(), latest.iter().collect::<BTreeSet<_>>());
        }
    }
}
