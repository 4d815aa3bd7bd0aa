//! Times of a task inside an engine, and the spans that show them below its attempt: queue, then prefill, then the text
//! in pieces. A span goes out when its part ends, so that a trace of a worker that was killed shows how far it came.

use std::time::{Duration, Instant, SystemTime};

use longhand_proto::clock;
use longhand_proto::task::{Task, Timings};
use longhand_proto::trace::{self, Context, TaskRef, Span};

/// Tokens of a piece.
const PIECE: u32 = 256;
/// Pieces of one text; the last is as long as it takes.
const PIECES: u32 = 32;

#[derive(Debug)]
pub(crate) struct Watch {
    /// The attempt; none if nobody will look at its spans.
    attempt: Option<(Context, TaskRef)>,
    since: Moment,
    phase: Phase,
    timings: Timings,
    /// Prompt tokens found in the cache, and computed.
    prompt: (usize, usize),
    piece: Piece,
    asked: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Prefill,
    Decode,
    Ended,
}

/// By the clock that is never put right, and by the one that machines share.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    wall: SystemTime,
}

/// A part of a text that is being written.
#[derive(Debug)]
struct Piece {
    since: Moment,
    number: u32,
    tokens: u32,
    /// Time for which the grammar was waited for.
    grammar: Duration,
    /// How often memory ran out, so that all was computed anew.
    preemptions: u32,
}

impl Moment {
    fn now() -> Self {
        Self { at: clock::now(), wall: clock::wall() }
    }
}

impl Piece {
    fn new(since: Moment, number: u32) -> Self {
        Self { since, number, tokens: 0, grammar: Duration::ZERO, preemptions: 0 }
    }
}

impl Watch {
    pub(crate) fn start(task: &Task) -> Self {
        let since = Moment::now();
        let context = Context::parse(&task.traceparent).filter(|context| context.sampled && trace::is_enabled());
        Self {
            attempt: context.map(|context| (context, TaskRef::of(task))),
            since,
            phase: Phase::Queued,
            timings: Timings::default(),
            prompt: (0, 0),
            piece: Piece::new(since, 0),
            asked: None,
        }
    }

    /// The prompt is being computed, except for `cached` tokens; true the first time. Preemption begins no phase anew.
    pub(crate) fn prefill(&mut self, cached: usize, computed: usize) -> bool {
        if self.phase != Phase::Queued {
            self.piece.preemptions += 1;
            return false;
        }
        self.prompt = (cached, computed);
        self.turn(Phase::Prefill, "");
        true
    }

    /// The first token was chosen.
    pub(crate) fn decode(&mut self) {
        if self.phase == Phase::Prefill {
            self.turn(Phase::Decode, "");
            self.piece.since = self.since;
        }
    }

    /// So many tokens are written.
    pub(crate) fn wrote(&mut self, tokens: usize) {
        self.piece.tokens += tokens as u32;
        if self.phase == Phase::Decode && self.piece.tokens >= PIECE && self.piece.number + 1 < PIECES {
            self.write_piece("");
        }
    }

    /// A grammar is asked what may come next.
    pub(crate) fn asks(&mut self) {
        self.asked = Some(clock::now());
    }

    pub(crate) fn answered(&mut self) {
        if let Some(asked) = self.asked.take() {
            self.piece.grammar += clock::now().duration_since(asked);
        }
    }

    /// A grammar was made ready since `begun`.
    pub(crate) fn grammar(&self, begun: SystemTime) {
        if let Some(span) = self.span("grammar") {
            span.at(begun, clock::wall()).send();
        }
    }

    /// `reason` is a finish reason or the class of an error.
    pub(crate) fn end(mut self, reason: &str) -> Timings {
        self.turn(Phase::Ended, reason);
        self.timings
    }

    /// Ends the phase and begins the next.
    fn turn(&mut self, next: Phase, reason: &str) {
        let now = Moment::now();
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
                self.write_piece(reason);
            }
            Phase::Ended => {}
        }
        (self.phase, self.since) = (next, now);
    }

    /// Ends the piece and begins the next.
    fn write_piece(&mut self, reason: &str) {
        let now = Moment::now();
        let next = Piece::new(now, self.piece.number + 1);
        let piece = std::mem::replace(&mut self.piece, next);
        let Some(mut span) = self.span("decode") else { return };
        span = span
            .at(piece.since.wall, now.wall)
            .with("longhand.piece", i64::from(piece.number))
            .with("longhand.tokens.generated", i64::from(piece.tokens));
        if !piece.grammar.is_zero() {
            span = span.with("longhand.grammar_ms", piece.grammar.as_secs_f64() * 1_000.0);
        }
        if piece.preemptions > 0 {
            span = span.with("longhand.preemptions", i64::from(piece.preemptions));
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

/// A task that is given up shows how far it came.
impl Drop for Watch {
    fn drop(&mut self) {
        if self.phase != Phase::Ended {
            self.turn(Phase::Ended, "given_up");
        }
    }
}
