//! A remote engine: any server with OpenAI's chat completions API, such as vLLM, SGLang or llama.cpp.
//!
//! Texts are streamed, so that length control, loop detection and progress work as with a local model. There are no
//! checkpoints: a server cannot continue in the middle of a text, so a lost task is restarted.
//!
//! A failure of the server or the connection is not the document's error. A request that was rejected for overload, or
//! interrupted, is retried, and a server from which no task gets text for long is a dead engine. The document is charged only
//! where the server answers others meanwhile: then what failed is this prompt. `trouble` says what each status means.

mod concurrency_limit;
mod event;
mod gbnf;
mod request_body;
mod server;
mod stream_reader;
mod thinking;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use longhand_proto::task::{Checkpoint, Failure, ModelInfo, Output, Task, Timings};
use longhand_proto::{rng, trace};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::event_sender::engine_dead;
use super::task_counters::TaskCounters;
use super::task_timer::TaskTimer;
use super::{Engine, EngineStats, Event, Generation, SERVER_BUSY};
use concurrency_limit::ConcurrencyLimiter;
use server::Server;
pub use server::{OpenAiError, OpenAiOptions};
use trouble::RequestError;

/// Events that may be queued for a slow reader before the stream blocks on it.
const CHANNEL_CAPACITY: usize = 64;
/// Interruptions of one task after which it fails, of those that others were spared: one in two by chance is not enough.
const MAX_INTERRUPTIONS: u32 = 8;
const MIN_BACKOFF: Duration = Duration::from_millis(250);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub struct OpenAiEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    limiter: ConcurrencyLimiter,
    /// Time without any text after which a task fails, or the engine, if no task gets text.
    idle_timeout: Duration,
    last_delta: watch::Sender<Instant>,
    /// When a request last got its whole text.
    last_text: watch::Sender<Instant>,
    dead: watch::Sender<Option<String>>,
    /// The last error of the server, until any task gets text.
    problem: watch::Sender<Option<String>>,
    counters: TaskCounters,
}

