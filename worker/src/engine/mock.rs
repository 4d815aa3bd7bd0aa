//! The test double of an engine: generates well-formed plans and sections of the requested length at once or at a set
//! rate, the same text for the same task, and fails in the ways a real engine fails, as configured.

mod text;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use longhand_proto::task::{
    Checkpoint, Failure, FinishReason, ModelInfo, Output, RecommendedSampling, Task, TaskKind, Usage,
};
use tokio::sync::{Notify, mpsc};

use super::block_hash::BlockHash;
use super::ideal_prefix_cache::IdealPrefixCache;
use super::task_counters::TaskCounters;
use super::task_timer::TaskTimer;
use super::{Engine, EngineStats, Event, Generation};

/// Events that may be queued for a slow reader before the task blocks on it.
const CHANNEL_CAPACITY: usize = 16;
/// Tokens in one event when the rate is unlimited.
const UNLIMITED_CHUNK: usize = 64;

/// The reason that a killed double gives.
const INJECTED_DEATH: &str = "the mock engine was killed by an injected fault";

/// What the double generates, how fast, and how often it fails.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Name of its model.
    pub model: String,
    /// Tasks that it offers to run at the same time.
    pub slots: u32,
    /// Tokens per second of each task; 0 is unlimited.
    pub tokens_per_second: f64,
    /// Words generated for each word requested.
    pub words_ratio: f32,
    /// Tokens of prompt and text together: words, and Chinese characters. A task that needs more is rejected.
    pub context: u32,
    /// How often it fails.
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

/// Probabilities, 0 to 1, of each failure; drawn from the task and its attempt, so a failure is reproducible.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Faults {
    /// Ends with an error of class `mock_error` halfway through.
    pub error: f64,
    /// Generates a plan that cannot be parsed.
    pub bad_plan: f64,
    /// Ends a section halfway with finish reason `length`.
    pub truncated: f64,
    /// Ends a section in a loop, with finish reason `repetition`.
    pub repetition: f64,
    /// Generates half and then nothing more, for ever.
    pub stall: f64,
    /// The engine dies when it has started this many tasks.
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
    counters: TaskCounters,
    /// A lock, as every task's future reads and records; held for a few look-ups.
    prefix_cache: Mutex<IdealPrefixCache>,
}

impl MockEngine {
    /// An engine double; must be used inside a tokio runtime.
    pub fn new(options: MockOptions) -> Self {
        let model = ModelInfo {
            name: options.model.clone(),
            weights_hash: ModelInfo::DOUBLE_HASH.into(),
            tokenizer_hash: "mock".into(),
            licence: "Apache-2.0".into(),
            engine: format!("longhand {} mock", longhand_proto::build()),
            device: "none".into(),
            context: options.context,
            sampling: RecommendedSampling::default(),
        };
        Self { model, options, shared: Arc::default() }
    }

    /// Fails like a lost device: running tasks fail with class `engine_dead`, [`Engine::dead`] resolves.
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
        let (events, receiver) = mpsc::channel(CHANNEL_CAPACITY);
        let started = self.shared.started.fetch_add(1, Ordering::AcqRel) + 1;
        if self.options.faults.die_after.is_some_and(|limit| started > limit) {
            self.shared.die();
        }
        let (shared, options) = (Arc::clone(&self.shared), self.options.clone());
        drop(tokio::spawn(async move {
            let task = async {
                tokio::select! {
                    biased;
                    () = events.closed() => Ok(()),
                    () = shared.wait_dead() => Err(dead()),
                    result = run_task(&shared, &options, &task, resume, &events) => result,
                }
            };
            if let Err(failure) = shared.counters.running(task).await {
                // A closed channel means that the task was cancelled.
                drop(events.send(Event::Failed(failure)).await);
            }
        }));
        Generation { events: receiver }
    }

    fn stats(&self) -> EngineStats {
        self.shared.counters.stats()
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        async {
            self.shared.wait_dead().await;
            INJECTED_DEATH.to_owned()
        }
        .boxed()
    }
}

fn dead() -> Failure {
    Failure { class: "engine_dead".into(), message: INJECTED_DEATH.into(), permanent: false }
}

/// How a task ends: drawn once, from the task and its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MockOutcome {
    Success,
    Error,
    BadPlan,
    Truncated,
    Repetition,
    Stall,
}

fn draw_outcome(faults: &Faults, task: &Task) -> MockOutcome {
    let mut random = text::SplitMix64::of(task, task.attempt);
    let (plan, section) = (task.kind == TaskKind::Plan, task.kind == TaskKind::Section);
    [
        (faults.error, MockOutcome::Error),
        (faults.stall, MockOutcome::Stall),
        (if plan { faults.bad_plan } else { 0.0 }, MockOutcome::BadPlan),
        (if section { faults.truncated } else { 0.0 }, MockOutcome::Truncated),
        (if section { faults.repetition } else { 0.0 }, MockOutcome::Repetition),
    ]
    .into_iter()
    .find(|(probability, _)| random.unit() < *probability)
    .map_or(MockOutcome::Success, |(_, outcome)| outcome)
}

