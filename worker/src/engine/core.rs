//! The loop on the device thread: it alone owns device, KV pool and sequences.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Duration;

use longhand_proto::clock;
use longhand_proto::task::{Failure, FinishReason};
use tokio::sync::watch;

use super::EngineStats;
use super::codec::Codec;
use super::grammar::{Grammar, GrammarError, Next};
use super::model_runner::ModelRunner;
use super::outlet::engine_dead;
use super::prepare::{Limits, Prepared, permanent};
use super::scheduler::{Row, Scheduler};
use super::sequence::{Choice, Sequence};
use crate::device::DeviceError;

/// A step waits this long for grammars that are still being asked, then goes without their sequences. They answer in a
/// tenth of it as a rule, while a step without them would double their time to the next token.
const GRAMMAR_WAIT: Duration = Duration::from_millis(2);

/// What reaches the device thread.
#[derive(Debug)]
pub(crate) enum Message {
    Start(Prepared),
    Answer(Answer),
    Stop,
}

/// A question to a grammar: what may follow this token?
#[derive(Debug)]
pub(crate) struct Question {
    id: u64,
    grammar: Box<Grammar>,
    token: u32,
}

/// The answer, with the grammar.
#[derive(Debug)]
pub(crate) struct Answer {
    id: u64,
    grammar: Box<Grammar>,
    next: Result<Next, GrammarError>,
}

impl Question {
    /// Works out the answer; takes from a tenth of a millisecond to several.
    pub(crate) fn answer(self) -> Answer {
        let Self { id, mut grammar, token } = self;
        let next = grammar.advance(token).and_then(|()| grammar.next());
        Answer { id, grammar, next }
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) runner: ModelRunner,
    pub(crate) scheduler: Scheduler,
    pub(crate) limits: Limits,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) questions: SyncSender<Question>,
    /// Questions without an answer.
    pub(crate) asked: usize,
    /// Only of a device that computes ahead.
    pub(crate) flight: Option<Flight>,
    pub(crate) stats: EngineStats,
    pub(crate) published: watch::Sender<EngineStats>,
}

/// A step that was started and not yet looked at.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    /// Whose keys and values it computes.
    computed: Vec<u64>,
    /// Whose next tokens it chooses, in order.
    chosen: Vec<u64>,
}

/// Why the loop ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    Stopped,
    Lost(String),
}

impl Core {
    /// Runs until told to stop or until the device is lost; then every task has been answered.
    pub(crate) fn run(&mut self) -> Ended {
        loop {
            let ended = match self.turn() {
                None => continue,
                Some(ended) => ended,
            };
            let message = match &ended {
                Ended::Stopped => "the engine was shut down".to_owned(),
                Ended::Lost(error) => format!("the device was lost: {error}"),
            };
            let sequences = self.scheduler.take_if(|_| true);
            self.publish();
            sequences.into_iter().for_each(|sequence| sequence.failed(engine_dead(&message)));
            return ended;
        }
    }

    /// One step, or one message where there is nothing to compute.
    fn turn(&mut self) -> Option<Ended> {
        // While a step is on its way nobody need be waited for.
        if let Some(ended) = self.listen(self.flight.is_none()) {
            return Some(ended);
        }
        // Nobody waits for these any more; dropping them tells nobody.
        drop(self.scheduler.take_if(|sequence| sequence.outlet.cancelled()));
        let plan = self.scheduler.plan(self.runner.budget());
        for sequence in plan.too_big {
            let (need, have) = (sequence.tokens.len() + 1, self.limits.pool);
            sequence.failed(permanent(
                "kv_too_small",
                format!(
                    "prompt and text so far need {need} tokens of KV memory, but the pool holds {have}; give the device \
                     more KV memory, or ask for a shorter text"
                ),
            ));
        }
        self.note_admitted();
        if plan.rows.is_empty() && self.flight.is_none() {
            self.publish();
            return self.wait();
        }
        let outcome = if self.runner.is_ahead() { self.fly(&plan.rows) } else { self.step(&plan.rows) };
        self.publish();
        outcome
    }

