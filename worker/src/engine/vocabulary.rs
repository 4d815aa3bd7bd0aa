//! What the engine knows of a vocabulary as a whole: which tokens begin or go on with a word, which differ by a space alone,
//! and which have letters of other scripts.

use std::collections::HashMap;
use std::sync::Arc;

use longhand_proto::task::Letters;

/// A token with one of these in its text ends a repetition, and is never penalised for one.
const BREAKERS: [u8; 4] = *b"\n:\"*";

/// Tables over all tokens. Clones share memory.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary(Arc<Tables>);

#[derive(Debug, Default)]
struct Tables {
    /// Number of tokens.
    tokens: u32,
    breakers: Bits,
    words: Bits,
    begins_in_word: Bits,
    ends_in_word: Bits,
    latin: Arc<[u32]>,
    chinese: Arc<[u32]>,
    han: Arc<[u32]>,
    /// By token that begins with a space: those with a sign in its place, or nothing.
    unspaced: HashMap<u32, Arc<[u32]>>,
    /// By token: all that are the same word in another form, and itself.
    variants: HashMap<u32, Arc<[u32]>>,
}

/// Bit t of word t/32 for token t.
#[derive(Debug, Default)]
struct Bits(Vec<u32>);

impl Bits {
    fn of(vocab: usize, is_set: impl Fn(u32) -> bool) -> Self {
        let mut words = vec![0_u32; vocab.div_ceil(32)];
        for token in (0..vocab as u32).filter(|token| is_set(*token)) {
            words[token as usize / 32] |= 1 << (token % 32);
        }
        Self(words)
    }

    fn get(&self, token: u32) -> bool {
        self.0.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }
}

impl Vocabulary {
    /// The tables of a vocabulary of `vocab` tokens with these texts; tokens of a chat template have none.
    pub fn new<'a>(vocab: usize, token_bytes: impl Fn(u32) -> &'a [u8]) -> Self {
        let bytes = |token| token_bytes(token);
        let is_breaker = |bytes: &[u8]| bytes.is_empty() || bytes.iter().any(|byte| BREAKERS.contains(byte));
        let by_text: HashMap<&[u8], u32> = (0..vocab as u32).map(|token| (bytes(token), token)).collect();
        let unspaced = |token| {
            let rest = bytes(token).strip_prefix(b" ").filter(|rest| begins_in_word(rest))?;
            let joined = ["", "_", ".", ",", "-", "/"].map(|sign| [sign.as_bytes(), rest].concat());
            let tokens: Vec<u32> = joined.iter().filter_map(|text| by_text.get(text.as_slice()).copied()).collect();
            (!tokens.is_empty()).then(|| (token, tokens.into()))
        };
        Self(Arc::new(Tables {
            tokens: vocab as u32,
            breakers: Bits::of(vocab, |token| is_breaker(bytes(token))),
            words: Bits::of(vocab, |token| !is_breaker(bytes(token)) && has_word(bytes(token))),
            begins_in_word: Bits::of(vocab, |token| begins_in_word(bytes(token))),
            ends_in_word: Bits::of(vocab, |token| ends_in_word(bytes(token))),
            latin: Bits::of(vocab, |token| is_allowed(bytes(token), Letters::Latin)).0.into(),
            chinese: Bits::of(vocab, |token| is_allowed(bytes(token), Letters::Chinese)).0.into(),
            han: Bits::of(vocab, |token| is_han(bytes(token))).0.into(),
            unspaced: (0..vocab as u32).filter_map(unspaced).collect(),
            variants: variants((0..vocab as u32).map(|token| (token, bytes(token)))),
        }))
    }

    /// True if the token ends a repetition.
    pub(crate) fn is_breaker(&self, token: u32) -> bool {
        self.0.breakers.get(token)
    }

    /// True if the token has a letter or digit, and does not end a repetition.
    pub(crate) fn is_word(&self, token: u32) -> bool {
        self.0.words.get(token)
    }

    /// The tokens that are this word in another form, with the token itself; empty if there is no other form.
    pub(crate) fn variants(&self, token: u32) -> &[u32] {
        self.0.variants.get(&token).map_or(&[], |variants| variants)
    }

    /// True if `next` goes on with the word that `token` ends with.
    pub(crate) fn continues_word(&self, token: u32, next: u32) -> bool {
        self.0.ends_in_word.get(token) && self.0.begins_in_word.get(next)
    }

    /// The tokens that would join this one to the word that `after` ends with: without the space that it begins with, or with
    /// a sign in its place.
    pub(crate) fn glued(&self, after: u32, token: u32) -> &[u32] {
        let tokens = self.0.unspaced.get(&token).filter(|_| self.0.ends_in_word.get(after));
        tokens.map_or(&[], |tokens| tokens)
    }

    /// Tokens whose letters a text may have, and those that the names are made of: bit t of word t/32. None if all are allowed.
    pub(crate) fn mask<'a>(
        &self,
        letters: Letters,
        names: &[String],
        token_bytes: impl Fn(u32) -> &'a [u8],
    ) -> Option<Arc<[u32]>> {
        let mask = match letters {
            Letters::Any => return None,
            // These have all Latin tokens.
            Letters::Latin => return Some(Arc::clone(&self.0.latin)),
            Letters::Chinese => return Some(Arc::clone(&self.0.chinese)),
            Letters::Han => &self.0.han,
        };
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.is_ascii()).collect();
        if names.is_empty() {
            return Some(Arc::clone(mask));
        }
        let mut mask = mask.to_vec();
        for (word, first) in mask.iter_mut().zip((0_u32..).step_by(32)) {
            let parts = (first..self.0.tokens.min(first + 32)).filter(|token| is_part(token_bytes(*token), &names));
            *word |= parts.fold(0, |bits, token| bits | 1 << (token % 32));
        }
        Some(mask.into())
    }
}

