//! What a figure is to the length: the length itself, or an end of what is allowed.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    About,
    Least,
    Most,
}
