//! The test double of an engine: writes well-formed plans and sections of the asked length at once or at a set rate,
//! the same text for the same task, and fails in the ways a real engine fails, when told to.

mod text;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use longhand_proto::task::{Checkpoint, Failure, FinishReason, ModelInfo, Output, Task, TaskKind, Usage};
use tokio::sync::{Notify, mpsc};

use super::block_manager::BlockHash;
use super::reuse::Reuse;
use super::watch::Watch;
use super::{Engine, EngineStats, Event, Generation};

/// Events that may wait for a slow reader before the writer waits for it.
const EVENTS: usize = 16;
/// Tokens in one event when the rate is unlimited.
const BURST: usize = 64;

/// What the double writes, how fast, and how often it fails.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Name of its model.
    pub model: String,
    pub slots: u32,
    /// Tokens per second of each task; 0 writes at once.
    pub tokens_per_second: f64,
    /// Words written for each word asked.
    pub words_ratio: f32,
    /// Tokens of prompt and text together: words, and Chinese characters. More than that is refused.
    pub context: u32,
    pub faults: Faults,
}

impl Default for MockOptions {
    fn default() -> Self {
        Self {
            model: "mock".into(),
            slots: 8,
            tokens_per_second: 0.0,
            words_ratio: 1.0,
            context: 32_768,
            faults: Faults::default(),
        }
    }
}

/// Probabilities, 0 to 1, of each way to fail; drawn from the task and its attempt, so a failure repeats exactly.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Ends with an error of class `mock_error` halfway through.
    pub error: f64,
    /// Writes a plan that is none.
    pub bad_plan: f64,
    /// Ends a section halfway with finish reason `length`.
    pub truncated: f64,
    /// Ends a section with a unit repeated many times, with finish reason `repetition`.
    pub repetition: f64,
    /// Writes half and then nothing more, for ever.
    pub stall: f64,
    /// Dies as a whole when it has started this many tasks.
    pub die_after: Option<u32>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct MockEngine {
    model: ModelInfo,
    options: MockOptions,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    dead: AtomicBool,
    died: Notify,
    started: AtomicU32,
    running: AtomicU32,
    prompt: AtomicU64,
    cached: AtomicU64,
    generated: AtomicU64,
    /// A lock, as every task's future looks up and records; held for a few look-ups.
    reuse: Mutex<Reuse>,
}

impl MockEngine {
    /// An engine double; must be used inside a tokio runtime.
    pub fn new(options: MockOptions) -> Self {
        let model = ModelInfo {
            name: options.model.clone(),
            weights_hash: "mock".into(),
            tokenizer_hash: "mock".into(),
            licence: "Apache-2.0".into(),
            engine: format!("longhand {} mock", longhand_proto::build()),
            device: "none".into(),
            context: options.context,
        };
        Self { model, options, shared: Arc::default() }
    }

    /// Dies as a device that is lost: running tasks fail with class `engine_dead`, [`Engine::dead`] resolves.
    pub fn kill(&self) {
        self.shared.die();
    }
}

impl Shared {
    fn die(&self) {
        self.dead.store(true, Ordering::Release);
        self.died.notify_waiters();
    }

    async fn wait_dead(&self) {
        let died = self.died.notified();
        tokio::pin!(died);
        died.as_mut().enable();
        if !self.dead.load(Ordering::Acquire) {
            died.await;
        }
    }
}

impl Engine for MockEngine {
    fn model(&self) -> &ModelInfo {
        &self.model
    }

    fn slots(&self) -> u32 {
        self.options.slots
    }

    fn start(&self, task: Task, resume: Option<Checkpoint>) -> Generation {
        let (events, receiver) = mpsc::channel(EVENTS);
        let started = self.shared.started.fetch_add(1, Ordering::AcqRel) + 1;
        if self.options.faults.die_after.is_some_and(|limit| started > limit) {
            self.shared.die();
        }
        let (shared, options) = (Arc::clone(&self.shared), self.options.clone());
        drop(tokio::spawn(async move {
            shared.running.fetch_add(1, Ordering::Relaxed);
            let written = tokio::select! {
                biased;
                () = events.closed() => Ok(()),
                () = shared.wait_dead() => Err(dead()),
                result = write(&shared, &options, &task, resume, &events) => result,
            };
            shared.running.fetch_sub(1, Ordering::Relaxed);
            if let Err(failure) = written {
                // Nobody listens: the task was cancelled.
                drop(events.send(Event::Failed(failure)).await);
            }
        }));
        Generation { events: receiver }
    }

    fn stats(&self) -> EngineStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            running: self.shared.running.load(Ordering::Relaxed),
            prompt_tokens: load(&self.shared.prompt),
            cached_tokens: load(&self.shared.cached),
            reusable_tokens: load(&self.shared.cached),
            generated_tokens: load(&self.shared.generated),
            ..EngineStats::default()
        }
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        async {
            self.shared.wait_dead().await;
            "the mock engine was told to die".to_owned()
        }
        .boxed()
    }
}

