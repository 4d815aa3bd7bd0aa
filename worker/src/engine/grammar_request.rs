//! What the device thread asks of the grammar threads: which tokens may follow a sampled one?

use super::grammar::{Grammar, GrammarError, NextTokens};

/// Asks which tokens may follow `token`. Takes the grammar along: one thread at a time advances it.
#[derive(Debug)]
pub(crate) struct GrammarRequest {
    /// The sequence.
    pub(crate) id: u64,
    pub(crate) grammar: Box<Grammar>,
    pub(crate) token: u32,
}

/// The response, with the grammar.
#[derive(Debug)]
pub(crate) struct GrammarResponse {
    pub(crate) id: u64,
    pub(crate) grammar: Box<Grammar>,
    pub(crate) next: Result<NextTokens, GrammarError>,
}

impl GrammarRequest {
    /// Computes the response; takes from a tenth of a millisecond to several.
    pub(crate) fn respond(self) -> GrammarResponse {
        let Self { id, mut grammar, token } = self;
        let next = grammar.advance(token).and_then(|()| grammar.next());
        GrammarResponse { id, grammar, next }
    }
}
