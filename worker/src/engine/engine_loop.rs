//! The loop on the device thread: it alone owns the device, the KV pool and the sequences.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Duration;

use longhand_proto::clock;
use longhand_proto::task::{Failure, FinishReason};
use tokio::sync::watch;

use super::EngineStats;
use super::capacity::Capacity;
use super::event_sender::engine_dead;
use super::generation_state::Outcome;
use super::grammar_request::{GrammarRequest, GrammarResponse};
use super::model_runner::ModelRunner;
use super::preparer::{Limits, Prepared, permanent};
use super::scheduler::{Row, Scheduler};
use super::sequence::{AllowedTokens, Sequence};
use super::tokenizer_adapter::TokenizerAdapter;
use crate::device::{DeviceError, SampleError, Sampled};

/// A step waits this long for outstanding grammar responses, then runs without their sequences. A response takes a tenth
/// of it as a rule, while a step without the sequence would double the time to its next token.
const GRAMMAR_WAIT: Duration = Duration::from_millis(2);
/// Steps that fail one after the other, none between them succeeding, after which the device counts as lost.
const MAX_FAULTS: u32 = 3;

/// What reaches the device thread.
#[derive(Debug)]
pub(crate) enum Message {
    Start(Prepared),
    Grammar(GrammarResponse),
    Stop,
}

/// The loop and all that it owns.
#[derive(Debug)]
pub(crate) struct EngineLoop {
    pub(crate) tokenizer: Arc<dyn TokenizerAdapter>,
    pub(crate) runner: ModelRunner,
    pub(crate) scheduler: Scheduler,
    pub(crate) limits: Limits,
    pub(crate) capacity: Capacity,
    pub(crate) messages: Receiver<Message>,
    pub(crate) grammar_requests: SyncSender<GrammarRequest>,
    /// Grammar requests without a response.
    pub(crate) awaiting_grammar: usize,
    /// Only with a pipelined device.
    pub(crate) in_flight: Option<InFlightStep>,
    /// Steps that the device failed since the last one that succeeded.
    pub(crate) faults: u32,
    /// Sequences of those steps. If the device is broken, they are handed back; if it works again, they were at fault.
    pub(crate) suspects: Vec<Sequence>,
    pub(crate) stats: EngineStats,
    pub(crate) stats_sender: watch::Sender<EngineStats>,
}

/// A step that was launched and whose tokens are not collected yet.
#[derive(Debug, Default)]
pub(crate) struct InFlightStep {
    /// Ids of the sequences whose keys and values it computes.
    computed: Vec<u64>,
    /// Ids of the sequences whose next tokens it samples, in order.
    sampled: Vec<u64>,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LoopExit {
    Stopped,
    DeviceLost(String),
}

impl EngineLoop {
    /// Runs until told to stop or until the device is lost; then every task has got its last event.
    pub(crate) fn run(&mut self) -> LoopExit {
        loop {
            let exit = match self.tick() {
                None => continue,
                Some(exit) => exit,
            };
            let message = match &exit {
                LoopExit::Stopped => "the engine was shut down".to_owned(),
                LoopExit::DeviceLost(error) => format!("the device was lost: {error}"),
            };
            let mut sequences = self.scheduler.remove_if(|_| true);
            sequences.append(&mut self.suspects);
            self.publish();
            sequences.into_iter().for_each(|sequence| sequence.failed(engine_dead(&message)));
            return exit;
        }
    }

    /// One step, or one message where there is nothing to compute.
    fn tick(&mut self) -> Option<LoopExit> {
        // While a step is in flight there is no need to wait for grammars.
        if let Some(exit) = self.drain_messages(self.in_flight.is_none()) {
            return Some(exit);
        }
        // Cancelled: their receivers are gone.
        drop(self.scheduler.remove_if(|sequence| sequence.events.is_cancelled()));
        self.suspects.retain(|sequence| !sequence.events.is_cancelled());
        let plan = self.scheduler.plan(self.runner.token_budget());
        for sequence in plan.oversized {
            let (need, have) = (sequence.tokens.len() + 1, self.limits.pool);
            sequence.failed(permanent(
                "kv_too_small",
                format!(
                    "the prompt and the text so far need {need} tokens of KV memory, but the pool holds {have}; give the \
                     device more KV memory, or request a shorter text"
                ),
            ));
        }
        self.record_admitted();
        if plan.rows.is_empty() && self.in_flight.is_none() {
            // Nothing else can show whether the device works: one of them is tried again, alone.
            if !self.suspects.is_empty() && self.scheduler.is_empty() {
                self.scheduler.push(self.suspects.remove(0));
                return None;
            }
            self.publish();
            return self.wait();
        }
        let outcome = if self.runner.is_pipelined() { self.launch_step(&plan.rows) } else { self.run_step(&plan.rows) };
        self.publish();
        outcome
    }

