//! What lies on a worker's desk: the documents it writes, the calls it waits for, and what becomes of both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{AbortHandle, BoxFuture};
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use futures::{FutureExt, stream};
use longhand_proto::LeaseId;
use longhand_proto::task::{Checkpoint, Failure, Lease, Output, WorkerStatus};
use longhand_proto::trace::{self, TaskRef};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::link::CallError;
use super::pulse::Pulse;
use super::remote::{Completed, Leased, Remote, Renewal, Renewed};
use super::{Status, WorkerError, WorkerOptions, WorkerReport};
use crate::engine::{Engine, Event};

/// Time for giving leases back when the engine is dead: the process must end, not linger.
const ABANDON: Duration = Duration::from_secs(2);

/// A log line about a document in hand, with all its names.
macro_rules! say {
    ($level:ident, $held:expr, $lease:expr, $text:literal $(, $field:ident = $value:expr)*) => {{
        let TaskRef { run, document, section, attempt } = &$held.place;
        tracing::event!(
            tracing::Level::$level, %run, %document, section, attempt, trace_id = trace::id_of(&$held.traceparent),
            lease = %$lease, $($field = $value,)* $text
        );
    }};
}

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// From the engine; none if it dropped the task without an end.
    Engine(LeaseId, Option<Event>),
    Reply(Reply),
    RenewalDue,
    Drain,
    GraceOver,
    EngineDead(String),
}

/// The end of a call.
#[derive(Debug)]
pub(super) enum Reply {
    Leased { since: Instant, result: Result<Leased, CallError> },
    Renewed { sent: Vec<(LeaseId, usize)>, result: Result<Renewed, CallError> },
    Completed { lease: LeaseId, text: bool, since: Instant, result: Result<Completed, CallError> },
    Released { lease: LeaseId, result: Result<bool, CallError> },
}

/// What the loop does next.
#[derive(Debug)]
pub(super) enum Flow {
    Go,
    End(WorkerReport),
    Dead(String),
}

/// A document in hand.
#[derive(Debug)]
struct Held {
    /// All tokens of the unfinished task, those taken over from a checkpoint first.
    tokens: Vec<u32>,
    /// How many of them the coordinator has.
    acked: usize,
    /// When it got them, or when the document was taken.
    saved: Instant,
    /// None once its result or itself is on the way back.
    writing: Option<Generating>,
    place: TaskRef,
    /// Trace context of the attempt; empty if its document is not traced.
    traceparent: String,
}

/// Cancels a generation when it is dropped.
#[derive(Debug)]
struct Generating(AbortHandle);

impl Drop for Generating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) struct Desk {
    remote: Remote,
    engine: Arc<dyn Engine>,
    options: WorkerOptions,
    /// In an order of its own: a simulation must see the same each time.
    held: BTreeMap<LeaseId, Held>,
    /// Events of the held leases that are writing, each closed by a none.
    generations: SelectAll<BoxStream<'static, (LeaseId, Option<Event>)>>,
    /// At most one `Lease`, one `Renew`, and one `Complete` or `Release` per held lease.
    calls: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// A request for work is on its way; it may fill all slots that are free.
    asking: bool,
    renewing: bool,
    renewal: Interval,
    drain: CancellationToken,
    grace_over: Option<Instant>,
    /// Since when there has been nothing in hand.
    idle_since: Option<Instant>,
    report: WorkerReport,
    pulse: Pulse,
}

impl Desk {
    pub(super) fn new(remote: Remote, engine: Arc<dyn Engine>, options: WorkerOptions, lease: Duration) -> Self {
        let every = (lease / 3).min(options.checkpoint_every).max(Duration::from_millis(1));
        let mut renewal = tokio::time::interval(every);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut desk = Self {
            remote,
            engine,
            options,
            held: BTreeMap::new(),
            generations: SelectAll::new(),
            calls: FuturesUnordered::new(),
            asking: false,
            renewing: false,
            renewal,
            drain: CancellationToken::new(),
            grace_over: None,
            idle_since: Some(Instant::now()),
            report: WorkerReport::default(),
            pulse: Pulse::start(),
        };
        desk.ask();
        desk
    }

