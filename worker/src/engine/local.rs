//! The local engine: a device, the thread that owns it, and the threads that work for it.
//!
//! ```text
//!   start ──▶ preparer ──▶ device thread ──▶ events
//!                           │        ▲
//!                           ▼        │
//!                         grammar threads
//! ```
//! All queues are bounded by the permits for tasks, so none of these threads ever blocks on a full one.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use longhand_proto::task::{Checkpoint, Failure, ModelInfo, Task};
use tokio::sync::{Semaphore, watch};

use super::capacity::Capacity;
use super::engine_loop::{EngineLoop, LoopExit, Message};
use super::event_sender::{EventSender, engine_dead};
use super::grammar::GrammarCompiler;
use super::grammar_request::GrammarRequest;
use super::model_runner::ModelRunner;
use super::preparer::{Limits, Preparer, Request, pool_tokens};
use super::scheduler::Scheduler;
use super::task_timer::TaskTimer;
use super::tokenizer_adapter::TokenizerAdapter;
use super::vocabulary::Vocabulary;
use super::{Engine, EngineStats, Generation};
use crate::device::Device;

/// Limits of a local engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Sequences decoded at the same time.
    pub max_sequences: usize,
    /// Tasks that may wait beyond those; more are rejected as overloaded.
    pub max_waiting: usize,
    /// Threads that compute grammar masks.
    pub grammar_threads: usize,
    /// Tokens of prompt and text together, if fewer than the model holds.
    pub context: Option<u32>,
}

impl Default for EngineOptions {
    /// One grammar thread keeps up with 16 plans at once; 256 tasks wait in a megabyte or so.
    fn default() -> Self {
        Self { max_sequences: 16, max_waiting: 256, grammar_threads: 1, context: None }
    }
}

/// An engine that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The device's KV pool is empty.
    #[error("the device has no KV blocks; give it more KV memory")]
    NoBlocks,
    /// Its vocabulary does not fit the grammar library.
    #[error("the model's tokenizer is not supported by grammars: {0}")]
    Tokenizer(String),
    /// The operating system started no thread.
    #[error("cannot start the engine's thread {name}: {source}")]
    Thread { name: &'static str, source: std::io::Error },
}

/// See the module's documentation. Dropping it fails its tasks and joins its threads.
#[derive(Debug)]
pub struct LocalEngine {
    model: ModelInfo,
    queue_permits: Arc<Semaphore>,
    /// None while being dropped: the preparer ends when it is gone.
    requests: Option<SyncSender<Request>>,
    messages: SyncSender<Message>,
    stats: watch::Receiver<EngineStats>,
    failure: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
}

impl LocalEngine {
    /// Takes the device and starts the threads. Hashes the model's weights if that has not been done yet.
    ///
    /// # Errors
    /// The device or the tokenizer cannot be used, or a thread cannot be started.
    pub fn start(
        model: Arc<dyn TokenizerAdapter>,
        device: Box<dyn Device>,
        options: &EngineOptions,
    ) -> Result<Self, StartError> {
        let (blocks, vocab) = (device.kv_blocks(), device.vocab());
        if blocks == 0 {
            return Err(StartError::NoBlocks);
        }
        let info = model_info(&*model, &*device, options);
        let limits = Limits { context: info.context as usize, pool: pool_tokens(blocks) };
        let grammars =
            GrammarCompiler::new(&model.tok_env(), vocab).map_err(|error| StartError::Tokenizer(error.to_string()))?;
        let eos = model.eos();
        let suppressed = (0..vocab as u32).filter(|token| model.is_special(*token) && !eos.contains(token)).collect();

        let queue_capacity = options.max_sequences.max(1) + options.max_waiting;
        let (requests, task_requests) = sync_channel(queue_capacity);
        // Each task has at most one message under way, and one more tells the thread to stop.
        let (messages, inbox) = sync_channel(queue_capacity + 1);
        let (grammar_requests, grammar_receiver) = sync_channel(queue_capacity);
        // A document grows from nothing to the context: half of it on average.
        let document = limits.context.min(LONG_DOCUMENT_TOKENS).div_ceil(2);
        let mut capacity = Capacity::new(limits.pool, options.max_sequences, document);
        let slots = capacity.slots(0, std::iter::empty());
        let state = EngineStats { slots, kv_blocks: blocks as u32, ..EngineStats::default() };
        let (stats_sender, stats) = watch::channel(state);
        let (failure_sender, failure) = watch::channel(None);

        let engine_loop = EngineLoop {
            tokenizer: Arc::clone(&model),
            runner: ModelRunner::new(device, suppressed, Arc::clone(&model)),
            scheduler: Scheduler::new(blocks, options.max_sequences),
            limits,
            capacity,
            messages: inbox,
            grammar_requests,
            awaiting_grammar: 0,
            in_flight: None,
            faults: 0,
            suspects: Vec::new(),
            stats: state,
            stats_sender,
        };
        let mut engine = Self {
            model: info,
            queue_permits: Arc::new(Semaphore::new(queue_capacity)),
            requests: Some(requests),
            messages,
            stats,
            failure,
            threads: Vec::new(),
        };
        engine.spawn("device", move || run_device_thread(engine_loop, &failure_sender))?;
        let vocabulary = Vocabulary::new(vocab, |token| model.token_bytes(token));
        let preparer = Preparer::new(model, grammars, limits, vocabulary);
        let messages = engine.messages.clone();
        engine.spawn("prepare", move || run_prepare_thread(preparer, &task_requests, &messages))?;
        let grammar_receiver = Arc::new(Mutex::new(grammar_receiver));
        for _ in 0..options.grammar_threads.max(1) {
            let (requests, messages) = (Arc::clone(&grammar_receiver), engine.messages.clone());
            engine.spawn("grammar", move || run_grammar_thread(&requests, &messages))?;
        }
        Ok(engine)
    }

