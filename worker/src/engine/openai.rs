//! An engine that lives elsewhere: any server that speaks OpenAI's chat completions, such as vLLM, SGLang or llama.cpp.
//!
//! Texts are streamed, so that length control, loop stop and progress work as with a model of our own. What goes wrong
//! between here and the server is never the document's fault: a request that was refused for want of room, or cut, is
//! made again, and a server that gives nobody any text for long is a dead engine. There are no checkpoints: a server
//! cannot be made to go on in the middle of a text, so a task that was lost is written anew.

mod body;
mod gbnf;
mod pace;
mod server;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use longhand_proto::task::{Checkpoint, Failure, ModelInfo, Output, Task, Timings};
use longhand_proto::{rng, trace};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::watch::Watch;
use super::{Engine, EngineStats, Event, Generation};
use pace::Gate;
pub use server::{OpenAiError, OpenAiOptions};
use server::{Server, Trouble};

/// Events that may wait for a slow reader before the stream waits for it.
const EVENTS: usize = 64;
/// Times that the connection of one task may break before the task counts as failed.
const CUTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Debug)]
pub struct OpenAiEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    gate: Gate,
    /// Time without any text after which a task, or the server itself, is given up.
    patience: Duration,
    heard: watch::Sender<Instant>,
    dead: watch::Sender<Option<String>>,
    running: AtomicU32,
    prompt: AtomicU64,
    cached: AtomicU64,
    generated: AtomicU64,
}

impl OpenAiEngine {
    /// Asks the server what it is and which models it has.
    ///
    /// # Errors
    /// It does not answer, wants another key, or has not the model.
    pub async fn connect(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        let (slots, patience) = (options.slots.max(1), options.patience);
        let server = Server::connect(options).await?;
        let shared = Shared {
            server,
            gate: Gate::new(slots),
            patience,
            heard: watch::Sender::new(Instant::now()),
            dead: watch::Sender::new(None),
            running: AtomicU32::new(0),
            prompt: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            generated: AtomicU64::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Engine for OpenAiEngine {
    fn model(&self) -> &ModelInfo {
        self.shared.server.model()
    }

    /// As many as the server took lately: a document that waits here would be taken for one that is stuck.
    fn slots(&self) -> u32 {
        self.shared.gate.limit()
    }

    fn start(&self, task: Task, _resume: Option<Checkpoint>) -> Generation {
        let (events, receiver) = mpsc::channel(EVENTS);
        let shared = Arc::clone(&self.shared);
        drop(tokio::spawn(async move {
            shared.running.fetch_add(1, Ordering::Relaxed);
            let end = tokio::select! {
                biased;
                () = events.closed() => None,
                reason = shared.death() => Some(Event::Failed(engine_dead(reason))),
                end = shared.write(&task, &events) => Some(end.map_or_else(Event::Failed, Event::Done)),
            };
            shared.running.fetch_sub(1, Ordering::Relaxed);
            if let Some(end) = end {
                // A closed channel means that the task was cancelled.
                drop(events.send(end).await);
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
        self.shared.death().boxed()
    }
}

impl Shared {
    /// Asks until there is an answer that is one.
    async fn write(&self, task: &Task, events: &mpsc::Sender<Event>) -> Result<Output, Failure> {
        let began = Instant::now();
        let (mut cuts, mut wait) = (0, FIRST_WAIT);
        let mut watch = Watch::start(task);
        loop {
            let entry = self.gate.enter().await;
            let asked = Instant::now();
            // What the server found in its cache it says at the end, if at all.
            watch.prefill(0, 0);
            let heard = |pieces| {
                self.heard.send_replace(Instant::now());
                watch.decode();
                watch.wrote(pieces);
            };
            let trouble = match self.server.ask(task, events, heard).await {
                Ok(answer) => {
                    entry.well();
                    self.count(&answer.usage);
                    watch.end(answer.finish_reason.as_str());
                    let queue_ms = asked.duration_since(began).as_millis() as u64;
                    let timings = Timings { queue_ms, ..answer.timings };
                    return Ok(Output { timings, ..answer });
                }
                Err(trouble) => trouble,
            };
            let message = match trouble {
                Trouble::Refused(failure) => {
                    watch.end(&failure.class);
                    return Err(failure);
                }
                Trouble::Denied(reason) => return Err(self.die(reason)),
                Trouble::Busy { retry_after, message } => {
                    entry.busy(retry_after);
                    message
                }
                Trouble::Cut(message) => {
                    cuts += 1;
                    message
                }
            };
            tracing::debug!(
                run = %task.run, document = %task.document, trace_id = trace::id_of(&task.traceparent), message,
                "the server gave no text; it is asked again"
            );
            let now = Instant::now();
            if now.duration_since(*self.heard.borrow()) > self.patience {
                let (url, seconds) = (self.server.url(), self.patience.as_secs());
                return Err(self.die(format!("{url} gave no text for {seconds} s: {message}")));
            }
            if now.duration_since(began) > self.patience || cuts > CUTS {
                return Err(Failure { class: "server_error".into(), message, permanent: false });
            }
            drop(entry);
            tokio::time::sleep(rng::around(wait)).await;
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    fn count(&self, usage: &longhand_proto::task::Usage) {
        for (total, number) in
            [(&self.prompt, usage.prompt), (&self.cached, usage.cached), (&self.generated, usage.generated)]
        {
            total.fetch_add(u64::from(number), Ordering::Relaxed);
        }
    }

    async fn death(&self) -> String {
        let mut dead = self.dead.subscribe();
        // Cannot fail: the other end lives in `self`.
        let reason = dead.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or_default()
    }

    /// Ends the engine: all documents go back unharmed, and the worker ends.
    fn die(&self, reason: String) -> Failure {
        self.dead.send_if_modified(|dead| {
            let first = dead.is_none();
            dead.get_or_insert_with(|| reason.clone());
            first
        });
        engine_dead(reason)
    }
}

fn engine_dead(reason: String) -> Failure {
    Failure { class: "engine_dead".into(), message: reason, permanent: false }
}
