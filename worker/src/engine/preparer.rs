//! Makes a sequence of a task, off the device thread: template, tokens, limits, grammar, checkpoint.

use std::sync::Arc;

use longhand_proto::clock;
use longhand_proto::task::{Checkpoint, Failure, FinishReason, ModelInfo, RecommendedSampling, Task, TaskKind, Usage};
use tokio::sync::OwnedSemaphorePermit;

use super::block_hash::BlockHash;
use super::block_manager::BlockTable;
use super::event_sender::EventSender;
use super::generation_state::{Bounds, GenerationState, Outcome, TextRules};
use super::grammar::{Grammar, GrammarCompiler, GrammarError, NextTokens};
use super::names::NameSet;
use super::phrases::PhraseSet;
use super::sequence::{AllowedTokens, PlannedWords, Sequence};
use super::task_timer::TaskTimer;
use super::tokenizer_adapter::TokenizerAdapter;
use super::vocabulary::Vocabulary;
use crate::device::{BLOCK_TOKENS, RngKey};

/// A task as it was given to the engine.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) task: Task,
    pub(crate) resume: Option<Checkpoint>,
    pub(crate) events: EventSender,
    pub(crate) timer: TaskTimer,
    pub(crate) queue_permit: OwnedSemaphorePermit,
}

/// The limits that a sequence must fit into.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens of prompt and text together.
    pub(crate) context: usize,
    /// Tokens of the whole KV pool.
    pub(crate) pool: usize,
}

/// A sequence that is ready to run; `ended` says why it need not, if its checkpoint is the whole text.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) sequence: Box<Sequence>,
    pub(crate) ended: Option<FinishReason>,
}

/// Makes sequences of tasks, in order of arrival.
#[derive(Debug)]
pub(crate) struct Preparer {
    tokenizer: Arc<dyn TokenizerAdapter>,
    grammars: GrammarCompiler,
    tokenizer_hash: String,
    recommended: RecommendedSampling,
    limits: Limits,
    vocabulary: Vocabulary,
    next_id: u64,
}

impl Preparer {
    pub(crate) fn new(
        tokenizer: Arc<dyn TokenizerAdapter>,
        grammars: GrammarCompiler,
        limits: Limits,
        vocabulary: Vocabulary,
    ) -> Self {
        let ModelInfo { tokenizer_hash, sampling: recommended, .. } = tokenizer.info();
        Self { tokenizer, grammars, tokenizer_hash, recommended, limits, vocabulary, next_id: 0 }
    }

    /// Makes the sequence; if it cannot, sends the failure and returns none.
    pub(crate) fn prepare(&mut self, request: Request) -> Option<Prepared> {
        let Request { mut task, resume, mut events, timer, queue_permit } = request;
        task.sampling = task.sampling.with_recommended(&self.recommended);
        if events.is_cancelled() {
            return None;
        }
        match self.prepare_text(&task, resume, &timer) {
            Err(failure) => {
                drop(queue_permit);
                events.failed(failure);
                None
            }
            Ok(PreparedText { mut tokens, prompt, generation, grammar, resumed, ended, next }) => {
                let usage = Usage {
                    prompt: prompt as u32,
                    generated: resumed as u32,
                    resumed: resumed as u32,
                    ..Usage::default()
                };
                events.resumed(generation.backtracks(), &tokens[prompt..]);
                let mut hashes = Vec::new();
                BlockHash::extend(&mut hashes, &tokens);
                tokens.reserve(task.max_tokens.min(4096) as usize);
                let mut sequence = Box::new(Sequence {
                    id: self.next_id,
                    sampling: task.sampling,
                    key: RngKey { seed: task.seed, stream: rng_stream(&task) },
                    tokens,
                    usage,
                    hashes,
                    table: BlockTable::default(),
                    computed: 0,
                    reusable: 0,
                    pending_token: None,
                    generation,
                    allowed: AllowedTokens::Unconstrained,
                    grammar,
                    demand: planned_words(&task),
                    events,
                    timer,
                    queue_permit,
                });
                self.next_id += 1;
                let ended = ended.or_else(|| sequence.apply_grammar(next?, &*self.tokenizer, self.limits.context));
                Some(Prepared { sequence, ended })
            }
        }
    }

    fn prepare_text(
        &self,
        task: &Task,
        resume: Option<Checkpoint>,
        timer: &TaskTimer,
    ) -> Result<PreparedText, Failure> {
        let prompt = self.tokenizer.prompt(&task.messages).map_err(|error| {
            permanent("bad_prompt", format!("the model's chat template rejected the messages: {error}"))
        })?;
        if prompt.is_empty() {
            return Err(permanent("bad_prompt", "the model's chat template produced an empty prompt".into()));
        }
        self.check_size(task, prompt.len())?;
        let rules = self.text_rules(task)?;
        let mut checkpoint = self.valid_checkpoint(resume);
        let started = clock::wall();
        let mut grammar = match &task.constraint {
            Some(constraint) => {
                Some(Box::new(self.grammars.compile(constraint).map_err(|error| bad_constraint(&error))?))
            }
            None => None,
        };
        let mut next = None;
        if let (Some(grammar), Some(constraint)) = (&mut grammar, &task.constraint) {
            next = grammar.replay(&checkpoint.tokens).map_err(|error| bad_constraint(&error))?;
            if next.is_none() {
                // The checkpoint is of another grammar: restart the text.
                checkpoint.tokens.clear();
                **grammar = self.grammars.compile(constraint).map_err(|error| bad_constraint(&error))?;
                next = Some(grammar.next().map_err(|error| bad_constraint(&error))?);
            }
            timer.grammar_compiled(started);
        }
        let (generation, ended) = self.replay(rules, &prompt, checkpoint);
        let (resumed, length) = (generation.len(), prompt.len());
        let tokens = [prompt.as_slice(), generation.tokens()].concat();
        Ok(PreparedText { tokens, prompt: length, generation, grammar, resumed, ended, next })
    }

