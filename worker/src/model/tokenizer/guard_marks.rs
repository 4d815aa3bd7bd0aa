//! The characters that mark special tokens in what people wrote.

use std::collections::HashSet;

/// Marks around the written forms of special tokens in one conversation: two characters that its texts do not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardMarks {
    pub(super) open: char,
    pub(super) close: char,
}

impl GuardMarks {
    /// Private-use characters that stand in none of the texts; none if they hold all 6,400, which no text does.
    pub fn unused_in<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let private = '\u{e000}'..='\u{f8ff}';
        let used: HashSet<char> = texts.into_iter().flat_map(str::chars).filter(|c| private.contains(c)).collect();
        let mut unused = private.rev().filter(|c| !used.contains(c));
        Some(Self { open: unused.next()?, close: unused.next()? })
    }
}
