//! From a task to a sequence, off the device thread: template, tokens, checks, grammar, checkpoint.

use std::sync::Arc;

use longhand_proto::clock;
use longhand_proto::task::{Checkpoint, Failure, FinishReason, Task, TaskKind, Usage};
use tokio::sync::OwnedSemaphorePermit;

use super::block_manager::{BlockHash, BlockTable};
use super::codec::Codec;
use super::draft::{Bounds, Draft};
use super::grammar::{Grammar, GrammarError, Grammars, Next};
use super::outlet::Outlet;
use super::sequence::{Choice, Sequence};
use super::watch::Watch;
use crate::device::{BLOCK_TOKENS, RngKey};

/// A task as it was handed to the engine.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) task: Task,
    pub(crate) resume: Option<Checkpoint>,
    pub(crate) outlet: Outlet,
    pub(crate) watch: Watch,
    pub(crate) place: OwnedSemaphorePermit,
}

/// What a sequence must fit into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens of prompt and text together.
    pub(crate) context: usize,
    /// Tokens of the whole KV pool.
    pub(crate) pool: usize,
}

/// A sequence that is ready to run, and why it need not, if its checkpoint is the whole text.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) sequence: Box<Sequence>,
    pub(crate) ended: Option<FinishReason>,
}

#[derive(Debug)]
pub(crate) struct Preparer {
    codec: Arc<dyn Codec>,
    grammars: Grammars,
    tokenizer_hash: String,
    limits: Limits,
    next_id: u64,
}

impl Preparer {
    pub(crate) fn new(codec: Arc<dyn Codec>, grammars: Grammars, limits: Limits) -> Self {
        let tokenizer_hash = codec.info().tokenizer_hash;
        Self { codec, grammars, tokenizer_hash, limits, next_id: 0 }
    }

    /// Makes the sequence, or answers the request with a failure.
    pub(crate) fn prepare(&mut self, request: Request) -> Option<Prepared> {
        let Request { task, resume, mut outlet, watch, place } = request;
        if outlet.cancelled() {
            return None;
        }
        match self.draft(&task, resume, &watch) {
            Err(failure) => {
                drop(place);
                outlet.failed(failure);
                None
            }
            Ok(Drafted { mut tokens, prompt, draft, grammar, resumed, ended, next }) => {
                let usage = Usage {
                    prompt: prompt as u32,
                    generated: resumed as u32,
                    resumed: resumed as u32,
                    ..Usage::default()
                };
                outlet.tokens(&tokens[prompt..]);
                let mut hashes = Vec::new();
                BlockHash::extend(&mut hashes, &tokens);
                tokens.reserve(task.max_tokens.min(4096) as usize);
                let mut sequence = Box::new(Sequence {
                    id: self.next_id,
                    sampling: task.sampling,
                    key: RngKey { seed: task.seed, stream: stream(&task) },
                    tokens,
                    usage,
                    hashes,
                    table: BlockTable::default(),
                    computed: 0,
                    reusable: 0,
                    coming: None,
                    draft,
                    choice: Choice::Free,
                    grammar,
                    outlet,
                    watch,
                    place,
                });
                self.next_id += 1;
                let ended = ended.or_else(|| sequence.follow(next?, &*self.codec, self.limits.context));
                Some(Prepared { sequence, ended })
            }
        }
    }

