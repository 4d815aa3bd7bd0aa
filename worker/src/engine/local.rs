//! The local engine: a device, the thread that owns it, and the threads that work for it.
//!
//! ```text
//!   start ──▶ preparer ──▶ device thread ──▶ events
//!                           │        ▲
//!                           ▼        │
//!                         grammar threads
//! ```
//! All queues are bounded by the places for tasks, so none of these threads ever waits for a full one.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use longhand_proto::task::{Checkpoint, Failure, ModelInfo, Task};
use tokio::sync::{Semaphore, watch};

use super::codec::Codec;
use super::core::{Core, Ended, Message, Question};
use super::grammar::Grammars;
use super::model_runner::ModelRunner;
use super::outlet::{Outlet, engine_dead};
use super::prepare::{Limits, Preparer, Request, pool_tokens};
use super::scheduler::Scheduler;
use super::watch::Watch;
use super::{Engine, EngineStats, Generation};
use crate::device::Device;

/// What an operator may set.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Sequences decoded at the same time.
    pub max_sequences: usize,
    /// Tasks that may wait beyond those; more are refused as overloaded.
    pub max_waiting: usize,
    /// Threads that ask grammars.
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
    #[error("the device has no KV blocks; give it more KV memory")]
    NoBlocks,
    #[error("the model's tokenizer cannot be used for grammars: {0}")]
    Tokenizer(String),
    #[error("cannot start the engine's thread {name}: {source}")]
    Thread { name: &'static str, source: std::io::Error },
}

/// See the module's documentation. Dropping it fails its tasks and joins its threads.
#[derive(Debug)]
pub struct LocalEngine {
    model: ModelInfo,
    slots: u32,
    places: Arc<Semaphore>,
    /// None while being dropped: the preparer ends when it is gone.
    requests: Option<SyncSender<Request>>,
    inbox: SyncSender<Message>,
    stats: watch::Receiver<EngineStats>,
    death: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
}

impl LocalEngine {
    /// Takes the device and starts the threads. Hashes the model's weights if nobody has yet.
    pub fn start(model: Arc<dyn Codec>, device: Box<dyn Device>, options: &EngineOptions) -> Result<Self, StartError> {
        let (blocks, vocab) = (device.kv_blocks(), device.vocab());
        if blocks == 0 {
            return Err(StartError::NoBlocks);
        }
        let info = describe(&*model, &*device, options);
        let limits = Limits { context: info.context as usize, pool: pool_tokens(blocks) };
        let grammars =
            Grammars::new(&model.tok_env(), vocab).map_err(|error| StartError::Tokenizer(error.to_string()))?;
        let eos = model.eos().to_vec();
        let never = (0..vocab as u32).filter(|token| model.is_special(*token) && !eos.contains(token)).collect();

        let room = options.max_sequences.max(1) + options.max_waiting;
        let (requests, requested) = sync_channel(room);
        // Each task has at most one message under way, and one more tells the thread to stop.
        let (inbox, messages) = sync_channel(room + 1);
        let (questions, asked) = sync_channel(room);
        let (published, stats) = watch::channel(EngineStats::default());
        let (died, death) = watch::channel(None);

        let core = Core {
            codec: Arc::clone(&model),
            runner: ModelRunner::new(device, never, eos),
            scheduler: Scheduler::new(blocks, options.max_sequences),
            limits,
            inbox: messages,
            questions,
            asked: 0,
            flight: None,
            stats: EngineStats { kv_blocks: blocks as u32, ..EngineStats::default() },
            published,
        };
        let mut engine = Self {
            slots: slots(options.max_sequences, limits),
            model: info,
            places: Arc::new(Semaphore::new(room)),
            requests: Some(requests),
            inbox,
            stats,
            death,
            threads: Vec::new(),
        };
        engine.spawn("device", move || drive(core, &died))?;
        let preparer = Preparer::new(model, grammars, limits);
        let inbox = engine.inbox.clone();
        engine.spawn("prepare", move || prepare(preparer, &requested, &inbox))?;
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..options.grammar_threads.max(1) {
            let (asked, inbox) = (Arc::clone(&asked), engine.inbox.clone());
            engine.spawn("grammar", move || answer(&asked, &inbox))?;
        }
        Ok(engine)
    }

    fn spawn(&mut self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let thread = std::thread::Builder::new().name(format!("longhand-{name}")).spawn(body);
        self.threads.push(thread.map_err(|source| StartError::Thread { name, source })?);
        Ok(())
    }

    fn death(&self) -> Option<String> {
        self.death.borrow().clone()
    }
}

impl Engine for LocalEngine {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    fn slots(&self) -> u32 {
        self.slots
    }

    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation {
        let (outlet, generation) = Outlet::open();
        if let Some(error) = self.death() {
            outlet.failed(engine_dead(&error));
            return generation;
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let (Ok(place), Some(requests)) = (place, &self.requests) else {
            outlet.failed(overloaded());
            return generation;
        };
        let watch = Watch::start(&task);
        // A request that is not taken answers for itself as it is dropped.
        drop(requests.try_send(Request { task, resume, outlet, watch, place }));
        generation
    }

    fn stats(&self) -> EngineStats {
        *self.stats.borrow()
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        let mut death = self.death.clone();
        async move {
            match death.wait_for(Option::is_some).await {
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
        drop(self.inbox.send(Message::Stop));
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by `dead`.
            drop(thread.join());
        }
    }
}

fn describe(model: &dyn Codec, device: &dyn Device, options: &EngineOptions) -> ModelInfo {
    let info = model.info();
    ModelInfo {
        engine: format!("longhand {}", longhand_proto::build()),
        device: device.name(),
        context: options.context.map_or(info.context, |context| context.min(info.context)),
        ..info
    }
}

/// Tokens that few documents are longer than: 10,000 words. A model that holds more is not kept waiting for such; where many
/// come at once, preemption makes room.
const LONG: usize = 16_384;

/// Documents that fit into the pool at once: prompts grow from nothing to the context, half of it on average.
fn slots(max_sequences: usize, limits: Limits) -> u32 {
    let fit = limits.pool / limits.context.min(LONG).div_ceil(2).max(1);
    fit.clamp(1, max_sequences.max(1)) as u32
}

fn overloaded() -> Failure {
    Failure {
        class: "overloaded".into(),
        message: "the engine's queue is full; start fewer tasks at a time, or raise max_waiting".into(),
        permanent: false,
    }
}

/// The device thread. However it ends, `died` says so, and every task is answered.
fn drive(mut core: Core, died: &watch::Sender<Option<String>>) {
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| core.run()));
    let error = match ended {
        Ok(Ended::Stopped) => "the engine was shut down".to_owned(),
        Ok(Ended::Lost(error)) => error,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            format!("the device thread panicked: {}", text.unwrap_or_default())
        }
    };
    died.send_replace(Some(error));
}

/// The preparer's thread: one, so that tasks stay in order of arrival.
fn prepare(mut preparer: Preparer, requested: &Receiver<Request>, inbox: &SyncSender<Message>) {
    for request in requested {
        // If the device thread is gone, the sequence answers for itself as it is dropped.
        if let Some(prepared) = preparer.prepare(request)
            && inbox.send(Message::Start(prepared)).is_err()
        {
            return;
        }
    }
}

/// A grammar thread. A lock around the receiver, as several threads take from one queue.
fn answer(asked: &Mutex<Receiver<Question>>, inbox: &SyncSender<Message>) {
    loop {
        let question = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(question) = question else { return };
        if inbox.send(Message::Answer(question.answer())).is_err() {
            return;
        }
    }
}
