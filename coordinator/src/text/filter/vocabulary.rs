//! The English words: 116,000 of SCOWL's lists up to size 70, of which those up to size 35 are common. `data/make-words.sh` makes
//! the file, `data/words.LICENSE` has the terms.

use std::collections::HashMap;
use std::sync::LazyLock;

/// How well a word is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Everybody uses it.
    Common,
    /// It is in the list.
    Listed,
}

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let file = include_bytes!("../../../data/words.txt.zst");
    let text = zstd::decode_all(file.as_slice()).expect("a file that is compiled in, read by the tests");
    String::from_utf8(text).expect("lower-case letters")
});

/// The common words stand first, an empty line ends them.
static WORDS: LazyLock<HashMap<&str, Known>> = LazyLock::new(|| {
    let (common, others) = TEXT.split_once("\n\n").expect("two lists");
    let listed = others.lines().map(|word| (word, Known::Listed));
    listed.chain(common.lines().map(|word| (word, Known::Common))).collect()
});

/// What is known of a word in lower case; none if it is not English, or very rare.
pub(super) fn lookup(word: &str) -> Option<Known> {
    WORDS.get(word).copied()
}

/// True if the word is one that everybody uses.
pub(super) fn is_common(word: &str) -> bool {
    lookup(word) == Some(Known::Common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_common_listed_or_unknown() {
        for word in ["the", "printing", "colour", "color", "onset"] {
            assert_eq!(lookup(word), Some(Known::Common), "{word}");
        }
        for word in ["isthmian", "woodblock"] {
            assert_eq!(lookup(word), Some(Known::Listed), "{word}");
        }
        for word in ["andother", "toprotect", "", "The", "锅炉"] {
            assert_eq!(lookup(word), None, "{word}");
        }
    }
}