fn dead() -> Failure {
    Failure { class: "engine_dead".into(), message: "the mock engine was told to die".into(), permanent: false }
}

/// How a task ends: drawn once, from the task and its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Error,
    BadPlan,
    Truncated,
    Repetition,
    Stall,
}

fn fate(faults: &Faults, task: &Task) -> Fate {
    let mut random = text::Random::of(task, task.attempt);
    let (plan, section) = (task.kind == TaskKind::Plan, task.kind == TaskKind::Section);
    [
        (faults.error, Fate::Error),
        (faults.stall, Fate::Stall),
        (if plan { faults.bad_plan } else { 0.0 }, Fate::BadPlan),
        (if section { faults.truncated } else { 0.0 }, Fate::Truncated),
        (if section { faults.repetition } else { 0.0 }, Fate::Repetition),
    ]
    .into_iter()
    .find(|(probability, _)| random.unit() < *probability)
    .map_or(Fate::Well, |(_, fate)| fate)
}

async fn write(
    shared: &Shared,
    options: &MockOptions,
    task: &Task,
    resume: Option<Checkpoint>,
    events: &mpsc::Sender<Event>,
) -> Result<(), Failure> {
    let mut watch = Watch::start(task);
    let fate = fate(&options.faults, task);
    let taken = resume.filter(|it| it.tokenizer_hash == "mock").map(|it| it.tokens).unwrap_or_default();
    // As with a real engine, the text follows from the task and its seed: an attempt that takes over the checkpoint of a
    // lost one goes on with the same text, and so does one that has to begin anew.
    let whole = text::write(task, options.words_ratio);
    let tokens = tokens_of(&whole);
    let resumed = if tokens.starts_with(&taken) { taken.len() } else { 0 };

    let prompt: Vec<u32> = task.messages.iter().flat_map(|it| text::pieces(&it.content)).map(text::token_of).collect();
    if prompt.len() + tokens.len() > options.context as usize {
        let (prompt, text, context) = (prompt.len(), tokens.len(), options.context);
        let message = format!("the prompt has {prompt} tokens and its text {text}, but the context holds {context}");
        return Err(Failure { class: "context_too_small".into(), message, permanent: true });
    }
    let mut hashes = Vec::new();
    BlockHash::extend(&mut hashes, &prompt);
    let cached = shared.reuse.lock().unwrap_or_else(PoisonError::into_inner).reusable(&hashes, prompt.len());
    shared.prompt.fetch_add(prompt.len() as u64, Ordering::Relaxed);
    shared.cached.fetch_add(cached as u64, Ordering::Relaxed);

    watch.prefill(cached, prompt.len() - cached);
    watch.decode();
    let end = match fate {
        Fate::Well | Fate::BadPlan | Fate::Repetition => tokens.len(),
        Fate::Error | Fate::Stall | Fate::Truncated => tokens.len() / 2,
    };
    emit(shared, options, &tokens[..end.max(resumed)], resumed, events, &mut watch).await;
    let (text, finish_reason) = match fate {
        Fate::Error => {
            let message = "the mock engine was told to fail".into();
            return Err(Failure { class: "mock_error".into(), message, permanent: false });
        }
        Fate::Stall => return std::future::pending().await,
        Fate::Well => (whole, FinishReason::Stop),
        Fate::BadPlan => ("I am sorry, here is an outline instead of a plan.".to_owned(), FinishReason::Stop),
        Fate::Truncated => (text::pieces(&whole).take(end).collect(), FinishReason::Length),
        Fate::Repetition => (whole + &" and over again".repeat(40), FinishReason::Repetition),
    };
    let generated = end.max(resumed) as u32;
    let usage = Usage {
        prompt: prompt.len() as u32,
        cached: cached as u32,
        reusable: cached as u32,
        generated,
        resumed: resumed as u32,
    };
    let timings = watch.end(finish_reason.as_str());
    shared.reuse.lock().unwrap_or_else(PoisonError::into_inner).record(&hashes);
    // A closed channel means that the task was cancelled.
    drop(events.send(Event::Done(Output { text, finish_reason, usage, timings })).await);
    Ok(())
}

/// The text as the tokens of the double: one for every word or Chinese character.
fn tokens_of(text: &str) -> Vec<u32> {
    text::pieces(text).map(text::token_of).collect()
}

async fn emit(
    shared: &Shared,
    options: &MockOptions,
    tokens: &[u32],
    resumed: usize,
    events: &mpsc::Sender<Event>,
    watch: &mut Watch,
) {
    let (taken, new) = tokens.split_at(resumed);
    if !taken.is_empty() && events.send(Event::Tokens(taken.to_vec())).await.is_err() {
        return;
    }
    let burst = if options.tokens_per_second > 0.0 { 1 } else { BURST };
    for piece in new.chunks(burst) {
        if options.tokens_per_second > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(piece.len() as f64 / options.tokens_per_second)).await;
        }
        shared.generated.fetch_add(piece.len() as u64, Ordering::Relaxed);
        watch.wrote(piece.len());
        if events.send(Event::Tokens(piece.to_vec())).await.is_err() {
            return;
        }
    }
}