/// True if the text begins with a letter or digit of a script that has spaces between words.
fn begins_in_word(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|byte| is_word_byte(*byte))
}

fn ends_in_word(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '\u{c0}'..='\u{24f}'))
}

/// ASCII letters and digits, and the first byte of Latin letters with accents.
fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || (0xc3..=0xc9).contains(&byte)
}

/// True if the text has a letter or digit, or a part of a character that may be one.
fn has_word(bytes: &[u8]) -> bool {
    String::from_utf8_lossy(bytes).chars().any(|c| c.is_alphanumeric() || c == char::REPLACEMENT_CHARACTER)
}

/// Words that differ in case or in a plural's "s" alone, by each of them.
fn variants<'a>(tokens: impl Iterator<Item = (u32, &'a [u8])>) -> HashMap<u32, Arc<[u32]>> {
    let mut forms: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
    for (token, bytes) in tokens {
        let word = bytes.strip_prefix(b" ").unwrap_or(bytes);
        // A shorter one is seldom a word, and its form says little.
        if word.len() < 4 || !word.iter().all(u8::is_ascii_alphabetic) {
            continue;
        }
        let mut form = bytes.to_ascii_lowercase();
        if form.ends_with(b"s") && !form.ends_with(b"ss") {
            form.pop();
        }
        forms.entry(form).or_default().push(token);
    }
    let mut found = HashMap::new();
    for tokens in forms.into_values().filter(|tokens| tokens.len() > 1).map(Arc::<[u32]>::from) {
        found.extend(tokens.iter().map(|token| (*token, Arc::clone(&tokens))));
    }
    found
}

/// True if the text of the token has no letters but those allowed, and no byte that another letter could begin with.
fn is_allowed(bytes: &[u8], letters: Letters) -> bool {
    // D0 to DF begin Cyrillic to Arabic, E0, E1 and E3 to EE the scripts of Asia; E2 and EF begin punctuation too.
    let begins_foreign = |byte| match letters {
        Letters::Any => false,
        Letters::Latin => matches!(byte, 0xd0..=0xdf | 0xe0 | 0xe1 | 0xe3..=0xee),
        // C3 to C9 begin Latin letters with accents.
        Letters::Han => matches!(byte, 0xc3..=0xc9 | 0xd0..=0xdf | 0xe0 | 0xe1 | 0xea..=0xee),
        Letters::Chinese => matches!(byte, 0xd0..=0xdf | 0xe0 | 0xe1 | 0xea..=0xee),
    };
    let mut rest = bytes;
    loop {
        let (text, invalid) = match std::str::from_utf8(rest) {
            Ok(text) => (text, [].as_slice()),
            Err(error) => {
                let (valid, invalid) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), invalid)
            }
        };
        if !text.chars().all(|c| letters.allow(c)) {
            return false;
        }
        match invalid {
            [] => return true,
            [first, ..] if begins_foreign(*first) => return false,
            // Bytes that go on with a character belong to one that was allowed to begin.
            [_, after @ ..] => rest = after,
        }
    }
}

/// True if the token may be a part of one of the names.
fn is_part(token: &[u8], names: &[&str]) -> bool {
    // A space stands before the whole name only.
    match token.strip_prefix(b" ") {
        Some(begins) => !begins.is_empty() && names.iter().any(|name| name.as_bytes().starts_with(begins)),
        None if token.is_empty() => false,
        None => names.iter().any(|name| name.as_bytes().windows(token.len()).any(|part| part == token)),
    }
}

