//! The decoding engine, in five nouns: sequence, scheduler, block manager, model runner, sampler. One OS thread owns
//! the device; everything else talks to it over bounded channels.

pub mod block_manager;
pub mod codec;
mod core;
mod draft;
mod grammar;
pub mod local;
pub mod mock;
mod model_runner;
pub mod openai;
mod outlet;
mod prepare;
mod repeat;
mod reuse;
mod scheduler;
mod sequence;
mod text;
mod watch;

use std::fmt::Debug;
use std::time::Duration;

use longhand_proto::task::{Checkpoint, Failure, ModelInfo, Output, Task};
use tokio::sync::mpsc;

/// What a worker asks to be written: the local engine, an OpenAI-compatible server, or the test double.
pub trait Engine: Send + Sync + Debug {
    fn model(&self) -> &ModelInfo;

    /// Documents that can be decoded at the same time without waiting for memory.
    fn slots(&self) -> u32;

    /// Queues a task. Never blocks. Dropping the returned value cancels it. What the engine does shows below the
    /// span that the task names.
    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation;

    /// Totals since the start.
    fn stats(&self) -> EngineStats;

    /// Resolves when the engine can write no more (its device failed, its thread died); never while it is well.
    fn dead(&self) -> futures::future::BoxFuture<'_, String>;
}

/// A task that is being written. Tokens come as they are made; the last event is `Done` or `Failed`.
#[derive(Debug)]
pub struct Generation {
    pub events: mpsc::Receiver<Event>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// New tokens since the last event (also those taken over from a checkpoint, first).
    Tokens(Vec<u32>),
    Done(Output),
    /// An error is never a text.
    Failed(Failure),
}

/// Totals of an engine since its start, and its state now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct EngineStats {
    pub running: u32,
    pub waiting: u32,
    pub steps: u64,
    /// Time spent on them.
    pub step_time: Duration,
    pub preemptions: u64,
    pub kv_blocks_used: u32,
    pub kv_blocks: u32,
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub reusable_tokens: u64,
    pub generated_tokens: u64,
}
