//! Shingles: what texts are compared by, in filters and in the search for duplicates. A word is a run of letters and digits,
//! or one character of a script that is written without spaces; a shingle is a run of words.

use crate::domain::language::Language;

/// Words of a shingle. Five English words and eight Chinese characters say about as much; in ordinary prose of a
/// section's length hardly any shingle occurs twice.
const fn shingle_length(language: Language) -> usize {
    match language {
        Language::En => 5,
        Language::Zh => 8,
    }
}

/// True for scripts written without spaces, where one character is one word.
pub(crate) const fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3134f}')
}

/// Hashes of the words of `text` in order, blind to case, spaces and punctuation. The same in every process.
pub fn word_hashes(text: &str) -> Vec<u64> {
    let mut words = Vec::with_capacity(text.len() / 5);
    let mut word: Option<u64> = None;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            word = Some(step(word.unwrap_or(BASIS), u64::from(c.to_ascii_lowercase())));
        } else if c.is_ascii() {
            if c != '\'' {
                words.extend(word.take().map(mix));
            }
        } else if is_ideograph(c) {
            words.extend(word.take().map(mix));
            words.push(mix(step(BASIS, c.into())));
        } else if c.is_alphanumeric() {
            word = Some(c.to_lowercase().fold(word.unwrap_or(BASIS), |word, c| step(word, c.into())));
        } else if c != '’' {
            words.extend(word.take().map(mix));
        }
    }
    words.extend(word.map(mix));
    words
}

/// One hash for each run of `n` words, in order.
pub fn shingles(words: &[u64], n: usize) -> impl Iterator<Item = u64> {
    words.windows(n).map(|run| mix(run.iter().fold(BASIS, |hash, word| step(hash, *word))))
}

/// Number of words of `text`.
pub(crate) fn word_count(text: &str) -> usize {
    word_hashes(text).len()
}

/// Tokens of a text under a usual byte-pair tokenizer, estimated: one a Chinese character, one for four of other characters.
pub(crate) fn tokens(text: &str) -> u64 {
    let (ideographs, others) =
        text.chars().fold((0, 0), |(i, o), c| if is_ideograph(c) { (i + 1, o) } else { (i, o + 1u64) });
    ideographs + others.div_ceil(4)
}

/// One number for a text, blind to case, spaces and punctuation.
pub(crate) fn fingerprint(text: &str) -> u64 {
    mix(word_hashes(text).into_iter().fold(BASIS, step))
}

/// Hashes of all shingles of the length that suits the language, in order.
pub(crate) fn ngrams(text: &str, language: Language) -> Vec<u64> {
    shingles(&word_hashes(text), shingle_length(language)).collect()
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
        while chars.next_if(|(_, c)| is_sentence_end(*c)).is_some() {}
        match chars.peek() {
            None => break,
            Some((at, next)) if ideographic || next.is_whitespace() => return *at,
            Some(_) => {}
        }
    }
    line.len()
}

/// What may follow the mark that ends a sentence.
pub(crate) const fn is_sentence_end(c: char) -> bool {
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
    fn an_ideograph_counts_as_a_word() {
        assert_eq!(word_count("Don't stop, it's 1999!"), 4);
        assert_eq!(word_count("使用GPT模型"), 5);
        assert_eq!(fingerprint("The  SHIP, sank."), fingerprint("the ship sank"));
        assert_ne!(fingerprint("the ship sank"), fingerprint("the ship sailed"));
    }
}
