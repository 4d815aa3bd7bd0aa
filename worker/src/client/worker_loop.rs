//! The loop of a worker: the leases it holds, the calls it waits for, and what follows from each event and reply.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use futures::{FutureExt, stream};
use longhand_proto::LeaseId;
use longhand_proto::task::{Checkpoint, Failure, Lease, Output};
use longhand_proto::trace::TaskRef;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::active_lease::{AbortOnDrop, ActiveLease, Position, Unsaved, log_lease};
use super::coordinator_client::{Completed, CoordinatorClient, Leased, Renewal, Renewed};
use super::cost::CostMeter;
use super::error::WorkerError;
use super::failover_channel::CallError;
use super::heartbeat::Heartbeat;
use super::options::WorkerOptions;
use super::report::{WorkerReport, WorkerSnapshot};
use crate::engine::{Engine, Event, SERVER_BUSY};

/// Time for releasing leases when the engine is dead: the process must end, not linger.
const RELEASE_ALL_TIMEOUT: Duration = Duration::from_secs(2);

/// What the loop reacts to.
#[derive(Debug)]
pub(super) enum Input {
    /// From the engine; none if the event stream closed without a result.
    Engine(LeaseId, Option<Event>),
    Reply(Reply),
    RenewalDue,
    Drain,
    GraceExpired,
    EngineDead(String),
}

/// The end of a call.
#[derive(Debug)]
pub(super) enum Reply {
    Leased { since: Instant, result: Result<Leased, CallError> },
    Renewed { sent: Vec<(LeaseId, Position)>, result: Result<Renewed, CallError> },
    Completed { lease: LeaseId, text: bool, since: Instant, result: Result<Completed, CallError> },
    Released { lease: LeaseId, result: Result<bool, CallError> },
}

/// What the loop does next.
#[derive(Debug)]
pub(super) enum Flow {
    Continue,
    Finished(WorkerReport),
    EngineDead(String),
}

/// The state of a worker: its leases, its calls under way, and its totals.
pub(super) struct WorkerLoop {
    client: CoordinatorClient,
    engine: Arc<dyn Engine>,
    options: WorkerOptions,
    /// Ordered by id: a simulation must iterate in the same order each time.
    leases: BTreeMap<LeaseId, ActiveLease>,
    /// Events of the leases whose task is being written; each stream ends with a none.
    generations: SelectAll<BoxStream<'static, (LeaseId, Option<Event>)>>,
    /// At most one `Lease`, one `Renew`, and one `Complete` or `Release` per lease held.
    calls: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// A `Lease` call is under way; it may fill all slots that are free.
    lease_pending: bool,
    renew_pending: bool,
    /// As of the last renewal: the coordinator takes new tokens alone.
    appends: bool,
    renewal: Interval,
    drain: CancellationToken,
    grace_ends: Option<Instant>,
    /// Since when no lease has been held.
    idle_since: Option<Instant>,
    /// Why the last request for documents was granted none.
    waiting: String,
    report: WorkerReport,
    heartbeat: Heartbeat,
    cost: CostMeter,
}

impl WorkerLoop {
    pub(super) fn new(
        client: CoordinatorClient,
        engine: Arc<dyn Engine>,
        options: WorkerOptions,
        lease: Duration,
    ) -> Self {
        let every = (lease / 3).min(options.checkpoint_every).max(Duration::from_millis(1));
        let mut renewal = tokio::time::interval(every);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cost = CostMeter::new(options.price);
        let mut worker_loop = Self {
            client,
            engine,
            options,
            leases: BTreeMap::new(),
            generations: SelectAll::new(),
            calls: FuturesUnordered::new(),
            lease_pending: false,
            renew_pending: false,
            appends: false,
            renewal,
            drain: CancellationToken::new(),
            grace_ends: None,
            idle_since: Some(Instant::now()),
            waiting: String::new(),
            report: WorkerReport::default(),
            heartbeat: Heartbeat::start(),
            cost,
        };
        worker_loop.request_leases();
        worker_loop
    }