    /// Takes all messages that are there; if `patient`, waits a moment for grammars.
    fn listen(&mut self, patient: bool) -> Option<Ended> {
        loop {
            let message = if patient && self.asked > 0 {
                match self.inbox.recv_timeout(GRAMMAR_WAIT) {
                    Ok(message) => message,
                    Err(RecvTimeoutError::Timeout) => return None,
                    Err(RecvTimeoutError::Disconnected) => return Some(Ended::Stopped),
                }
            } else {
                match self.inbox.try_recv() {
                    Ok(message) => message,
                    Err(TryRecvError::Empty) => return None,
                    Err(TryRecvError::Disconnected) => return Some(Ended::Stopped),
                }
            };
            if let Some(ended) = self.take(message) {
                return Some(ended);
            }
        }
    }

    /// Waits for the next message: there is nothing to compute.
    fn wait(&mut self) -> Option<Ended> {
        match self.inbox.recv() {
            Ok(message) => self.take(message),
            Err(_) => Some(Ended::Stopped),
        }
    }

    fn take(&mut self, message: Message) -> Option<Ended> {
        match message {
            Message::Start(Prepared { sequence, ended }) => {
                self.stats.prompt_tokens += u64::from(sequence.usage.prompt);
                match ended {
                    Some(reason) => self.done(*sequence, reason),
                    None => self.scheduler.push(*sequence),
                }
                None
            }
            Message::Answer(answer) => {
                self.asked -= 1;
                self.answered(answer);
                None
            }
            Message::Stop => Some(Ended::Stopped),
        }
    }

    fn answered(&mut self, answer: Answer) {
        // It may have been cancelled meanwhile.
        let Some(sequence) = self.scheduler.find(answer.id) else { return };
        sequence.grammar = Some(answer.grammar);
        sequence.watch.answered();
        match answer.next {
            Ok(next) => {
                if let Some(reason) = sequence.follow(next, &*self.codec, self.limits.context) {
                    self.finish(answer.id, reason);
                }
            }
            Err(error) => {
                let message = format!("the constraint could not be followed to the end: {error}");
                self.fail(answer.id, Failure { class: "bad_constraint".into(), message, permanent: false });
            }
        }
    }

    fn note_admitted(&mut self) {
        for id in self.scheduler.admitted() {
            let Some(sequence) = self.scheduler.find(id) else { continue };
            // Nothing of it was computed since: these came from the pool.
            let cached = sequence.computed;
            if sequence.watch.prefill(cached, sequence.tokens.len() - cached) {
                let of_prompt = |tokens: usize| tokens.min(sequence.usage.prompt as usize) as u32;
                (sequence.usage.cached, sequence.usage.reusable) = (of_prompt(cached), of_prompt(sequence.reusable));
                self.stats.cached_tokens += u64::from(sequence.usage.cached);
                self.stats.reusable_tokens += u64::from(sequence.usage.reusable);
            }
        }
    }

    fn step(&mut self, rows: &[Row]) -> Option<Ended> {
        self.stats.steps += 1;
        let begun = clock::now();
        let sampled = self.runner.run(&self.scheduler.running, rows);
        self.stats.step_time += clock::now().duration_since(begun);
        let sampled = match sampled {
            Ok(sampled) => sampled,
            Err(DeviceError::Lost(error)) => return Some(Ended::Lost(error)),
            Err(DeviceError::Step(error)) => {
                let ids: Vec<u64> = rows.iter().map(|row| self.scheduler.running[row.index].id).collect();
                self.fail_step(ids.into_iter(), &error);
                return None;
            }
        };
        // Ids, as ended sequences leave the list that rows point into.
        let ids: Vec<u64> = rows.iter().map(|row| self.scheduler.running[row.index].id).collect();
        rows.iter().for_each(|row| self.scheduler.computed(*row));
        for (id, token) in ids.into_iter().zip(sampled) {
            if let Some(token) = token {
                self.chosen(id, token);
            }
        }
        None
    }