    fn spawn(&mut self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let thread = std::thread::Builder::new().name(format!("longhand-{name}")).spawn(body);
        self.threads.push(thread.map_err(|source| StartError::Thread { name, source })?);
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }
}

impl Engine for LocalEngine {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    fn slots(&self) -> u32 {
        self.stats.borrow().slots
    }

    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation {
        let (events, generation) = EventSender::open();
        if let Some(error) = self.failure() {
            events.failed(engine_dead(&error));
            return generation;
        }
        let queue_permit = Arc::clone(&self.queue_permits).try_acquire_owned();
        let (Ok(queue_permit), Some(requests)) = (queue_permit, &self.requests) else {
            events.failed(overloaded());
            return generation;
        };
        let timer = TaskTimer::start(&task);
        // A request that is not accepted sends its own failure as it is dropped.
        drop(requests.try_send(Request { task, resume, events, timer, queue_permit }));
        generation
    }

    fn stats(&self) -> EngineStats {
        *self.stats.borrow()
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        let mut failure = self.failure.clone();
        async move {
            match failure.wait_for(Option::is_some).await {
                Ok(error) => error.clone().unwrap_or_default(),
                Err(_) => "the device thread ended".to_owned(),
            }
        }
        .boxed()
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        self.requests = None;
        // It fails only if the device thread has ended already.
        drop(self.messages.send(Message::Stop));
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by `dead`.
            drop(thread.join());
        }
    }
}

fn model_info(model: &dyn TokenizerAdapter, device: &dyn Device, options: &EngineOptions) -> ModelInfo {
    let info = model.info();
    ModelInfo {
        engine: format!("longhand {}", longhand_proto::build()),
        device: device.name(),
        context: options.context.map_or(info.context, |context| context.min(info.context)),
        ..info
    }
}

/// Tokens that are assumed of a document, at most, until some have come: few exceed 10,000 words.
const LONG_DOCUMENT_TOKENS: usize = 16_384;

fn overloaded() -> Failure {
    Failure {
        class: "overloaded".into(),
        message: "the engine's queue is full; start fewer tasks at a time, or raise max_waiting".into(),
        permanent: false,
    }
}

/// The device thread. However it ends, `failure` tells why, and every task gets its last event.
fn run_device_thread(mut engine_loop: EngineLoop, failure_sender: &watch::Sender<Option<String>>) {
    let exit = std::panic::catch_unwind(AssertUnwindSafe(|| engine_loop.run()));
    let error = match exit {
        Ok(LoopExit::Stopped) => "the engine was shut down".to_owned(),
        Ok(LoopExit::DeviceLost(error)) => error,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("the device thread panicked: {}", text.unwrap_or_default())
        }
    };
    failure_sender.send_replace(Some(error));
}

/// The preparer's thread: a single one, so that tasks stay in order of arrival.
fn run_prepare_thread(mut preparer: Preparer, task_requests: &Receiver<Request>, messages: &SyncSender<Message>) {
    for request in task_requests {
        // If the device thread is gone, the sequence sends its own failure as it is dropped.
        if let Some(prepared) = preparer.prepare(request)
            && messages.send(Message::Start(prepared)).is_err()
        {
            return;
        }
    }
}

/// A grammar thread. A lock around the receiver, as several threads receive from one queue.
fn run_grammar_thread(requests: &Mutex<Receiver<GrammarRequest>>, messages: &SyncSender<Message>) {
    loop {
        let request = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(request) = request else { return };
        if messages.send(Message::Grammar(request.respond())).is_err() {
            return;
        }
    }
}