    /// Awaits the next input. Cancel safe.
    pub(super) async fn next(&mut self, shutdown: &CancellationToken, dead: &mut BoxFuture<'_, String>) -> Input {
        let draining = self.drain.is_cancelled();
        let grace_ends = self.grace_ends;
        let idle_ends = self.options.exit_idle.and_then(|time| Some(self.idle_since? + time)).filter(|_| !draining);
        tokio::select! {
            biased;
            reason = dead => Input::EngineDead(reason),
            () = shutdown.cancelled(), if !draining => Input::Drain,
            () = tokio::time::sleep_until(grace_ends.unwrap_or_else(Instant::now)), if grace_ends.is_some() => Input::GraceExpired,
            Some(reply) = self.calls.next(), if !self.calls.is_empty() => Input::Reply(reply),
            () = tokio::time::sleep_until(idle_ends.unwrap_or_else(Instant::now)), if idle_ends.is_some() => Input::Drain,
            _ = self.renewal.tick() => Input::RenewalDue,
            Some((lease, event)) = self.generations.next(), if !self.generations.is_empty() => Input::Engine(lease, event),
        }
    }

    /// Updates the state, and starts the calls that follow from the input.
    pub(super) fn apply(&mut self, input: Input) -> Result<Flow, WorkerError> {
        match input {
            Input::Engine(lease, event) => {
                if let dead @ Flow::EngineDead(_) = self.on_engine_event(lease, event) {
                    return Ok(dead);
                }
            }
            Input::Reply(reply) => self.on_reply(reply)?,
            Input::RenewalDue => self.renew(),
            Input::Drain => self.start_drain(),
            Input::GraceExpired => {
                tracing::warn!(
                    leases = self.leases.len(),
                    "grace period expired; the remaining leases will expire and be reassigned"
                );
                return Ok(Flow::Finished(self.report));
            }
            Input::EngineDead(reason) => return Ok(Flow::EngineDead(reason)),
        }
        self.idle_since = if self.leases.is_empty() { self.idle_since.or_else(|| Some(Instant::now())) } else { None };
        if self.drain.is_cancelled() {
            let done = self.leases.is_empty() && !self.lease_pending;
            return Ok(if done { Flow::Finished(self.report) } else { Flow::Continue });
        }
        self.request_leases();
        Ok(Flow::Continue)
    }

    /// Why it has nothing to write; empty while it writes, or does not know.
    pub(super) fn waiting(&self) -> &str {
        if self.leases.is_empty() { &self.waiting } else { "" }
    }

    pub(super) fn snapshot(&self) -> WorkerSnapshot {
        let writing = self.leases.values().filter(|active| active.generation.is_some());
        WorkerSnapshot {
            report: self.report,
            held: self.leases.len() as u32,
            unsaved_since: writing.map(|active| active.saved.into_std()).min(),
        }
    }

    fn on_engine_event(&mut self, lease: LeaseId, event: Option<Event>) -> Flow {
        let failure = match event {
            Some(Event::Tokens(delta)) => {
                if let Some(active) = self.leases.get_mut(&lease) {
                    active.apply(delta);
                }
                return Flow::Continue;
            }
            Some(Event::Done(output)) => {
                self.complete(lease, Ok(output));
                return Flow::Continue;
            }
            Some(Event::Failed(failure)) => failure,
            None => Failure {
                class: "engine_dropped".into(),
                message: "the engine closed the task's event stream without a result".into(),
                permanent: false,
            },
        };
        // An engine that stops fails every task it holds: not an error of the documents.
        if let Some(reason) = self.engine.dead().now_or_never() {
            return Flow::EngineDead(reason);
        }
        if failure.class == SERVER_BUSY {
            if let Some(active) = self.leases.get(&lease) {
                log_lease!(WARN, active, lease, "task handed back", error = failure.message);
            }
            self.release(lease);
            return Flow::Continue;
        }
        self.complete(lease, Err(failure));
        Flow::Continue
    }

    fn on_reply(&mut self, reply: Reply) -> Result<(), WorkerError> {
        match reply {
            Reply::Leased { since, result } => {
                self.lease_pending = false;
                let Leased { leases, waiting } =
                    result.map_err(|error| WorkerError::from_call(error, self.options.give_up))?;
                self.waiting = waiting;
                for lease in leases {
                    self.start_task(lease, since);
                }
            }
            Reply::Renewed { sent, result } => {
                self.renew_pending = false;
                let Renewed { lost, cancelled, unsaved, appends, drain } =
                    result.map_err(|error| WorkerError::from_call(error, self.options.give_up))?;
                self.appends = appends;
                for (lease, position) in sent {
                    let Some(active) = self.leases.get_mut(&lease) else { continue };
                    if unsaved.contains(&lease) {
                        active.acked = Position::default();
                        self.renewal.reset_immediately();
                    } else {
                        active.acked = position;
                        active.saved = Instant::now();
                    }
                }
                for lease in lost {
                    self.drop_lost(lease);
                }
                self.stop_cancelled(&cancelled);
                if drain {
                    self.start_drain();
                }
            }
            Reply::Completed { lease, text, since, result } => self.on_completed(lease, text, since, result),
            Reply::Released { lease, result } => {
                let Some(active) = self.leases.remove(&lease) else { return Ok(()) };
                match result {
                    Ok(true) => self.report.released += 1,
                    Ok(false) => self.report.lost += 1,
                    Err(error) => {
                        log_lease!(WARN, active, lease, "cannot release a lease", error = error.status().message());
                    }
                }
            }
        }
        Ok(())
    }