    /// Handles all queued messages; if `wait_for_grammars`, waits up to [`GRAMMAR_WAIT`] for outstanding responses.
    fn drain_messages(&mut self, wait_for_grammars: bool) -> Option<LoopExit> {
        loop {
            let message = if wait_for_grammars && self.awaiting_grammar > 0 {
                match self.messages.recv_timeout(GRAMMAR_WAIT) {
                    Ok(message) => message,
                    Err(RecvTimeoutError::Timeout) => return None,
                    Err(RecvTimeoutError::Disconnected) => return Some(LoopExit::Stopped),
                }
            } else {
                match self.messages.try_recv() {
                    Ok(message) => message,
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => return Some(LoopExit::Stopped),
                }
            };
            if let Some(exit) = self.handle(message) {
                return Some(exit);
            }
        }
    }

    /// Waits for the next message: there is nothing to compute.
    fn wait(&mut self) -> Option<LoopExit> {
        match self.messages.recv() {
            Ok(message) => self.handle(message),
            Err(_) => Some(LoopExit::Stopped),
        }
    }

    fn handle(&mut self, message: Message) -> Option<LoopExit> {
        match message {
            Message::Start(Prepared { sequence, ended }) => {
                self.stats.prompt_tokens += u64::from(sequence.usage.prompt);
                self.capacity.started(&sequence);
                match ended {
                    Some(reason) => self.complete(*sequence, reason),
                    None => self.scheduler.push(*sequence),
                }
                None
            }
            Message::Grammar(response) => {
                self.awaiting_grammar -= 1;
                self.on_grammar_response(response);
                None
            }
            Message::Stop => Some(LoopExit::Stopped),
        }
    }

    fn on_grammar_response(&mut self, response: GrammarResponse) {
        // It may have been cancelled in the meantime.
        let suspect = self.suspects.iter_mut().find(|sequence| sequence.id == response.id);
        let Some(sequence) = suspect.or_else(|| self.scheduler.find(response.id)) else { return };
        sequence.grammar = Some(response.grammar);
        sequence.timer.grammar_received();
        match response.next {
            Ok(next) => {
                if let Some(reason) = sequence.apply_grammar(next, &*self.tokenizer, self.limits.context) {
                    self.finish(response.id, reason);
                }
            }
            Err(error) => {
                let message = format!("the grammar constraint failed during decoding: {error}");
                self.fail(response.id, Failure { class: "bad_constraint".into(), message, permanent: false });
            }
        }
    }

    fn record_admitted(&mut self) {
        for id in self.scheduler.take_admitted() {
            let Some(sequence) = self.scheduler.find(id) else { continue };
            // Nothing of it has been computed yet: these came from the prefix cache.
            let cached = sequence.computed;
            if sequence.timer.start_prefill(cached, sequence.tokens.len() - cached) {
                let of_prompt = |tokens: usize| tokens.min(sequence.usage.prompt as usize) as u32;
                (sequence.usage.cached, sequence.usage.reusable) = (of_prompt(cached), of_prompt(sequence.reusable));
                self.stats.cached_tokens += u64::from(sequence.usage.cached);
                self.stats.reusable_tokens += u64::from(sequence.usage.reusable);
            }
        }
    }

