//! What texts are compared by: words (single characters where a script writes no spaces), their n-grams, sentences.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::document::Language;

/// Length of a compared run. Five English words and eight Chinese characters say about as much; in ordinary prose of a
/// section's length hardly any run of them occurs twice.
const fn n(language: Language) -> usize {
    match language {
        Language::En => 5,
        Language::Zh => 8,
    }
}

/// True for scripts written without spaces, where one character is one unit.
pub(super) const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3134f}')
}

/// Hashes of the units of `text` in order, blind to case, spaces and punctuation. They mean something within one
/// process only.
fn units(text: &str) -> Vec<u64> {
    let mut units = Vec::new();
    let mut word = String::new();
    let end_word = |word: &mut String, units: &mut Vec<u64>| {
        if !word.is_empty() {
            units.push(hash(word.as_str()));
            word.clear();
        }
    };
    for c in text.chars() {
        if is_ideograph(c) {
            end_word(&mut word, &mut units);
            units.push(hash(&c));
        } else if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if !matches!(c, '\'' | '’') {
            end_word(&mut word, &mut units);
        }
    }
    end_word(&mut word, &mut units);
    units
}

/// Number of units of `text`.
pub(super) fn count(text: &str) -> usize {
    units(text).len()
}

/// One number for a text, blind to case, spaces and punctuation.
pub(super) fn fingerprint(text: &str) -> u64 {
    hash(&units(text))
}

/// Hashes of all runs of `n` units, in order.
pub(super) fn ngrams(text: &str, language: Language) -> Vec<u64> {
    units(text).windows(n(language)).map(hash).collect()
}

/// Share of `items` that `seen` holds already or that came before among them. All items are added to `seen`.
pub(super) fn share_seen(items: &[u64], seen: &mut HashSet<u64>) -> f64 {
    let repeated = items.iter().filter(|item| !seen.insert(**item)).count();
    if items.is_empty() { 0.0 } else { repeated as f64 / items.len() as f64 }
}

/// The sentences of `text`, none empty; a line end ends a sentence too. Their ends keep punctuation and closing quotes.
pub(super) fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| {
        let mut rest = line;
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            if rest.is_empty() {
                return None;
            }
            let (sentence, after) = rest.split_at(sentence_end(rest));
            rest = after;
            Some(sentence.trim_end())
        })
    })
}

/// Byte length of the first sentence of one line.
fn sentence_end(line: &str) -> usize {
    let mut chars = line.char_indices().peekable();
    while let Some((_, c)) = chars.next() {
        let ideographic = matches!(c, '。' | '！' | '？' | '…');
        if !ideographic && !matches!(c, '.' | '!' | '?') {
            continue;
        }
        while chars.next_if(|(_, c)| is_end(*c)).is_some() {}
        match chars.peek() {
            None => break,
            Some((at, next)) if ideographic || next.is_whitespace() => return *at,
            Some(_) => {}
        }
    }
    line.len()
}

/// What may follow the mark that ends a sentence.
pub(super) const fn is_end(c: char) -> bool {
    matches!(
        c,
        '.' | '!'
            | '?'
            | '。'
            | '！'
            | '？'
            | '…'
            | '"'
            | '\''
            | '”'
            | '’'
            | '」'
            | '』'
            | '）'
            | ')'
            | '*'
            | '_'
            | '》'
    )
}

fn hash<T: Hash + ?Sized>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_in_both_languages() {
        let of = |text| sentences(text).collect::<Vec<_>>();
        assert_eq!(
            of("It rained. \"Run!\" she said.  No one did"),
            ["It rained.", "\"Run!\"", "she said.", "No one did"]
        );
        assert_eq!(of("下雨了。“快跑！”她说。没有人动"), ["下雨了。", "“快跑！”", "她说。", "没有人动"]);
        assert_eq!(of("Version 1.5 is out.\nNew line"), ["Version 1.5 is out.", "New line"]);
        assert!(of(" \n ").is_empty());
    }

    #[test]
    fn a_unit_is_a_word_or_an_ideograph() {
        assert_eq!(count("Don't stop, it's 1999!"), 4);
        assert_eq!(count("使用GPT模型"), 5);
        assert_eq!(fingerprint("The  SHIP, sank."), fingerprint("the ship sank"));
        assert_ne!(fingerprint("the ship sank"), fingerprint("the ship sailed"));
    }
}