    /// Awaits the next thing that happens. Cancel safe.
    pub(super) async fn next(&mut self, shutdown: &CancellationToken, dead: &mut BoxFuture<'_, String>) -> Input {
        let draining = self.drain.is_cancelled();
        let grace_over = self.grace_over;
        let idle_over = self.options.exit_idle.and_then(|time| Some(self.idle_since? + time)).filter(|_| !draining);
        tokio::select! {
            biased;
            reason = dead => Input::EngineDead(reason),
            () = shutdown.cancelled(), if !draining => Input::Drain,
            () = tokio::time::sleep_until(grace_over.unwrap_or_else(Instant::now)), if grace_over.is_some() => Input::GraceOver,
            Some(reply) = self.calls.next(), if !self.calls.is_empty() => Input::Reply(reply),
            () = tokio::time::sleep_until(idle_over.unwrap_or_else(Instant::now)), if idle_over.is_some() => Input::Drain,
            _ = self.renewal.tick() => Input::RenewalDue,
            Some((lease, event)) = self.generations.next(), if !self.generations.is_empty() => Input::Engine(lease, event),
        }
    }

    /// Changes the state by what happened, and starts the calls that follow from it.
    pub(super) fn apply(&mut self, input: Input) -> Result<Flow, WorkerError> {
        match input {
            Input::Engine(lease, event) => {
                if let dead @ Flow::Dead(_) = self.engine(lease, event) {
                    return Ok(dead);
                }
            }
            Input::Reply(reply) => self.reply(reply)?,
            Input::RenewalDue => self.renew(),
            Input::Drain => self.start_drain(),
            Input::GraceOver => {
                tracing::warn!(leases = self.held.len(), "grace time is over; what is left will be leased anew");
                return Ok(Flow::End(self.report));
            }
            Input::EngineDead(reason) => return Ok(Flow::Dead(reason)),
        }
        self.idle_since = if self.held.is_empty() { self.idle_since.or_else(|| Some(Instant::now())) } else { None };
        if self.drain.is_cancelled() {
            let done = self.held.is_empty() && !self.asking;
            return Ok(if done { Flow::End(self.report) } else { Flow::Go });
        }
        self.ask();
        Ok(Flow::Go)
    }

    pub(super) fn status(&self) -> Status {
        let writing = self.held.values().filter(|held| held.writing.is_some());
        Status {
            report: self.report,
            held: self.held.len() as u32,
            unsaved_since: writing.map(|held| held.saved.into_std()).min(),
        }
    }

    fn engine(&mut self, lease: LeaseId, event: Option<Event>) -> Flow {
        let failure = match event {
            Some(Event::Tokens(tokens)) => {
                if let Some(held) = self.held.get_mut(&lease) {
                    held.tokens.extend(tokens);
                }
                return Flow::Go;
            }
            Some(Event::Done(output)) => {
                self.complete(lease, Ok(output));
                return Flow::Go;
            }
            Some(Event::Failed(failure)) => failure,
            None => Failure {
                class: "engine_dropped".into(),
                message: "the engine dropped the task without an end".into(),
                permanent: false,
            },
        };
        // A dying engine fails all that it holds; the documents did nothing wrong.
        if let Some(reason) = self.engine.dead().now_or_never() {
            return Flow::Dead(reason);
        }
        self.complete(lease, Err(failure));
        Flow::Go
    }