    fn run_step(&mut self, rows: &[Row]) -> Option<LoopExit> {
        self.stats.steps += 1;
        let started = clock::now();
        let sampled = self.runner.run(&self.scheduler.running, rows);
        self.stats.step_time += clock::now().duration_since(started);
        let sampled = match sampled {
            Ok(sampled) => sampled,
            Err(error) => {
                let ids: Vec<u64> = rows.iter().map(|row| self.scheduler.running[row.index].id).collect();
                return self.on_step_error(ids, error);
            }
        };
        self.on_step_success();
        // Ids, as sequences that end leave the list that rows point into.
        let ids: Vec<u64> = rows.iter().map(|row| self.scheduler.running[row.index].id).collect();
        let failed = |sampled: &Option<Sampled>| matches!(sampled, Some(Err(_)));
        let good = rows.iter().zip(&sampled).filter(|(_, sampled)| !failed(sampled));
        good.for_each(|(row, _)| self.scheduler.record_computed(*row));
        for (id, sampled) in ids.into_iter().zip(sampled) {
            if let Some(sampled) = sampled {
                self.on_sampled(id, sampled);
            }
        }
        None
    }

    /// Launches a step's layers, finishes the previous step while they run, then launches the sampling.
    fn launch_step(&mut self, rows: &[Row]) -> Option<LoopExit> {
        let started = clock::now();
        let launched = if rows.is_empty() { Ok(()) } else { self.runner.launch(&self.scheduler.running, rows) };
        // Ids, as sequences that end leave the list that rows point into.
        let row = |row: &Row| {
            let sequence = &self.scheduler.running[row.index];
            (sequence.id, sequence.computed, row.len)
        };
        let rows: Vec<(u64, usize, usize)> = rows.iter().map(row).collect();
        if let Some(exit) = self.finish_step() {
            return Some(exit);
        }
        if rows.is_empty() {
            return None;
        }
        // The masks for this step's sampling follow from the tokens just collected.
        if let Some(exit) = self.drain_messages(true) {
            return Some(exit);
        }
        let (mut in_flight, mut sample_params) = (InFlightStep::default(), Vec::new());
        for (at, &(id, start, len)) in rows.iter().enumerate() {
            let Some(sequence) = self.scheduler.running.iter_mut().find(|sequence| sequence.id == id) else { continue };
            // Its text has just been taken back: what the row computes belongs to blocks that it no longer holds.
            if sequence.computed < start {
                continue;
            }
            let end = sequence.computed + len;
            let last = end == sequence.tokens.len();
            // A sequence that still awaits its grammar recomputes its last token once there is a response.
            if last && sequence.awaiting_grammar() {
                continue;
            }
            sequence.computed = end;
            in_flight.computed.push(id);
            if last {
                sequence.pending_token = Some(in_flight.sampled.len());
                in_flight.sampled.push(id);
                sample_params.push((at, self.runner.sample_params(sequence)));
            }
        }
        self.stats.steps += 1;
        let outcome = launched.and_then(|()| self.runner.sample(&sample_params));
        self.stats.step_time += clock::now().duration_since(started);
        match outcome {
            Ok(()) => {
                self.in_flight = Some(in_flight);
                None
            }
            Err(error) => self.on_step_error(rows.into_iter().map(|(id, ..)| id).collect(), error),
        }
    }

    /// Collects the tokens of the step in flight.
    fn finish_step(&mut self) -> Option<LoopExit> {
        let InFlightStep { computed, sampled } = self.in_flight.take()?;
        match self.runner.collect(sampled.len()) {
            Ok(results) => {
                self.on_step_success();
                let failed = |id: &u64| sampled.iter().zip(&results).any(|(at, result)| at == id && result.is_err());
                computed.into_iter().filter(|id| !failed(id)).for_each(|id| self.scheduler.publish_blocks(id));
                for (id, result) in sampled.into_iter().zip(results) {
                    if let Some(sequence) = self.scheduler.find(id) {
                        sequence.pending_token = None;
                    }
                    self.on_sampled(id, result);
                }
                None
            }
            Err(error) => self.on_step_error(computed, error),
        }
    }

    fn on_sampled(&mut self, id: u64, sampled: Sampled) {
        let error = match sampled {
            Ok(token) => return self.on_token(id, token),
            Err(error) => error,
        };
        let class = match error {
            SampleError::NotNumbers => {
                // Its keys and values may hold the same: no sequence is to find them in the cache.
                self.scheduler.forget_blocks(id);
                "bad_logits"
            }
            SampleError::NothingAllowed => "nothing_allowed",
        };
        self.fail(
            id,
            Failure { class: class.into(), message: format!("no token could be sampled: {error}"), permanent: false },
        );
    }