    fn draft(&self, task: &Task, resume: Option<Checkpoint>, watch: &Watch) -> Result<Drafted, Failure> {
        let prompt = self.codec.prompt(&task.messages).map_err(|error| {
            permanent("bad_prompt", format!("the model's chat template refused the messages: {error}"))
        })?;
        if prompt.is_empty() {
            return Err(permanent("bad_prompt", "the model's chat template made an empty prompt".into()));
        }
        self.check_room(task, prompt.len())?;
        let mut taken = self.usable(resume);
        let constrained = task.constraint.is_some();
        let bounds =
            Bounds { length: task.length.filter(|_| !constrained), max_tokens: task.max_tokens.max(1) as usize };
        let begun = clock::wall();
        let mut grammar = match &task.constraint {
            Some(constraint) => Some(Box::new(self.grammars.compile(constraint).map_err(|error| bad(&error))?)),
            None => None,
        };
        let mut next = None;
        if let (Some(grammar), Some(constraint)) = (&mut grammar, &task.constraint) {
            next = grammar.replay(&taken).map_err(|error| bad(&error))?;
            if next.is_none() {
                // The checkpoint is of another grammar: write the text anew.
                taken.clear();
                **grammar = self.grammars.compile(constraint).map_err(|error| bad(&error))?;
                next = Some(grammar.next().map_err(|error| bad(&error))?);
            }
            watch.grammar(begun);
        }
        let mut draft = Draft::new(bounds, &task.sampling, &prompt, constrained);
        let mut ended = None;
        let (mut tokens, length) = (prompt.clone(), prompt.len());
        for token in &taken {
            // Nothing follows an end; a checkpoint that goes on was written under other rules.
            if ended.is_some() {
                break;
            }
            tokens.push(*token);
            ended = draft.push(*token, self.codec.token_bytes(*token));
            if tokens.len() >= self.limits.context {
                ended = ended.or(Some(FinishReason::Length));
            }
        }
        let resumed = tokens.len() - length;
        Ok(Drafted { tokens, prompt: length, draft, grammar, resumed, ended, next })
    }

    /// The checkpoint's tokens, if they mean the same here and are all text.
    fn usable(&self, resume: Option<Checkpoint>) -> Vec<u32> {
        let Some(checkpoint) = resume else { return Vec::new() };
        let same = checkpoint.tokenizer_hash == self.tokenizer_hash;
        let text = |token: &u32| !self.codec.is_special(*token) && !self.codec.eos().contains(token);
        if same && checkpoint.tokens.iter().all(text) { checkpoint.tokens } else { Vec::new() }
    }

    /// Refuses what cannot be written: at least the words below the floor must fit, a token each.
    fn check_room(&self, task: &Task, prompt: usize) -> Result<(), Failure> {
        let least = task.length.map_or(16, |length| (length.target_words as f32 * length.floor) as usize);
        let need = prompt + least.min(task.max_tokens as usize).max(1);
        let (context, pool) = (self.limits.context, self.limits.pool);
        if need > context {
            let message = format!(
                "the prompt has {prompt} tokens and its text needs at least {} more, but the model's context holds \
                 {context}; use a model with a longer context, or ask for a shorter text",
                need - prompt
            );
            return Err(permanent("context_too_small", message));
        }
        if need + 1 > pool {
            let message = format!(
                "the prompt has {prompt} tokens and its text needs at least {} more, but the KV pool holds {pool}; give \
                 the device more KV memory, or ask for a shorter text",
                need - prompt
            );
            return Err(permanent("kv_too_small", message));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Drafted {
    /// Prompt and resumed text.
    tokens: Vec<u32>,
    prompt: usize,
    draft: Draft,
    grammar: Option<Box<Grammar>>,
    resumed: usize,
    ended: Option<FinishReason>,
    /// What the grammar says comes first.
    next: Option<Next>,
}

pub(crate) fn permanent(class: &str, message: String) -> Failure {
    Failure { class: class.into(), message, permanent: true }
}

fn bad(error: &GrammarError) -> Failure {
    permanent("bad_constraint", format!("the task's constraint cannot be enforced: {error}"))
}

/// Names the text among all texts of a seed.
fn stream(task: &Task) -> u64 {
    let kind: u8 = match task.kind {
        TaskKind::Plan => 0,
        TaskKind::Section => 1,
        TaskKind::Judge => 2,
        TaskKind::Summary => 3,
    };
    let mut hash = blake3::Hasher::new_derive_key("longhand random stream v1");
    hash.update(task.document.as_bytes()).update(&[kind]).update(&task.section.to_le_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Tokens that a KV pool of `blocks` blocks holds.
pub(crate) fn pool_tokens(blocks: usize) -> usize {
    blocks * BLOCK_TOKENS
}