    /// The lease has ended; `text` if its result was a text, else a failure.
    fn on_completed(&mut self, lease: LeaseId, text: bool, since: Instant, result: Result<Completed, CallError>) {
        let Some(active) = self.leases.remove(&lease) else { return };
        match result {
            Ok(Completed::Recorded(next)) => {
                *(if text { &mut self.report.completed } else { &mut self.report.failed }) += 1;
                if let Some(next) = next {
                    self.report.continued += 1;
                    self.start_task(*next, since);
                }
            }
            Ok(Completed::Cancelled) => {
                self.report.released += 1;
                log_lease!(DEBUG, active, lease, "document cancelled; result discarded");
            }
            Ok(Completed::Stale) => {
                self.report.lost += 1;
                log_lease!(WARN, active, lease, "lease lost; result discarded");
            }
            Err(error) => {
                self.report.lost += 1;
                log_lease!(ERROR, active, lease, "cannot deliver a result", error = error.status().message());
            }
        }
    }

    /// Asks for as many documents as there are free slots, unless a `Lease` call is under way.
    fn request_leases(&mut self) {
        let free = self.slots().saturating_sub(self.leases.len() as u32);
        if free == 0 || self.lease_pending {
            return;
        }
        self.lease_pending = true;
        let (client, drain, since) = (self.client.clone(), self.drain.clone(), Instant::now());
        self.calls.push(async move { Reply::Leased { since, result: client.lease(free, drain).await } }.boxed());
    }

    /// Starts a leased task, or releases it at once when draining.
    fn start_task(&mut self, lease: Lease, since: Instant) {
        let Lease { id, ttl_ms, task, checkpoint } = lease;
        if self.leases.contains_key(&id) {
            return;
        }
        let active = ActiveLease {
            written: Checkpoint::default(),
            progress: 0,
            acked: Position::default(),
            saved: Instant::now(),
            generation: None,
            begun: None,
            place: TaskRef::of(&task),
            traceparent: task.traceparent.clone(),
        };
        let active = self.leases.entry(id).or_insert(active);
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
        active.generation = Some(AbortOnDrop(cancel));
        active.begun = Some(self.cost.begin(Instant::now()));
        if since.elapsed() > Duration::from_millis(ttl_ms) / 3 {
            // The lease counts from before it was requested, and the reply took long.
            self.renewal.reset_immediately();
        }
    }

    fn complete(&mut self, lease: LeaseId, result: Result<Output, Failure>) {
        let Some(active) = self.leases.get_mut(&lease) else { return };
        active.generation = None;
        if let Err(failure) = &result {
            log_lease!(WARN, active, lease, "task failed", class = failure.class, error = failure.message);
        }
        let traceparent = active.traceparent.clone();
        let cost = self.end_cost(lease, result.as_ref().ok());
        let (client, model) = (self.client.clone(), self.engine.model().clone());
        let (want_next, since, text) = (!self.drain.is_cancelled(), Instant::now(), result.is_ok());
        let call = async move {
            let result = client.complete(lease, result, model, want_next, traceparent, cost).await;
            Reply::Completed { lease, text, since, result }
        };
        self.calls.push(call.boxed());
    }

    /// Renews all leases held, with checkpoints of what was written since the last renewal, and reports this worker's status.
    fn renew(&mut self) {
        if self.renew_pending {
            return;
        }
        self.renew_pending = true;
        let renewals: Vec<Renewal> = (self.leases.iter())
            .map(|(&lease, active)| {
                let unsaved = self.unsaved(active, self.appends);
                Renewal { lease, progress: active.progress, unsaved }
            })
            .collect();
        let (slots, draining) = (self.slots(), self.drain.is_cancelled());
        let status = self.heartbeat.status(self.engine.as_ref(), self.snapshot(), slots, draining);
        let sent = self.leases.iter().map(|(&lease, active)| (lease, active.position())).collect();
        let client = self.client.clone();
        self.calls.push(async move { Reply::Renewed { sent, result: client.renew(renewals, status).await } }.boxed());
    }

