//! A task inside the engine: its tokens, its place in the KV pool, its text in the making, and who waits for it.

use std::sync::Arc;

use longhand_proto::task::{Failure, FinishReason, Output, Sampling, Usage};
use tokio::sync::OwnedSemaphorePermit;

use super::block_manager::{BlockHash, BlockTable};
use super::codec::Codec;
use super::draft::{Draft, End};
use super::grammar::{Grammar, Next, Then};
use super::outlet::Outlet;
use super::watch::Watch;
use crate::device::{CHOSEN, RngKey, SampleParams};

/// Who says which tokens may come next.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// No grammar.
    Free,
    /// A grammar: bit t of word t/32.
    Among(Arc<[u32]>),
    /// A grammar that is being asked: no token can be chosen yet.
    Asked,
}

#[derive(Debug)]
pub(crate) struct Sequence {
    /// Order of arrival.
    pub(crate) id: u64,
    pub(crate) sampling: Sampling,
    pub(crate) key: RngKey,
    /// Prompt and text.
    pub(crate) tokens: Vec<u32>,
    pub(crate) usage: Usage,
    /// Hashes of the full blocks of `tokens`.
    pub(crate) hashes: Vec<BlockHash>,
    pub(crate) table: BlockTable,
    /// Leading tokens whose keys and values are in the pool.
    pub(crate) computed: usize,
    /// Leading tokens that an ideal pool held when this was admitted.
    pub(crate) reusable: usize,
    /// The token after `tokens` is being chosen: its number among those of the step. Whether the text goes on is not known.
    pub(crate) coming: Option<usize>,
    pub(crate) draft: Draft,
    pub(crate) choice: Choice,
    /// Away while it is asked.
    pub(crate) grammar: Option<Box<Grammar>>,
    pub(crate) outlet: Outlet,
    pub(crate) watch: Watch,
    /// Its place in the engine's bounded queue.
    pub(crate) place: OwnedSemaphorePermit,
}

impl Sequence {
    /// Tokens to compute before the next one can be chosen; at least one.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() + usize::from(self.coming.is_some()) - self.computed
    }

    /// The tokens to compute next; the one that is coming by its number.
    pub(crate) fn next(&self, len: usize) -> impl Iterator<Item = u32> {
        let coming = self.coming.map(|number| CHOSEN | number as u32);
        self.tokens[self.computed..].iter().copied().chain(coming).take(len)
    }

    /// True if a grammar has yet to say what may come next.
    pub(crate) fn asked(&self) -> bool {
        matches!(self.choice, Choice::Asked)
    }

    /// Takes a token of the text, chosen or forced; says why the text ends with it, if it does.
    fn push(&mut self, token: u32, codec: &dyn Codec, context: usize) -> Option<FinishReason> {
        self.tokens.push(token);
        BlockHash::extend(&mut self.hashes, &self.tokens);
        self.usage.generated += 1;
        let full = (self.tokens.len() >= context).then_some(FinishReason::Length);
        self.draft.push(token, codec.token_bytes(token)).or(full)
    }

    /// Takes tokens up to the one that ends the text, if one does, and hands them out.
    pub(crate) fn push_all(&mut self, tokens: &[u32], codec: &dyn Codec, context: usize) -> Option<FinishReason> {
        let old = self.tokens.len();
        let ended = tokens.iter().find_map(|token| self.push(*token, codec, context));
        self.watch.wrote(self.tokens.len() - old);
        self.outlet.tokens(&self.tokens[old..]);
        ended
    }

    /// Takes what a grammar says comes next; says why the text ends, if it does.
    pub(crate) fn follow(&mut self, next: Next, codec: &dyn Codec, context: usize) -> Option<FinishReason> {
        let whole = self.tokens.len() + next.forced.len();
        let ended = self.push_all(&next.forced, codec, context);
        match next.then {
            // A bound that is reached with the last token cuts nothing.
            Then::Complete if self.tokens.len() == whole => Some(FinishReason::Stop),
            Then::Complete => ended,
            Then::Choose(mask) => {
                self.choice = Choice::Among(mask);
                ended
            }
        }
    }

    /// How to choose the next token. `never` are the tokens that are no text.
    pub(crate) fn params(&self, never: &[u32], eos: &[u32]) -> SampleParams {
        let (bias, mask) = match &self.choice {
            // The grammar alone decides, the end included.
            Choice::Among(mask) => (Vec::new(), Some(Arc::clone(mask))),
            Choice::Free | Choice::Asked => (self.bias(never, eos), None),
        };
        SampleParams {
            sampling: self.sampling,
            key: self.key,
            position: self.draft.len() as u32,
            penalised: self.draft.penalised().to_vec(),
            bias,
            mask,
        }
    }

    fn bias(&self, never: &[u32], eos: &[u32]) -> Vec<(u32, f32)> {
        let end = match self.draft.end() {
            End::Forbidden => f32::NEG_INFINITY,
            End::Bias(bias) => bias,
        };
        let forbid = never.iter().chain(self.draft.forbidden()).map(|token| (*token, f32::NEG_INFINITY));
        if end == 0.0 { forbid.collect() } else { forbid.chain(eos.iter().map(|token| (*token, end))).collect() }
    }

    /// Ends the sequence with its text. The block table must have been given back.
    pub(crate) fn done(self, finish_reason: FinishReason) {
        let timings = self.watch.end(finish_reason.as_str());
        drop(self.place);
        self.outlet.done(Output { text: self.draft.into_text(), finish_reason, usage: self.usage, timings });
    }

    /// Ends the sequence with an error. The block table must have been given back.
    pub(crate) fn failed(self, failure: Failure) {
        self.watch.end(&failure.class);
        drop(self.place);
        self.outlet.failed(failure);
    }
}
