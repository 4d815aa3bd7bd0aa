//! Times of a task inside an engine, and the spans that show them below its attempt: queue, prefill, then decode in parts.
//! A span is sent when its part ends, so that the trace of a killed worker shows how far it got.

use std::time::{Duration, Instant, SystemTime};

use longhand_proto::clock;
use longhand_proto::task::{Task, Timings};
use longhand_proto::trace::{self, Context, Span, TaskRef};

/// Tokens of one decode span.
const DECODE_SPAN_TOKENS: u32 = 256;
/// Decode spans of one text; the last one covers the rest.
const MAX_DECODE_SPANS: u32 = 32;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct TaskTimer {
    /// The attempt; none if it is not sampled.
    attempt: Option<(Context, TaskRef)>,
    since: Timestamp,
    phase: Phase,
    timings: Timings,
    /// Prompt tokens found in the cache, and computed.
    prompt: (usize, usize),
    decode: DecodeSpan,
    grammar_wait_started: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Prefill,
    Decode,
    Ended,
}

/// By the monotonic clock, for durations, and by the wall clock, for spans.
#[derive(Debug, Clone, Copy)]
struct Timestamp {
    at: Instant,
    wall: SystemTime,
}

/// A part of a text that is being decoded.
#[derive(Debug)]
struct DecodeSpan {
    since: Timestamp,
    number: u32,
    tokens: u32,
    /// Time spent waiting for the grammar.
    grammar: Duration,
    /// How often the sequence was preempted and recomputed.
    preemptions: u32,
}

impl Timestamp {
    fn now() -> Self {
        Self { at: clock::now(), wall: clock::wall() }
    }
}

impl DecodeSpan {
    fn new(since: Timestamp, number: u32) -> Self {
        Self { since, number, tokens: 0, grammar: Duration::ZERO, preemptions: 0 }
    }
}

impl TaskTimer {
    /// The task was queued.
    pub(crate) fn start(task: &Task) -> Self {
        let since = Timestamp::now();
        let context = Context::parse(&task.traceparent).filter(|context| context.sampled && trace::is_enabled());
        Self {
            attempt: context.map(|context| (context, TaskRef::of(task))),
            since,
            phase: Phase::Queued,
            timings: Timings::default(),
            prompt: (0, 0),
            decode: DecodeSpan::new(since, 0),
            grammar_wait_started: None,
        }
    }

    /// Prefill begins, except for `cached` tokens; true the first time. Preemption does not restart a phase.
    pub(crate) fn start_prefill(&mut self, cached: usize, computed: usize) -> bool {
        if self.phase != Phase::Queued {
            self.decode.preemptions += 1;
            return false;
        }
        self.prompt = (cached, computed);
        self.enter(Phase::Prefill, "");
        true
    }

    /// The first token was sampled.
    pub(crate) fn start_decode(&mut self) {
        if self.phase == Phase::Prefill {
            self.enter(Phase::Decode, "");
            self.decode.since = self.since;
        }
    }

    /// `tokens` tokens were added to the text.
    pub(crate) fn on_tokens(&mut self, tokens: usize) {
        self.decode.tokens += tokens as u32;
        if self.phase == Phase::Decode
            && self.decode.tokens >= DECODE_SPAN_TOKENS
            && self.decode.number + 1 < MAX_DECODE_SPANS
        {
            self.send_decode_span("");
        }
    }

    /// A grammar request was sent.
    pub(crate) fn grammar_requested(&mut self) {
        self.grammar_wait_started = Some(clock::now());
    }

    /// The response of the grammar was received.
    pub(crate) fn grammar_received(&mut self) {
        if let Some(started) = self.grammar_wait_started.take() {
            self.decode.grammar += clock::now().duration_since(started);
        }
    }

    /// A grammar was compiled since `started`.
    pub(crate) fn grammar_compiled(&self, started: SystemTime) {
        if let Some(span) = self.span("grammar") {
            span.at(started, clock::wall()).send();
        }
    }

    /// The end of the task; `reason` is a finish reason or the class of a failure.
    pub(crate) fn end(mut self, reason: &str) -> Timings {
        self.enter(Phase::Ended, reason);
        self.timings
    }

    /// Ends the phase and begins the next.
    fn enter(&mut self, next: Phase, reason: &str) {
        let now = Timestamp::now();
        let ms = now.at.duration_since(self.since.at).as_millis() as u64;
        let send = |span: Option<Span>| {
            if let Some(span) = span {
                let span =
                    if reason.is_empty() { span } else { span.with("longhand.finish_reason", reason.to_owned()) };
                span.at(self.since.wall, now.wall).send();
            }
        };
        match self.phase {
            Phase::Queued => {
                self.timings.queue_ms = ms;
                send(self.span("queue"));
            }
            Phase::Prefill => {
                self.timings.prefill_ms = ms;
                let (cached, computed) = self.prompt;
                send(self.span("prefill").map(|span| {
                    span.with("longhand.tokens.cached", cached as i64).with("longhand.tokens.computed", computed as i64)
                }));
            }
            Phase::Decode => {
                self.timings.decode_ms = ms;
                self.send_decode_span(reason);
            }
            Phase::Ended => {}
        }
        (self.phase, self.since) = (next, now);
    }

    /// Ends the decode span and begins the next.
    fn send_decode_span(&mut self, reason: &str) {
        let now = Timestamp::now();
        let next = DecodeSpan::new(now, self.decode.number + 1);
        let decode = std::mem::replace(&mut self.decode, next);
        let Some(mut span) = self.span("decode") else { return };
        span = span
            .at(decode.since.wall, now.wall)
            .with("longhand.piece", i64::from(decode.number))
            .with("longhand.tokens.generated", i64::from(decode.tokens));
        if !decode.grammar.is_zero() {
            span = span.with("longhand.grammar_ms", decode.grammar.as_secs_f64() * 1_000.0);
        }
        if decode.preemptions > 0 {
            span = span.with("longhand.preemptions", i64::from(decode.preemptions));
        }
        if !reason.is_empty() {
            span = span.with("longhand.finish_reason", reason.to_owned());
        }
        span.send();
    }

    fn span(&self, name: &'static str) -> Option<Span> {
        let (attempt, place) = self.attempt.as_ref()?;
        Some(Span::child_of(*attempt, name, place))
    }
}

/// An abandoned task shows how far it got.
impl Drop for TaskTimer {
    fn drop(&mut self) {
        if self.phase != Phase::Ended {
            self.enter(Phase::Ended, "given_up");
        }
    }
}