    fn reply(&mut self, reply: Reply) -> Result<(), WorkerError> {
        match reply {
            Reply::Leased { since, result } => {
                self.asking = false;
                let Leased { leases, drain } = result.map_err(|error| error.into_worker_error(self.options.give_up))?;
                if drain {
                    self.start_drain();
                }
                for lease in leases {
                    self.take(lease, since);
                }
            }
            Reply::Renewed { sent, result } => {
                self.renewing = false;
                let Renewed { lost, drain } = result.map_err(|error| error.into_worker_error(self.options.give_up))?;
                for (lease, tokens) in sent {
                    if let Some(held) = self.held.get_mut(&lease) {
                        held.acked = held.acked.max(tokens);
                        held.saved = Instant::now();
                    }
                }
                for lease in lost {
                    self.lose(lease);
                }
                if drain {
                    self.start_drain();
                }
            }
            Reply::Completed { lease, text, since, result } => {
                let Some(held) = self.held.remove(&lease) else { return Ok(()) };
                match result {
                    Ok(Completed::Recorded(next)) => {
                        *(if text { &mut self.report.completed } else { &mut self.report.failed }) += 1;
                        if let Some(next) = next {
                            self.report.continued += 1;
                            self.take(*next, since);
                        }
                    }
                    Ok(Completed::Stale) => {
                        self.report.lost += 1;
                        say!(WARN, held, lease, "lease lost; its result is thrown away");
                    }
                    Err(error) => {
                        self.report.lost += 1;
                        say!(ERROR, held, lease, "a result was not taken", error = error.status().message());
                    }
                }
            }
            Reply::Released { lease, result } => {
                let Some(held) = self.held.remove(&lease) else { return Ok(()) };
                match result {
                    Ok(true) => self.report.released += 1,
                    Ok(false) => self.report.lost += 1,
                    Err(error) => {
                        say!(WARN, held, lease, "a lease could not be given back", error = error.status().message());
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks for as many documents as there are free slots, unless a request is on its way.
    fn ask(&mut self) {
        let free = self.slots().saturating_sub(self.held.len() as u32);
        if free == 0 || self.asking {
            return;
        }
        self.asking = true;
        let (remote, drain, since) = (self.remote.clone(), self.drain.clone(), Instant::now());
        self.calls.push(async move { Reply::Leased { since, result: remote.lease(free, drain).await } }.boxed());
    }

    /// Begins a leased task, or gives it back at once when draining.
    fn take(&mut self, lease: Lease, since: Instant) {
        let Lease { id, ttl_ms, task, checkpoint } = lease;
        if self.held.contains_key(&id) {
            return;
        }
        let held = Held {
            tokens: Vec::new(),
            acked: 0,
            saved: Instant::now(),
            writing: None,
            place: TaskRef::of(&task),
            traceparent: task.traceparent.clone(),
        };
        let held = self.held.entry(id).or_insert(held);
        if self.drain.is_cancelled() {
            self.release(id);
            return;
        }
        let hash = &self.engine.model().tokenizer_hash;
        let resume = checkpoint.filter(|checkpoint| checkpoint.tokenizer_hash == *hash);
        let generation = self.engine.start(task, resume);
        let events = ReceiverStream::new(generation.events).map(Some).chain(stream::once(async { None }));
        let (events, cancel) = stream::abortable(events.map(move |event| (id, event)));
        self.generations.push(events.boxed());
        held.writing = Some(Generating(cancel));
        if since.elapsed() > Duration::from_millis(ttl_ms) / 3 {
            // The lease counts from before it was asked for, and the answer was long in coming.
            self.renewal.reset_immediately();
        }
    }

    fn complete(&mut self, lease: LeaseId, result: Result<Output, Failure>) {
        let Some(held) = self.held.get_mut(&lease) else { return };
        held.writing = None;
        if let Err(failure) = &result {
            say!(WARN, held, lease, "task failed", class = failure.class, error = failure.message);
        }
        let traceparent = held.traceparent.clone();
        let (remote, model) = (self.remote.clone(), self.engine.model().clone());
        let (want_next, since, text) = (!self.drain.is_cancelled(), Instant::now(), result.is_ok());
        let call = async move {
            let result = remote.complete(lease, result, model, want_next, traceparent).await;
            Reply::Completed { lease, text, since, result }
        };
        self.calls.push(call.boxed());
    }

    /// Keeps all leases in hand alive, hands in what was written since the last time, and says how this worker is.
    fn renew(&mut self) {
        let renewals: Vec<Renewal> = (self.held.iter())
            .map(|(&lease, held)| Renewal {
                lease,
                progress: held.tokens.len() as u64,
                checkpoint: self.checkpoint(held),
            })
            .collect();
        if self.renewing {
            return;
        }
        self.renewing = true;
        let vitals = self.vitals();
        let sent = self.held.iter().map(|(&lease, held)| (lease, held.tokens.len())).collect();
        let remote = self.remote.clone();
        self.calls.push(async move { Reply::Renewed { sent, result: remote.renew(renewals, vitals).await } }.boxed());
    }

    fn vitals(&mut self) -> WorkerStatus {
        let (slots, held) = (self.slots(), self.held.len() as u32);
        let WorkerReport { completed, failed, released, lost, continued: _ } = self.report;
        WorkerStatus {
            slots,
            held,
            completed,
            failed,
            released,
            lost,
            draining: self.drain.is_cancelled(),
            ..self.pulse.take(self.engine.as_ref())
        }
    }

    fn slots(&self) -> u32 {
        self.options.slots.map_or(self.engine.slots(), |cap| cap.min(self.engine.slots()))
    }

    /// The document belongs to somebody else now. Whether a result on its way was in time is for its own answer to say.
    fn lose(&mut self, lease: LeaseId) {
        if self.held.get(&lease).is_some_and(|held| held.writing.is_some())
            && let Some(held) = self.held.remove(&lease)
        {
            self.report.lost += 1;
            say!(WARN, held, lease, "lease lost; its text is thrown away", tokens = held.tokens.len());
        }
    }

    /// Stops taking work and gives back what is unfinished; results on their way are seen through.
    fn start_drain(&mut self) {
        if self.drain.is_cancelled() {
            return;
        }
        tracing::info!(leases = self.held.len(), "draining");
        self.drain.cancel();
        self.grace_over = Some(Instant::now() + self.options.grace);
        let writing: Vec<LeaseId> =
            self.held.iter().filter(|(_, held)| held.writing.is_some()).map(|(&lease, _)| lease).collect();
        for lease in writing {
            self.release(lease);
        }
    }

    fn release(&mut self, lease: LeaseId) {
        let Some(held) = self.held.get_mut(&lease) else { return };
        held.writing = None;
        let checkpoint = self.held.get(&lease).and_then(|held| self.checkpoint(held));
        let remote = self.remote.clone();
        self.calls
            .push(async move { Reply::Released { lease, result: remote.release(lease, checkpoint).await } }.boxed());
    }

    /// What `held` has and the coordinator has not. Tokens of an engine that names no tokenizer mean nothing to anybody.
    fn checkpoint(&self, held: &Held) -> Option<Checkpoint> {
        let hash = &self.engine.model().tokenizer_hash;
        let tokens = held.unsaved().filter(|_| !hash.is_empty())?;
        Some(Checkpoint { tokens, tokenizer_hash: hash.clone() })
    }

    /// Gives back what can be given back quickly: without an engine there is nothing to wait for.
    pub(super) async fn abandon(&mut self) {
        self.options.grace = ABANDON;
        self.start_drain();
        let until = Instant::now() + ABANDON;
        while !self.held.is_empty() || self.asking {
            let Ok(Some(reply)) = tokio::time::timeout_at(until, self.calls.next()).await else { break };
            if let Err(error) = self.reply(reply) {
                tracing::warn!(%error, "leases are left to run out");
                break;
            }
        }
    }
}

impl Held {
    /// The whole checkpoint, if it holds more than the coordinator has.
    fn unsaved(&self) -> Option<Vec<u32>> {
        (self.tokens.len() > self.acked).then(|| self.tokens.clone())
    }
}
