//! What texts are compared by, in filters and in the search for duplicates: words (single characters where a script writes
//! no spaces), their runs, sentences.

use std::collections::HashSet;

use crate::domain::language::Language;

/// Length of a compared run. Five English words and eight Chinese characters say about as much; in ordinary prose of a
/// section's length hardly any run of them occurs twice.
const fn n(language: Language) -> usize {
    match language {
        Language::En => 5,
        Language::Zh => 8,
    }
}

/// True for scripts written without spaces, where one character is one unit.
pub(crate) const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3134f}')
}

/// Hashes of the units of `text` in order, blind to case, spaces and punctuation. The same in every process.
pub(crate) fn units(text: &str) -> Vec<u64> {
    let mut units = Vec::with_capacity(text.len() / 5);
    let mut word: Option<u64> = None;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            word = Some(step(word.unwrap_or(BASIS), u64::from(c.to_ascii_lowercase())));
        } else if c.is_ascii() {
            if c != '\'' {
                units.extend(word.take().map(mix));
            }
        } else if is_ideograph(c) {
            units.extend(word.take().map(mix));
            units.push(mix(step(BASIS, c.into())));
        } else if c.is_alphanumeric() {
            word = Some(c.to_lowercase().fold(word.unwrap_or(BASIS), |word, c| step(word, c.into())));
        } else if c != '’' {
            units.extend(word.take().map(mix));
        }
    }
    units.extend(word.map(mix));
    units
}

/// One number for each run of `n` units, in order.
pub(crate) fn runs(units: &[u64], n: usize) -> impl Iterator<Item = u64> {
    units.windows(n).map(|run| mix(run.iter().fold(BASIS, |hash, unit| step(hash, *unit))))
}

/// Number of units of `text`.
pub(crate) fn count(text: &str) -> usize {
    units(text).len()
}

/// Tokens of a text under a usual byte-pair tokenizer, estimated: one a Chinese character, one for four of other characters.
pub(crate) fn tokens(text: &str) -> u64 {
    let (ideographs, others) =
        text.chars().fold((0, 0), |(i, o), c| if is_ideograph(c) { (i + 1, o) } else { (i, o + 1u64) });
    ideographs + others.div_ceil(4)
}

/// One number for a text, blind to case, spaces and punctuation.
pub(crate) fn fingerprint(text: &str) -> u64 {
    mix(units(text).into_iter().fold(BASIS, step))
}

/// Hashes of all runs of `n` units, in order.
pub(crate) fn ngrams(text: &str, language: Language) -> Vec<u64> {
    runs(&units(text), n(language)).collect()
}

/// Share of `items` that `seen` holds already or that came before among them. All items are added to `seen`.
pub(crate) fn share_seen(items: &[u64], seen: &mut HashSet<u64>) -> f64 {
    let repeated = items.iter().filter(|item| !seen.insert(**item)).count();
    if items.is_empty() { 0.0 } else { repeated as f64 / items.len() as f64 }
}

/// The sentences of `text`, none empty; a line end ends a sentence too. Their ends keep punctuation and closing quotes.
pub(crate) fn sentences(text: &str) -> impl Iterator<Item = &str> {
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
pub(crate) const fn is_end(c: char) -> bool {
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

const BASIS: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes one more value into a hash.
const fn step(hash: u64, value: u64) -> u64 {
    (hash.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// Spreads what a hash holds over all its bits.
pub(crate) const fn mix(mut hash: u64) -> u64 {
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (hash >> 29)
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
