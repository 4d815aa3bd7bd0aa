//! The decoding engine: sequence, scheduler, block manager, model runner, tokenizer adapter. One OS thread owns the device;
//! everything else talks to it over bounded channels.

pub mod block_hash;
pub mod block_manager;
mod capacity;
pub mod dry;
mod engine_loop;
mod event_sender;
mod generation_state;
mod grammar;
mod grammar_request;
mod ideal_prefix_cache;
pub mod local;
pub mod mock;
mod model_runner;
pub mod names;
pub mod openai;
mod phrases;
mod preparer;
mod repetition;
mod scheduler;
mod sequence;
mod task_counters;
mod task_timer;
mod text_buffer;
pub mod tokenizer_adapter;
pub mod vocabulary;

use std::fmt::Debug;
use std::time::Duration;

use longhand_proto::task::{Backtrack, Checkpoint, Failure, ModelInfo, Output, Task};
use tokio::sync::mpsc;

/// Class of the failure of a task that a remote server had no time for. It is not the document's: its lease is handed back.
pub const SERVER_BUSY: &str = "server_busy";

/// What a worker decodes with: the local engine, an OpenAI-compatible server, or the test double.
pub trait Engine: Send + Sync + Debug {
    /// The model, for the records.
    fn model(&self) -> &ModelInfo;

    /// Documents that can be decoded at the same time without waiting for memory. It changes with what they are.
    fn slots(&self) -> u32;

    /// Queues a task. Never blocks. Dropping the returned value cancels it. The engine's spans are children of the span
    /// that the task names.
    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation;

    /// Totals since the start.
    fn stats(&self) -> EngineStats;

    /// Why it gets nothing done at present, such as the error of its server; none while it works.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Resolves, with the reason, when the engine can decode no more (its device failed, its thread died).
    fn dead(&self) -> futures::future::BoxFuture<'_, String>;
}

/// A task under way. Tokens come as they are generated; the last event is `Done` or `Failed`.
#[derive(Debug)]
pub struct Generation {
    /// The task's events, in order. Dropping the receiver cancels the task.
    pub events: mpsc::Receiver<Event>,
}

/// Runs one task to its end: its text, or the failure that the engine reported.
///
/// # Errors
/// Why the engine can decode no more.
pub async fn generate(engine: &dyn Engine, task: Task) -> Result<Result<Output, Failure>, String> {
    let mut generation = engine.start(task, None);
    loop {
        let event = tokio::select! {
            biased;
            why = engine.dead() => return Err(why),
            event = generation.events.recv() => event,
        };
        match event {
            Some(Event::Tokens(_)) => {}
            Some(Event::Done(output)) => return Ok(Ok(output)),
            Some(Event::Failed(failure)) => return Ok(Err(failure)),
            None => return Err("the engine ended during an answer".to_owned()),
        }
    }
}

/// What happens to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// How the tokens changed since the last event (first, those resumed from a checkpoint).
    Tokens(Delta),
    /// The task's text; the last event.
    Done(Output),
    /// Why there is no text; the last event. An error is never sent as a text.
    Failed(Failure),
}

/// A change of the tokens of a text under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// Where the text was taken back, in order of time. Comes before `tokens`.
    pub backtracks: Vec<Backtrack>,
    /// Tokens added to the end.
    pub tokens: Vec<u32>,
}

impl Delta {
    /// Changes the tokens and backtracks of a checkpoint.
    pub fn apply(self, checkpoint: &mut Checkpoint) {
        for backtrack in &self.backtracks {
            checkpoint.tokens.truncate(backtrack.position as usize);
        }
        checkpoint.backtracks.extend(self.backtracks);
        checkpoint.tokens.extend(self.tokens);
    }

    /// True if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.backtracks.is_empty() && self.tokens.is_empty()
    }
}

impl From<Vec<u32>> for Delta {
    fn from(tokens: Vec<u32>) -> Self {
        Self { backtracks: Vec::new(), tokens }
    }
}

/// Totals of an engine since its start, and its state now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EngineStats {
    /// Sequences in the current batch.
    pub running: u32,
    /// Sequences waiting for memory.
    pub waiting: u32,
    /// Steps of the device.
    pub steps: u64,
    /// Time spent on them.
    pub step_time: Duration,
    /// Sequences preempted because KV memory ran out.
    pub preemptions: u64,
    /// Tokens that were computed for them, and that memory holds no more.
    pub preempted_tokens: u64,
    /// Documents that fit into memory until they end; 0 where the engine has no memory of its own.
    pub slots: u32,
    /// KV blocks in use now.
    pub kv_blocks_used: u32,
    /// KV blocks of the pool; 0 where the engine has none of its own.
    pub kv_blocks: u32,
    /// Prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    pub cached_tokens: u64,
    /// Prompt tokens that the prefix cache of an unlimited pool would have held.
    pub reusable_tokens: u64,
    /// Tokens generated, also those that were taken back.
    pub generated_tokens: u64,
}