/// As [`is_allowed`], and no Latin word behind a space: a Chinese text has none between words, an English word that a model slips
/// into begins with one.
fn is_han(bytes: &[u8]) -> bool {
    let begins_word = bytes.strip_prefix(b" ").is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_alphabetic));
    !begins_word && is_allowed(bytes, Letters::Han)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_latin(bytes: &[u8]) -> bool {
        is_allowed(bytes, Letters::Latin)
    }

    fn is_chinese(bytes: &[u8]) -> bool {
        is_allowed(bytes, Letters::Chinese)
    }

    #[test]
    fn a_token_knows_the_word_that_it_begins_or_goes_on_with() {
        let texts: [&[u8]; 8] =
            [b"", b" house", b"house", b"ing", b" the", b"a: ", "\u{e9}t\u{e9}".as_bytes(), b"_house"];
        let vocabulary = Vocabulary::new(texts.len(), |token| texts[token as usize]);
        assert_eq!([0, 1, 5].map(|token| vocabulary.is_breaker(token)), [true, false, true]);
        assert!(vocabulary.continues_word(1, 3) && vocabulary.continues_word(6, 2));
        assert!(
            !vocabulary.continues_word(1, 4) && !vocabulary.continues_word(5, 3) && !vocabulary.continues_word(0, 3)
        );
        assert_eq!(vocabulary.glued(4, 1), [2, 7], "\"thehouse\", \"the_house\"");
        assert!(
            vocabulary.glued(5, 1).is_empty() && vocabulary.glued(4, 4).is_empty(),
            "no word before, no such token"
        );
    }

    #[test]
    fn forms_of_a_word_are_found_and_signs_are_no_words() {
        let texts: [&[u8]; 9] =
            [b" decision", b" decisions", b" Decisions", b"decision", b" class", b" clas", b",", b" ,", b" 19"];
        let vocabulary = Vocabulary::new(texts.len(), |token| texts[token as usize]);
        assert_eq!(vocabulary.variants(1), [0, 1, 2]);
        assert_eq!(vocabulary.variants(2), vocabulary.variants(0));
        assert!([3, 4, 5, 6].iter().all(|token| vocabulary.variants(*token).is_empty()));
        assert_eq!([1, 6, 7, 8].map(|token| vocabulary.is_word(token)), [true, false, false, true]);
    }

    #[test]
    fn a_mask_of_chinese_alone_keeps_capitals_and_signs() {
        for good in ["水", "，", "DNA", "3D", "α", "5°", "·", "\n\n", "——"] {
            assert!(is_han(good.as_bytes()), "{good}");
        }
        for bad in ["their", " research", " I", " GPT", "of艺", "é", "カ", "дом"] {
            assert!(!is_han(bad.as_bytes()), "{bad}");
        }
        assert!(is_han(&"水".as_bytes()[..2]) && !is_han(&"é".as_bytes()[..1]));
    }

    #[test]
    fn a_mask_of_chinese_alone_takes_the_parts_of_latin_names() {
        let texts: [&[u8]; 8] =
            ["水".as_bytes(), b"Open", b"Stack", b" Open", b" stack", b"tack", b" server", b"servers"];
        let vocabulary = Vocabulary::new(texts.len(), |token| texts[token as usize]);
        let mask = |names: &[String]| vocabulary.mask(Letters::Han, names, |token| texts[token as usize]).unwrap()[0];
        assert_eq!(mask(&["林原".into()]), 0b1);
        assert_eq!(mask(&["OpenStack".into()]), 0b10_1111);
    }

    #[test]
    fn a_mask_keeps_what_a_text_of_its_script_needs() {
        for good in ["word", " Word", "é", "“", "—", "😀", "α", "3.5", "\n\n", "…"] {
            assert!(is_latin(good.as_bytes()) && is_chinese(good.as_bytes()), "{good}");
        }
        for (text, latin, chinese) in [
            ("水", false, true),
            ("of艺", false, true),
            ("，", true, true),
            ("カ", false, false),
            ("дом", false, false),
            ("한", false, false),
        ] {
            assert_eq!((is_latin(text.as_bytes()), is_chinese(text.as_bytes())), (latin, chinese), "{text}");
        }
        let water = "水".as_bytes();
        assert!(!is_latin(&water[..2]) && is_chinese(&water[..2]), "the beginning of a character");
        assert!(is_latin(&water[2..]) && is_latin(&"“".as_bytes()[..2]), "the rest of one, and of a quotation mark");
        assert!(!is_latin(&"д".as_bytes()[..1]) && !is_chinese(&"한".as_bytes()[..2]) && is_latin(b""));
    }
}