    fn on_token(&mut self, id: u64, token: u32) {
        let Some(sequence) = self.scheduler.find(id) else { return };
        sequence.timer.start_decode();
        let outcome = if self.tokenizer.eos().contains(&token) {
            sequence.generation.end().map_or(Outcome::Ends(FinishReason::Stop), Outcome::Backtrack)
        } else {
            self.stats.generated_tokens += 1;
            sequence.append(token, &*self.tokenizer, self.limits.context)
        };
        match outcome {
            Outcome::Continues => {}
            Outcome::Ends(reason) => return self.finish(id, reason),
            Outcome::Backtrack(backtrack) => return self.scheduler.take_back(id, backtrack, &*self.tokenizer),
        }
        self.ask_grammar(id, token);
    }

    /// Asks a grammar thread what may follow the token, if the sequence has a grammar.
    fn ask_grammar(&mut self, id: u64, token: u32) {
        let Some(sequence) = self.scheduler.find(id) else { return };
        if let Some(grammar) = sequence.grammar.take() {
            sequence.allowed = AllowedTokens::AwaitingGrammar;
            sequence.timer.grammar_requested();
            self.awaiting_grammar += 1;
            // Never blocks: the grammar threads may be blocked on a message to this one.
            if let Err(error) = self.grammar_requests.try_send(GrammarRequest { id, grammar, token }) {
                self.awaiting_grammar -= 1;
                self.fail(id, engine_dead(&format!("the grammar threads do not respond: {error}")));
            }
        }
    }

    fn finish(&mut self, id: u64, reason: FinishReason) {
        if let Some(sequence) = self.scheduler.remove(id) {
            self.complete(sequence, reason);
        }
    }

    /// Publishes first, so that a reader of the last event finds the task in the totals.
    fn complete(&mut self, sequence: Sequence, reason: FinishReason) {
        self.capacity.ended(&sequence);
        self.publish();
        sequence.done(reason);
    }

    fn fail(&mut self, id: u64, failure: Failure) {
        if let Some(sequence) = self.scheduler.remove(id) {
            self.publish();
            sequence.failed(failure);
        }
    }

    /// The contents of these sequences' blocks are unknown: they leave the step, the others continue.
    fn on_step_error(&mut self, ids: Vec<u64>, error: DeviceError) -> Option<LoopExit> {
        match error {
            DeviceError::Lost(error) => return Some(LoopExit::DeviceLost(error)),
            DeviceError::Step(error) => ids.into_iter().for_each(|id| self.fail(id, step_failed(&error))),
            DeviceError::Fault(error) => {
                self.faults += 1;
                if self.faults >= MAX_FAULTS {
                    return Some(LoopExit::DeviceLost(format!(
                        "{MAX_FAULTS} steps failed in a row, the last one: {error}"
                    )));
                }
                tracing::warn!(error, "the device failed a step");
                for mut sequence in ids.into_iter().filter_map(|id| self.scheduler.remove(id)) {
                    sequence.pending_token = None;
                    self.suspects.push(sequence);
                }
            }
        }
        None
    }

    /// The device works: the steps that it failed before were no fault of its own.
    fn on_step_success(&mut self) {
        self.faults = 0;
        if !self.suspects.is_empty() {
            self.publish();
            self.suspects.drain(..).for_each(|sequence| sequence.failed(step_failed("others were computed after it")));
        }
    }

    fn publish(&mut self) {
        let blocks = &self.scheduler.blocks;
        self.stats.slots = self.capacity.slots(self.stats.steps, self.scheduler.sequences());
        self.stats.running = self.scheduler.running.len() as u32;
        self.stats.waiting = self.scheduler.waiting() as u32;
        self.stats.preemptions = self.scheduler.preemptions;
        self.stats.preempted_tokens = self.scheduler.preempted_tokens;
        self.stats.kv_blocks = blocks.total() as u32;
        self.stats.kv_blocks_used = (blocks.total() - blocks.free()) as u32;
        self.stats_sender.send_replace(self.stats);
    }
}

fn step_failed(error: &str) -> Failure {
    let message = format!("the device failed a step: {error}");
    Failure { class: "step_failed".into(), message, permanent: false }
}