    fn text_rules(&self, task: &Task) -> Result<TextRules, Failure> {
        let fixed = task.constraint.is_some();
        let ban = PhraseSet::new(&task.ban)
            .map_err(|error| permanent("bad_ban", format!("the banned phrases cannot be searched for: {error}")))?;
        Ok(TextRules {
            bounds: Bounds { length: task.length.filter(|_| !fixed), max_tokens: task.max_tokens.max(1) as usize },
            sampling: task.sampling,
            fixed,
            vocabulary: self.vocabulary.clone(),
            ban: ban.map(Arc::new),
            mask: self.vocabulary.mask(task.letters, &task.names, |token| self.tokenizer.token_bytes(token)),
            names: Arc::new(NameSet::new(&task.names)),
        })
    }

    /// The state after a checkpoint, and why the text ends with it, if it does.
    fn replay(
        &self,
        rules: TextRules,
        prompt: &[u32],
        checkpoint: Checkpoint,
    ) -> (GenerationState, Option<FinishReason>) {
        let mut generation = GenerationState::new(rules, prompt);
        generation.resume(checkpoint.backtracks);
        for token in checkpoint.tokens {
            // Nothing follows an end; a checkpoint that continues was written under other limits.
            match generation.push(token, self.tokenizer.token_bytes(token)) {
                Outcome::Ends(reason) => return (generation, Some(reason)),
                Outcome::Backtrack(backtrack) => {
                    generation.take_back(backtrack, prompt, |token| self.tokenizer.token_bytes(token));
                    return (generation, None);
                }
                Outcome::Continues if prompt.len() + generation.len() >= self.limits.context => {
                    return (generation, Some(FinishReason::Length));
                }
                Outcome::Continues => {}
            }
        }
        (generation, None)
    }

    /// The checkpoint, if it is of this tokenizer and no token is special; otherwise an empty one.
    fn valid_checkpoint(&self, resume: Option<Checkpoint>) -> Checkpoint {
        let text = |token: &u32| !self.tokenizer.is_special(*token) && !self.tokenizer.eos().contains(token);
        let valid = |checkpoint: &Checkpoint| {
            let taken_back = checkpoint.backtracks.iter().map(|backtrack| &backtrack.token);
            checkpoint.tokenizer_hash == self.tokenizer_hash && checkpoint.tokens.iter().chain(taken_back).all(text)
        };
        resume.filter(valid).unwrap_or_default()
    }

    /// Rejects what cannot fit: at least the words below the floor need room, one token each.
    fn check_size(&self, task: &Task, prompt: usize) -> Result<(), Failure> {
        let minimum = task.length.map_or(16, |length| (length.target_words as f32 * length.floor) as usize);
        let need = prompt + minimum.min(task.max_tokens as usize).max(1);
        let (context, pool) = (self.limits.context, self.limits.pool);
        if need > context {
            let message = format!(
                "the prompt has {prompt} tokens and its text needs at least {} more, but the model's context holds \
                 {context}; use a model with a longer context, or request a shorter text",
                need - prompt
            );
            return Err(permanent("context_too_small", message));
        }
        if need + 1 > pool {
            let message = format!(
                "the prompt has {prompt} tokens and its text needs at least {} more, but the KV pool holds {pool}; give \
                 the device more KV memory, or request a shorter text",
                need - prompt
            );
            return Err(permanent("kv_too_small", message));
        }
        Ok(())
    }
}

/// The tokens of a sequence and the state that follows from them.
#[derive(Debug)]
struct PreparedText {
    /// Prompt and resumed text.
    tokens: Vec<u32>,
    prompt: usize,
    generation: GenerationState,
    grammar: Option<Box<Grammar>>,
    resumed: usize,
    ended: Option<FinishReason>,
    /// What the grammar allows next.
    next: Option<NextTokens>,
}

/// A failure that a retry cannot fix.
pub(crate) fn permanent(class: &str, message: String) -> Failure {
    Failure { class: class.into(), message, permanent: true }
}

fn bad_constraint(error: &GrammarError) -> Failure {
    permanent("bad_constraint", format!("invalid grammar constraint: {error}"))
}

/// What a task says of its document's size.
fn planned_words(task: &Task) -> PlannedWords {
    let is_text = task.kind == TaskKind::Section;
    PlannedWords {
        words_left: task.words_left,
        target_words: task.length.filter(|_| is_text).map_or(0, |length| length.target_words),
        first_section: is_text && task.section == 0,
    }
}

/// The random stream of the text: distinct for each text of a seed.
fn rng_stream(task: &Task) -> u64 {
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
