//! A number of words that a text states.

/// One figure said of the text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figure {
    pub(super) words: u32,
    pub(super) bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    About,
    Least,
    Most,
}

/// The middle of a range.
pub(super) fn middle(from: u32, to: u32) -> u32 {
    from + (to - from) / 2
}