    /// Starts a step's layers, looks at the tokens of the step before meanwhile, and lets the next ones be chosen.
    fn fly(&mut self, rows: &[Row]) -> Option<Ended> {
        let begun = clock::now();
        let launched = if rows.is_empty() { Ok(()) } else { self.runner.launch(&self.scheduler.running, rows) };
        // Ids, as ended sequences leave the list that rows point into.
        let rows: Vec<(u64, usize)> = rows.iter().map(|row| (self.scheduler.running[row.index].id, row.len)).collect();
        if let Some(ended) = self.land() {
            return Some(ended);
        }
        if rows.is_empty() {
            return None;
        }
        // What grammars say of the tokens that came decides how the next ones are chosen.
        if let Some(ended) = self.listen(true) {
            return Some(ended);
        }
        let (mut flight, mut wishes) = (Flight::default(), Vec::new());
        for (at, &(id, len)) in rows.iter().enumerate() {
            let Some(sequence) = self.scheduler.running.iter_mut().find(|sequence| sequence.id == id) else { continue };
            let end = sequence.computed + len;
            let last = end == sequence.tokens.len();
            // Whoever still waits for a grammar computes its last token again when there is an answer.
            if last && sequence.asked() {
                continue;
            }
            sequence.computed = end;
            flight.computed.push(id);
            if last {
                sequence.coming = Some(flight.chosen.len());
                flight.chosen.push(id);
                wishes.push((at, self.runner.wish(sequence)));
            }
        }
        self.stats.steps += 1;
        let started = launched.and_then(|()| self.runner.choose(&wishes));
        self.stats.step_time += clock::now().duration_since(begun);
        match started {
            Ok(()) => self.flight = Some(flight),
            Err(DeviceError::Lost(error)) => return Some(Ended::Lost(error)),
            Err(DeviceError::Step(error)) => self.fail_step(rows.into_iter().map(|(id, _)| id), &error),
        }
        None
    }

    /// Looks at the step before.
    fn land(&mut self) -> Option<Ended> {
        let Flight { computed, chosen } = self.flight.take()?;
        match self.runner.collect(chosen.len()) {
            Ok(tokens) => {
                computed.into_iter().for_each(|id| self.scheduler.seal(id));
                for (id, token) in chosen.into_iter().zip(tokens) {
                    if let Some(sequence) = self.scheduler.find(id) {
                        sequence.coming = None;
                    }
                    self.chosen(id, token);
                }
                None
            }
            Err(DeviceError::Lost(error)) => Some(Ended::Lost(error)),
            Err(DeviceError::Step(error)) => {
                self.fail_step(computed.into_iter(), &error);
                None
            }
        }
    }

    fn chosen(&mut self, id: u64, token: u32) {
        let Some(sequence) = self.scheduler.find(id) else { return };
        sequence.watch.decode();
        if self.codec.eos().contains(&token) {
            return self.finish(id, FinishReason::Stop);
        }
        self.stats.generated_tokens += 1;
        if let Some(reason) = sequence.push_all(&[token], &*self.codec, self.limits.context) {
            return self.finish(id, reason);
        }
        if let Some(grammar) = sequence.grammar.take() {
            sequence.choice = Choice::Asked;
            sequence.watch.asks();
            self.asked += 1;
            // Never waits: the threads that answer may themselves be waiting for this one.
            if let Err(error) = self.questions.try_send(Question { id, grammar, token }) {
                self.asked -= 1;
                self.fail(id, engine_dead(&format!("the grammar threads do not answer: {error}")));
            }
        }
    }

    fn finish(&mut self, id: u64, reason: FinishReason) {
        if let Some(sequence) = self.scheduler.take(id) {
            self.done(sequence, reason);
        }
    }

    /// Whoever reads the end finds it in the totals.
    fn done(&mut self, sequence: Sequence, reason: FinishReason) {
        self.publish();
        sequence.done(reason);
    }

    fn fail(&mut self, id: u64, failure: Failure) {
        if let Some(sequence) = self.scheduler.take(id) {
            self.publish();
            sequence.failed(failure);
        }
    }

    /// What these sequences wrote into their blocks is not known: they end, the others go on.
    fn fail_step(&mut self, ids: impl Iterator<Item = u64>, error: &str) {
        for id in ids {
            let message = format!("the device could not do a step: {error}");
            self.fail(id, Failure { class: "step_failed".into(), message, permanent: false });
        }
    }

    fn publish(&mut self) {
        let blocks = &self.scheduler.blocks;
        self.stats.running = self.scheduler.running.len() as u32;
        self.stats.waiting = self.scheduler.waiting() as u32;
        self.stats.preemptions = self.scheduler.preemptions;
        self.stats.kv_blocks = blocks.total() as u32;
        self.stats.kv_blocks_used = (blocks.total() - blocks.free()) as u32;
        self.published.send_replace(self.stats);
    }
}
