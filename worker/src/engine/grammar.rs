//! Grammars that constrain a text. The tokens allowed next are computed off the device thread, while the device decodes
//! other sequences.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{InferenceCapabilities, TokEnv};
use llguidance::{Matcher, ParserFactory, panic_utils};
use longhand_proto::task::Constraint;

/// Compiles grammars for one tokenizer.
pub(crate) struct GrammarCompiler {
    factory: ParserFactory,
    /// Words of a mask: the device's vocabulary may be larger than the tokenizer's.
    mask_words: usize,
}

impl std::fmt::Debug for GrammarCompiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarCompiler").field("mask_words", &self.mask_words).finish_non_exhaustive()
    }
}

/// The parser state of one text.
pub(crate) struct Grammar {
    matcher: Matcher,
    mask_words: usize,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

/// What a grammar allows after some tokens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NextTokens {
    /// Tokens that must come now; the model does not sample them.
    pub(crate) forced: Vec<u32>,
    pub(crate) then: Continuation,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Continuation {
    /// The model samples among these: bit t of word t/32.
    Sample(Arc<[u32]>),
    /// The text is complete; nothing can follow.
    Complete,
}

/// A token that the grammar rejects, or a grammar that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct GrammarError(String);

fn grammar_error(error: impl std::fmt::Display) -> GrammarError {
    GrammarError(format!("{error:#}"))
}

impl GrammarCompiler {
    pub(crate) fn new(tokens: &TokEnv, vocab: usize) -> Result<Self, GrammarError> {
        // Forced text is tokenized as the tokenizer would; one that cannot guarantee that forces no tokens.
        let able = InferenceCapabilities { ff_tokens: tokens.tokenize_is_canonical(), ..Default::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(tokens, able, &slices).map_err(grammar_error)?;
        factory.quiet();
        Ok(Self { factory, mask_words: vocab.div_ceil(32) })
    }

    /// The grammar before the first token. An invalid one is an error, even if the compiler panics.
    pub(crate) fn compile(&self, constraint: &Constraint) -> Result<Grammar, GrammarError> {
        let grammar = match constraint {
            Constraint::Lark(text) => TopLevelGrammar::from_lark(text.clone()),
            Constraint::JsonSchema(text) => {
                let mut schema: serde_json::Value = serde_json::from_str(text).map_err(grammar_error)?;
                if let Some(schema) = schema.as_object_mut() {
                    // A small model may emit white space without end where it is free to.
                    let layout = serde_json::json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
                    schema.entry("x-guidance").or_insert(layout);
                }
                TopLevelGrammar::from_json_schema(schema)
            }
        };
        let parser = panic_utils::catch_unwind(AssertUnwindSafe(|| self.factory.create_parser(grammar)))
            .map_err(grammar_error)?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(error) => Err(GrammarError(error)),
            None => Ok(Grammar { matcher, mask_words: self.mask_words }),
        }
    }
}

impl Grammar {
    /// What must and may come next. Forced tokens are consumed.
    pub(crate) fn next(&mut self) -> Result<NextTokens, GrammarError> {
        let mut forced = Vec::new();
        while !self.matcher.is_stopped() {
            let more = self.matcher.consume_ff_tokens();
            if more.is_empty() {
                break;
            }
            forced.extend(more);
        }
        if let Some(error) = self.matcher.get_error() {
            return Err(GrammarError(error));
        }
        if self.matcher.is_stopped() {
            return Ok(NextTokens { forced, then: Continuation::Complete });
        }
        let mask = self.matcher.compute_mask().map_err(grammar_error)?;
        let mut words = mask.as_slice().to_vec();
        words.resize(self.mask_words, 0);
        Ok(NextTokens { forced, then: Continuation::Sample(words.into()) })
    }

    /// Consumes a token that the model sampled.
    pub(crate) fn advance(&mut self, token: u32) -> Result<(), GrammarError> {
        self.matcher.consume_token(token).map_err(grammar_error)
    }

    /// Consumes the tokens of a checkpoint, forced and sampled; returns what comes after them, or none if this grammar
    /// does not accept them. Forced tokens that the checkpoint lacks come first.
    pub(crate) fn replay(&mut self, tokens: &[u32]) -> Result<Option<NextTokens>, GrammarError> {
        let mut at = 0;
        loop {
            let next = self.next()?;
            let left = &tokens[at..];
            let known = left.len().min(next.forced.len());
            if left[..known] != next.forced[..known] {
                return Ok(None);
            }
            at += known;
            if at == tokens.len() {
                return Ok(Some(NextTokens { forced: next.forced[known..].to_vec(), then: next.then }));
            }
            match next.then {
                Continuation::Complete => return Ok(None),
                Continuation::Sample(mask) => {
                    let token = tokens[at];
                    let allowed = mask.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1);
                    if !allowed {
                        return Ok(None);
                    }
                    self.advance(token)?;
                    at += 1;
                }
            }
        }
    }
}
