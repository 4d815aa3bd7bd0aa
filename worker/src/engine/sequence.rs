//! A task inside the engine: its tokens, its KV blocks, the state of its text, and the sender of its events.

use std::sync::Arc;

use longhand_proto::task::{Backtrack, Failure, FinishReason, Output, Sampling, Usage};
use tokio::sync::OwnedSemaphorePermit;

use super::block_hash::BlockHash;
use super::block_manager::BlockTable;
use super::event_sender::EventSender;
use super::generation_state::{EndOfText, GenerationState, Outcome};
use super::grammar::{Continuation, Grammar, NextTokens};
use super::task_timer::TaskTimer;
use super::tokenizer_adapter::TokenizerAdapter;
use crate::device::{BLOCK_TOKENS, DEFERRED_TOKEN, RngKey, SampleParams};

/// Which tokens may come next.
#[derive(Debug, Clone)]
pub(crate) enum AllowedTokens {
    /// No grammar.
    Unconstrained,
    /// Those that a grammar allows: bit t of word t/32.
    Mask(Arc<[u32]>),
    /// Not known before the grammar's response: no token can be sampled yet.
    AwaitingGrammar,
}

/// What a task says of its document's size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PlannedWords {
    /// Of the document from this task on; 0 if not known.
    pub(crate) words_left: u32,
    /// Of this task's own text; 0 if it is none of the document's.
    pub(crate) target_words: u32,
    /// True for the first section.
    pub(crate) first_section: bool,
}

/// One task in the scheduler.
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
    /// The token after `tokens` is being sampled: its index among those of the step in flight. It may end the text.
    pub(crate) pending_token: Option<usize>,
    pub(crate) generation: GenerationState,
    pub(crate) allowed: AllowedTokens,
    /// None while a grammar request is under way, or without a constraint.
    pub(crate) grammar: Option<Box<Grammar>>,
    /// What its task says of the document's size.
    pub(crate) demand: PlannedWords,
    pub(crate) events: EventSender,
    pub(crate) timer: TaskTimer,
    /// Its permit in the engine's bounded queue.
    pub(crate) queue_permit: OwnedSemaphorePermit,
}

/// Tokens that the grammar and the script allow; those of the grammar where none is left: its fixed parts may have other letters.
fn both(grammar: &Arc<[u32]>, letters: Option<Arc<[u32]>>) -> Arc<[u32]> {
    let Some(letters) = letters else { return Arc::clone(grammar) };
    let both: Arc<[u32]> = grammar.iter().zip(letters.iter()).map(|(grammar, letters)| grammar & letters).collect();
    if both.iter().any(|word| *word != 0) { both } else { Arc::clone(grammar) }
}

impl Sequence {
    /// Tokens to compute before the next one can be sampled; at least one.
    pub(crate) fn uncomputed(&self) -> usize {
        self.tokens.len() + usize::from(self.pending_token.is_some()) - self.computed
    }

    /// The next `len` tokens to compute; the pending one as a [`DEFERRED_TOKEN`].
    pub(crate) fn next_tokens(&self, len: usize) -> impl Iterator<Item = u32> {
        let pending_token = self.pending_token.map(|index| DEFERRED_TOKEN | index as u32);
        self.tokens[self.computed..].iter().copied().chain(pending_token).take(len)
    }

    /// True if the next token cannot be sampled before the grammar's response.
    pub(crate) fn awaiting_grammar(&self) -> bool {
        matches!(self.allowed, AllowedTokens::AwaitingGrammar)
    }

    /// Adds a token of the text, sampled or forced, and sends it. One that is taken back at once is added to the generation
    /// only; [`Sequence::take_back`] comes next.
    pub(crate) fn append(&mut self, token: u32, tokenizer: &dyn TokenizerAdapter, context: usize) -> Outcome {
        self.timer.on_tokens(1);
        let outcome = self.generation.push(token, tokenizer.token_bytes(token));
        if let Outcome::Backtrack(_) = outcome {
            return outcome;
        }
        self.tokens.push(token);
        BlockHash::extend(&mut self.hashes, &self.tokens);
        self.usage.generated += 1;
        self.events.tokens(&[token]);
        let full = self.tokens.len() >= context && outcome == Outcome::Continues;
        if full { Outcome::Ends(FinishReason::Length) } else { outcome }
    }