async fn run_task(
    shared: &Shared,
    options: &MockOptions,
    task: &Task,
    resume: Option<Checkpoint>,
    events: &mpsc::Sender<Event>,
) -> Result<(), Failure> {
    let mut timer = TaskTimer::start(task);
    let outcome = draw_outcome(&options.faults, task);
    let resumed_tokens = resume.filter(|it| it.tokenizer_hash == "mock").map(|it| it.tokens).unwrap_or_default();
    // As with a real engine, the text follows from the task and its seed: an attempt that resumes the checkpoint of a lost
    // one continues the same text, and so does one that restarts.
    let full_text = text::generate(task, options.words_ratio);
    let tokens = tokens_of(&full_text);
    let resumed = if tokens.starts_with(&resumed_tokens) { resumed_tokens.len() } else { 0 };

    let prompt: Vec<u32> = task.messages.iter().flat_map(|it| text::words(&it.content)).map(text::token_of).collect();
    if prompt.len() + tokens.len() > options.context as usize {
        let (prompt, text, context) = (prompt.len(), tokens.len(), options.context);
        let message = format!("the prompt has {prompt} tokens and its text {text}, but the context holds {context}");
        return Err(Failure { class: "context_too_small".into(), message, permanent: true });
    }
    let mut hashes = Vec::new();
    BlockHash::extend(&mut hashes, &prompt);
    let cached =
        shared.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner).reusable_tokens(&hashes, prompt.len());
    shared.counters.add(&Usage { prompt: prompt.len() as u32, cached: cached as u32, ..Usage::default() });

    timer.start_prefill(cached, prompt.len() - cached);
    timer.start_decode();
    let end = match outcome {
        MockOutcome::Success | MockOutcome::BadPlan | MockOutcome::Repetition => tokens.len(),
        MockOutcome::Error | MockOutcome::Stall | MockOutcome::Truncated => tokens.len() / 2,
    };
    emit(shared, options, &tokens[..end.max(resumed)], resumed, events, &mut timer).await;
    let (text, finish_reason) = match outcome {
        MockOutcome::Error => {
            let message = "injected mock engine error".into();
            return Err(Failure { class: "mock_error".into(), message, permanent: false });
        }
        MockOutcome::Stall => return std::future::pending().await,
        MockOutcome::Success => (full_text, FinishReason::Stop),
        MockOutcome::BadPlan => ("I am sorry, here is an outline instead of a plan.".to_owned(), FinishReason::Stop),
        MockOutcome::Truncated => (text::words(&full_text).take(end).collect(), FinishReason::Length),
        MockOutcome::Repetition => (full_text + &" and over again".repeat(40), FinishReason::Repetition),
    };
    let generated = end.max(resumed) as u32;
    let usage = Usage {
        prompt: prompt.len() as u32,
        cached: cached as u32,
        reusable: cached as u32,
        generated,
        resumed: resumed as u32,
        ..Usage::default()
    };
    let timings = timer.end(finish_reason.as_str());
    shared.prefix_cache.lock().unwrap_or_else(PoisonError::into_inner).record(&hashes);
    // A closed channel means that the task was cancelled.
    drop(events.send(Event::Done(Output { text, finish_reason, usage, timings })).await);
    Ok(())
}

/// The tokens of a text: one for every word or Chinese character.
fn tokens_of(text: &str) -> Vec<u32> {
    text::words(text).map(text::token_of).collect()
}

async fn emit(
    shared: &Shared,
    options: &MockOptions,
    tokens: &[u32],
    resumed: usize,
    events: &mpsc::Sender<Event>,
    timer: &mut TaskTimer,
) {
    let (resumed_tokens, new) = tokens.split_at(resumed);
    if !resumed_tokens.is_empty() && events.send(Event::Tokens(resumed_tokens.to_vec().into())).await.is_err() {
        return;
    }
    let chunk = if options.tokens_per_second > 0.0 { 1 } else { UNLIMITED_CHUNK };
    for tokens in new.chunks(chunk) {
        if options.tokens_per_second > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(tokens.len() as f64 / options.tokens_per_second)).await;
        }
        shared.counters.add(&Usage { generated: tokens.len() as u32, ..Usage::default() });
        timer.on_tokens(tokens.len());
        if events.send(Event::Tokens(tokens.to_vec().into())).await.is_err() {
            return;
        }
    }
}
