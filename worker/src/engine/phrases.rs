//! Banned phrases, found in a text as it grows: each byte is looked at once, wherever tokens begin and end.

use std::sync::Arc;

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, BuildError};

/// Phrases to look for. ASCII letters match in both cases; a phrase that begins or ends with a letter or digit matches whole
/// words only, in scripts that have spaces between words.
#[derive(Debug)]
pub(crate) struct PhraseSet {
    automaton: NFA,
    start: StateID,
    /// For each phrase whether it begins, and whether it ends, with a character of a word.
    edges: Vec<(bool, bool)>,
}

impl PhraseSet {
    /// None without phrases; blank ones are left out.
    ///
    /// # Errors
    /// The phrases are too many or too long for the automaton.
    pub(crate) fn new(phrases: &[String]) -> Result<Option<Self>, BuildError> {
        let phrases: Vec<&str> =
            phrases.iter().map(String::as_str).filter(|phrase| !phrase.trim().is_empty()).collect();
        if phrases.is_empty() {
            return Ok(None);
        }
        let automaton = NFA::builder().ascii_case_insensitive(true).build(&phrases)?;
        let Ok(start) = automaton.start_state(Anchored::No) else {
            unreachable!("an automaton has a start state of the kind that it was built with")
        };
        let edge = |c: Option<char>| c.is_some_and(is_of_word);
        let edges = phrases.iter().map(|phrase| (edge(phrase.chars().next()), edge(phrase.chars().next_back())));
        Ok(Some(Self { edges: edges.collect(), automaton, start }))
    }
}

/// Looks for the phrases of a set in one text.
#[derive(Debug)]
pub(crate) struct PhraseMatcher {
    set: Arc<PhraseSet>,
    state: StateID,
    /// Where the longest phrase begins that ends with the text so far, if it is complete only where its word ends.
    pending: Option<usize>,
}

impl PhraseMatcher {
    pub(crate) fn new(set: Arc<PhraseSet>) -> Self {
        Self { state: set.start, set, pending: None }
    }

    /// Takes what was added to `text` from byte `from` on; returns the byte at which the first completed phrase begins.
    pub(crate) fn push(&mut self, text: &str, from: usize) -> Option<usize> {
        let mut found = None;
        for (offset, c) in text[from..].char_indices() {
            if let Some(begin) = self.pending.take()
                && !is_of_word(c)
            {
                found = found.or(Some(begin));
            }
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                self.state = self.set.automaton.next_state(Anchored::No, self.state, byte);
            }
            if self.set.automaton.is_match(self.state) {
                let ended = self.on_match(text, from + offset + c.len_utf8());
                found = found.or(ended);
            }
        }
        found
    }

    /// Phrases end at byte `end`; returns where the longest begins that is complete already.
    fn on_match(&mut self, text: &str, end: usize) -> Option<usize> {
        let mut found: Option<usize> = None;
        for index in 0..self.set.automaton.match_len(self.state) {
            let phrase = self.set.automaton.match_pattern(self.state, index);
            let begin = end - self.set.automaton.pattern_len(phrase);
            let (begins_word, ends_word) = self.set.edges[phrase.as_usize()];
            if begins_word && text[..begin].chars().next_back().is_some_and(is_of_word) {
                continue;
            }
            let earliest = if ends_word { &mut self.pending } else { &mut found };
            *earliest = Some(earliest.map_or(begin, |other| other.min(begin)));
        }
        found
    }

    /// Where a phrase begins that the end of the text completes.
    pub(crate) fn end(&self) -> Option<usize> {
        self.pending
    }
}

/// True for letters and digits of scripts that separate words: next to each other they are parts of one word.
fn is_of_word(c: char) -> bool {
    // Thai to Burmese, Khmer; Chinese characters and Japanese syllables.
    let unspaced = matches!(c, '\u{e00}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{a4cf}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
    c.is_alphanumeric() && !unspaced
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where phrases are found in a text that comes in pieces, and at its end.
    fn find(phrases: &[&str], pieces: &[&str]) -> (Vec<usize>, Option<usize>) {
        let phrases: Vec<String> = phrases.iter().map(|&phrase| phrase.to_owned()).collect();
        let mut matcher = PhraseMatcher::new(Arc::new(PhraseSet::new(&phrases).unwrap().unwrap()));
        let (mut text, mut found) = (String::new(), Vec::new());
        for piece in pieces {
            let from = text.len();
            text.push_str(piece);
            found.extend(matcher.push(&text, from));
        }
        (found, matcher.end())
    }

    #[test]
    fn phrases_are_found_in_any_case_at_word_boundaries() {
        assert_eq!(find(&["delve"], &["We DELVE."]), (vec![3], None));
        assert_eq!(find(&["delve"], &["delve in"]), (vec![0], None), "at the very start");
        assert_eq!(find(&["delve"], &["We delve"]), (vec![], Some(3)), "at the very end");
        assert_eq!(find(&["delve"], &["Delves, redelve, delve2"]), (vec![], None), "in longer words");
        assert_eq!(find(&["!?"], &["Why!?"]), (vec![3], None), "complete at once");
        assert_eq!(find(&["综上所述"], &["好综上所述我们"]), (vec![3], None), "Chinese has no spaces");
        assert_eq!(find(&["über"], &["darüber, über "]), (vec![10], None));
        assert!(PhraseSet::new(&[String::new(), " ".into()]).unwrap().is_none());
    }

    #[test]
    fn the_longest_of_overlapping_phrases_counts() {
        assert_eq!(find(&["tapestry", "a rich tapestry"], &["It is a rich tapestry."]).0, [6]);
        assert_eq!(find(&["in the", "the end"], &["in the end."]).0, [0]);
    }

    #[test]
    fn a_phrase_is_found_however_its_text_is_cut() {
        let text = "Say, in CONCLUSION: 综上所述, all is well";
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let found = find(&["in conclusion", "综上所述", "well"], &[&text[..cut], &text[cut..]]);
            // Two in one piece are told as one: the text is taken back to the first.
            assert!(found.0 == [5, 20] || found.0 == [5], "{found:?} with a cut at {cut}");
            assert_eq!(found.1, Some(text.len() - 4));
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(find(&["in conclusion", "综上所述"], &letters).0, [5, 20]);
    }
}