    /// Takes back the end of the text. Its keys and values are the scheduler's business.
    pub(crate) fn take_back(&mut self, backtrack: Backtrack, tokenizer: &dyn TokenizerAdapter) {
        let (prompt, position) = (self.usage.prompt as usize, backtrack.position);
        self.tokens.truncate(prompt + position as usize);
        self.hashes.truncate(self.tokens.len() / BLOCK_TOKENS);
        self.usage.generated = position;
        self.usage.resumed = self.usage.resumed.min(position);
        self.generation.take_back(backtrack, &self.tokens[..prompt], |token| tokenizer.token_bytes(token));
        self.events.backtrack(backtrack);
    }

    /// Adds the forced tokens and takes the mask; returns why the text ends, if it does.
    pub(crate) fn apply_grammar(
        &mut self,
        next: NextTokens,
        tokenizer: &dyn TokenizerAdapter,
        context: usize,
    ) -> Option<FinishReason> {
        let whole = self.tokens.len() + next.forced.len();
        let ended = next.forced.iter().find_map(|token| match self.append(*token, tokenizer, context) {
            Outcome::Ends(reason) => Some(reason),
            Outcome::Continues => None,
            Outcome::Backtrack(_) => unreachable!("a text under a grammar is fixed"),
        });
        match next.then {
            // A limit reached with the last token truncates nothing.
            Continuation::Complete if self.tokens.len() == whole => Some(FinishReason::Stop),
            Continuation::Complete => ended,
            Continuation::Sample(mask) => {
                self.allowed = AllowedTokens::Mask(mask);
                ended
            }
        }
    }

    /// How to sample the next token. `suppressed` are the special tokens that do not end a text.
    pub(crate) fn sample_params(&self, suppressed: &[u32], tokenizer: &dyn TokenizerAdapter) -> SampleParams {
        let (bias, mask) = match &self.allowed {
            // The grammar alone decides when the text may end.
            AllowedTokens::Mask(mask) => (Vec::new(), Some(both(mask, self.generation.mask()))),
            AllowedTokens::Unconstrained | AllowedTokens::AwaitingGrammar => {
                (self.bias(suppressed, tokenizer), self.generation.mask())
            }
        };
        SampleParams {
            sampling: self.sampling,
            key: self.key,
            position: self.generation.len() as u32,
            penalised: self.generation.penalised().to_vec(),
            bias,
            mask,
        }
    }

    fn bias(&self, suppressed: &[u32], tokenizer: &dyn TokenizerAdapter) -> Vec<(u32, f32)> {
        let end = match self.generation.end_of_text() {
            EndOfText::Forbidden => f32::NEG_INFINITY,
            EndOfText::Bias(bias) => bias,
        };
        let forbidden = suppressed.iter().copied().chain(self.generation.forbidden());
        let mut bias: Vec<(u32, f32)> = forbidden.map(|token| (token, f32::NEG_INFINITY)).collect();
        bias.extend(self.generation.dry_penalties(|token| tokenizer.token_bytes(token)));
        if end != 0.0 {
            bias.extend(tokenizer.eos().iter().map(|token| (*token, end)));
        }
        bias
    }

    /// Ends the sequence with its text. The block table must have been released.
    pub(crate) fn done(mut self, finish_reason: FinishReason) {
        let backtracks = self.generation.backtracks();
        self.usage.backtracks = backtracks.len() as u32;
        self.usage.discarded = backtracks.iter().map(|backtrack| backtrack.discarded).sum();
        let timings = self.timer.end(finish_reason.as_str());
        drop(self.queue_permit);
        self.events.done(Output { text: self.generation.into_text(), finish_reason, usage: self.usage, timings });
    }

    /// Ends the sequence with an error. The block table must have been released.
    pub(crate) fn failed(self, failure: Failure) {
        self.timer.end(&failure.class);
        drop(self.queue_permit);
        self.events.failed(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grammar_keeps_to_the_script_unless_it_needs_another() {
        let mask = |words: [u32; 2]| Arc::<[u32]>::from(words);
        assert_eq!(*both(&mask([0b110, 1]), Some(mask([0b011, 0]))), [0b010, 0]);
        assert_eq!(*both(&mask([0b100, 0]), Some(mask([0b011, 1]))), [0b100, 0], "nothing would be left");
        assert_eq!(*both(&mask([0b100, 0]), None), [0b100, 0]);
    }
}