impl OpenAiEngine {
    /// Asks the server for its models. Waits while it loads one.
    ///
    /// # Errors
    /// It does not respond, rejects the key, or does not have the model.
    pub async fn connect(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        let (slots, idle_timeout) = (options.slots.max(1), options.idle_timeout);
        let server = Server::connect(options).await?;
        let shared = Shared {
            server,
            limiter: ConcurrencyLimiter::new(slots),
            idle_timeout,
            last_delta: watch::Sender::new(Instant::now()),
            last_text: watch::Sender::new(Instant::now()),
            dead: watch::Sender::new(None),
            problem: watch::Sender::new(None),
            counters: TaskCounters::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Engine for OpenAiEngine {
    fn model(&self) -> &ModelInfo {
        self.shared.server.model()
    }

    /// As many as the server accepted lately: a document that waits here would make no progress.
    fn slots(&self) -> u32 {
        self.shared.limiter.limit()
    }

    fn start(&self, task: Task, _resume: Option<Checkpoint>) -> Generation {
        let (events, receiver) = mpsc::channel(CHANNEL_CAPACITY);
        let shared = Arc::clone(&self.shared);
        drop(tokio::spawn(async move {
            let run = async {
                tokio::select! {
                    biased;
                    () = events.closed() => None,
                    reason = shared.wait_dead() => Some(Event::Failed(engine_dead(&reason))),
                    end = shared.run_task(&task, &events) => Some(end.map_or_else(Event::Failed, Event::Done)),
                }
            };
            if let Some(end) = shared.counters.running(run).await {
                // A closed channel means that the task was cancelled.
                drop(events.send(end).await);
            }
        }));
        Generation { events: receiver }
    }

    fn stats(&self) -> EngineStats {
        self.shared.counters.stats()
    }

    fn problem(&self) -> Option<String> {
        self.shared.problem.borrow().clone()
    }

    fn dead(&self) -> BoxFuture<'_, String> {
        self.shared.wait_dead().boxed()
    }
}

impl Shared {
    /// Sends requests until there is a text or a final failure.
    async fn run_task(&self, task: &Task, events: &mpsc::Sender<Event>) -> Result<Output, Failure> {
        let queued = Instant::now();
        // When this task last got text.
        let mut heard = queued;
        let (mut interruptions, mut backoff) = (0, MIN_BACKOFF);
        let mut max_tokens = self.server.max_tokens(task);
        let mut timer = TaskTimer::start(task);
        loop {
            let Ok(permit) = timeout_at(heard + self.idle_timeout, self.limiter.acquire()).await else {
                return Err(self.give_up(heard, "the server takes fewer requests at a time than there are tasks"));
            };
            let sent = Instant::now();
            // The server reports its cache hits at the end, if at all.
            timer.start_prefill(0, 0);
            let on_deltas = |deltas| {
                heard = Instant::now();
                self.last_delta.send_replace(heard);
                self.set_problem(None);
                timer.start_decode();
                timer.on_tokens(deltas);
            };
            let error = match self.server.complete(task, max_tokens, events, on_deltas).await {
                Ok(output) => {
                    self.last_text.send_replace(Instant::now());
                    permit.on_success();
                    self.counters.add(&output.usage);
                    timer.end(output.finish_reason.as_str());
                    let queue_ms = sent.duration_since(queued).as_millis() as u64;
                    let timings = Timings { queue_ms, ..output.timings };
                    return Ok(Output { timings, ..output });
                }
                Err(error) => error,
            };
            // Whether another task got its text while this one did not.
            let others_answered = *self.last_text.borrow() > sent;
            let (message, busy) = match error {
                RequestError::Document(failure) => {
                    timer.end(&failure.class);
                    return Err(failure);
                }
                RequestError::Denied(reason) => return Err(self.die(reason)),
                RequestError::TooLong(message) => {
                    if max_tokens / 2 < request_body::min_tokens(task) {
                        timer.end("context_too_small");
                        return Err(trouble::context_too_small(message));
                    }
                    max_tokens /= 2;
                    continue;
                }
                RequestError::Refused(failure) => {
                    let answers = if others_answered { Some(true) } else { self.server.answers_others(task).await };
                    match answers {
                        Some(false) => {
                            let reason = format!("the server refuses the requests of this worker: {}", failure.message);
                            return Err(self.die(reason));
                        }
                        Some(true) => {
                            timer.end(&failure.class);
                            return Err(failure);
                        }
                        None => (failure.message, false),
                    }
                }
                RequestError::Overloaded { retry_after, message } => {
                    permit.on_overload(retry_after);
                    (message, true)
                }
                RequestError::Interrupted(message) => {
                    interruptions += u32::from(others_answered);
                    (message, false)
                }
            };
            tracing::debug!(
                run = %task.run, document = %task.document, trace_id = trace::id_of(&task.traceparent), message,
                "request failed; retrying"
            );
            if !others_answered {
                self.set_problem(Some(message.clone()));
            }
            if interruptions > MAX_INTERRUPTIONS {
                return Err(Failure { class: "server_error".into(), message, permanent: false });
            }
            if heard.elapsed() >= self.idle_timeout {
                return Err(match self.give_up(heard, &message) {
                    // Others got their texts, and this one was tried.
                    failure if failure.class == SERVER_BUSY && others_answered && !busy => {
                        Failure { class: "server_error".into(), message, permanent: false }
                    }
                    failure => failure,
                });
            }
            drop(permit);
            tokio::time::sleep(rng::around(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// After a task got no text for long, from `heard` on: the engine is dead if no task got any, else the server is busy.
    fn give_up(&self, heard: Instant, message: &str) -> Failure {
        let (url, seconds) = (self.server.url(), self.idle_timeout.as_secs());
        if *self.last_delta.borrow() <= heard {
            return self.die(format!("no text from {url} for {seconds} s: {message}"));
        }
        let message = format!("{url} had no time for the task for {seconds} s: {message}");
        Failure { class: SERVER_BUSY.into(), message, permanent: false }
    }

    fn set_problem(&self, problem: Option<String>) {
        self.problem.send_if_modified(|current| {
            let changed = *current != problem;
            *current = problem;
            changed
        });
    }

    async fn wait_dead(&self) -> String {
        let mut dead = self.dead.subscribe();
        // Cannot fail: the sender lives in `self`.
        let reason = dead.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Ends the engine: all leases are released, and the worker ends.
    fn die(&self, reason: String) -> Failure {
        self.dead.send_if_modified(|dead| {
            let first = dead.is_none();
            dead.get_or_insert_with(|| reason.clone());
            first
        });
        engine_dead(&reason)
    }
}
