//! How vocabularies spell bytes.

use std::collections::{HashMap, HashSet};

/// The letter that stands for each byte in byte-level vocabularies: printable Latin-1 stands for itself, the other 68
/// bytes for the letters from U+0100 on, in order.
pub(super) fn byte_letters() -> HashMap<char, u8> {
    let mut others = '\u{100}'..;
    (0..=u8::MAX)
        .map(|byte| {
            let itself = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
            let letter = if itself { Some(char::from(byte)) } else { others.next() };
            (letter.unwrap_or('\0'), byte)
        })
        .collect()
}

/// The bytes of a token of a byte-level vocabulary; none if a letter of it stands for no byte.
pub(super) fn of_byte_level(token: &str, letters: &HashMap<char, u8>) -> Option<Vec<u8>> {
    token.chars().map(|letter| letters.get(&letter).copied()).collect()
}

/// The byte that a SentencePiece token such as `<0x0A>` stands for.
pub(super) fn of_byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The bytes of a SentencePiece token: U+2581 stands for a space.
pub(super) fn of_sentence_piece(token: &str) -> Vec<u8> {
    token.replace('\u{2581}', " ").into_bytes()
}

/// The first byte of ordinary text that is not among `spelled`. Rare control characters and the bytes of unassigned planes
/// are no ordinary text: SmolLM2, for one, has no tokens for them, and every implementation drops them.
pub(super) fn first_lost(spelled: &HashSet<u8>) -> Option<u8> {
    let ordinary = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..=0xbf | 0xc2..=0xf0);
    (0..=u8::MAX).filter(ordinary).find(|byte| !spelled.contains(byte))
}