    fn slots(&self) -> u32 {
        self.options.slots.map_or(self.engine.slots(), |cap| cap.min(self.engine.slots()))
    }

    /// Another worker may hold the document now. Whether a result under way was in time is for its own reply to say.
    fn drop_lost(&mut self, lease: LeaseId) {
        if self.leases.get(&lease).is_some_and(|active| active.generation.is_some())
            && let Some(active) = {
                self.end_cost(lease, None);
                self.leases.remove(&lease)
            }
        {
            self.report.lost += 1;
            log_lease!(WARN, active, lease, "lease lost; text discarded", tokens = active.written.tokens.len());
        }
    }

    /// Stops decoding what was cancelled, and says how much was written.
    fn stop_cancelled(&mut self, cancelled: &[LeaseId]) {
        let is_writing = |lease: &&LeaseId| self.leases.get(*lease).is_some_and(|active| active.generation.is_some());
        let writing: Vec<LeaseId> = cancelled.iter().filter(is_writing).copied().collect();
        if let Some(active) = writing.first().and_then(|lease| self.leases.get(lease)) {
            tracing::info!(run = %active.place.run, tasks = writing.len(), "cancelled by an operator; decoding stopped");
        }
        for lease in writing {
            self.release(lease);
        }
    }

    /// Stops leasing and releases what is unfinished; calls that deliver results are awaited.
    fn start_drain(&mut self) {
        if self.drain.is_cancelled() {
            return;
        }
        tracing::info!(leases = self.leases.len(), "draining");
        self.drain.cancel();
        self.grace_ends = Some(Instant::now() + self.options.grace);
        let writing: Vec<LeaseId> =
            self.leases.iter().filter(|(_, active)| active.generation.is_some()).map(|(&lease, _)| lease).collect();
        for lease in writing {
            self.release(lease);
        }
    }

    fn release(&mut self, lease: LeaseId) {
        let Some(active) = self.leases.get_mut(&lease) else { return };
        active.generation = None;
        let generated = active.generated();
        let checkpoint = self.leases.get(&lease).and_then(|active| self.unsaved(active, false)).map(|whole| whole.text);
        let (client, cost) = (self.client.clone(), self.end_cost(lease, None));
        let call =
            async move { Reply::Released { lease, result: client.release(lease, checkpoint, cost, generated).await } };
        self.calls.push(call.boxed());
    }

    /// What the task of this lease cost, which ends now; 0 if none has begun. Without an output its tokens are those that came.
    fn end_cost(&mut self, lease: LeaseId, output: Option<&Output>) -> f64 {
        let Some(active) = self.leases.get_mut(&lease) else { return 0.0 };
        let tokens = output.map_or(active.progress, |Output { usage, .. }| {
            u64::from(usage.prompt) + u64::from(usage.generated.saturating_sub(usage.resumed))
        });
        active.begun.take().map_or(0.0, |begun| self.cost.end(begun, tokens, Instant::now()))
    }

    /// See [`ActiveLease::unsaved`]. Tokens without a tokenizer hash are of no use to any worker.
    fn unsaved(&self, active: &ActiveLease, append: bool) -> Option<Unsaved> {
        let hash = &self.engine.model().tokenizer_hash;
        let Unsaved { from, text } = active.unsaved(append).filter(|_| !hash.is_empty())?;
        Some(Unsaved { from, text: Checkpoint { tokenizer_hash: hash.clone(), ..text } })
    }

    /// Releases what can be released quickly: without an engine there is nothing to wait for.
    pub(super) async fn release_all(&mut self) {
        self.options.grace = RELEASE_ALL_TIMEOUT;
        self.start_drain();
        let until = Instant::now() + RELEASE_ALL_TIMEOUT;
        while !self.leases.is_empty() || self.lease_pending {
            let Ok(Some(reply)) = tokio::time::timeout_at(until, self.calls.next()).await else { break };
            if let Err(error) = self.on_reply(reply) {
                tracing::warn!(%error, "cannot release leases; they will expire");
                break;
            }
        }
    }
}
