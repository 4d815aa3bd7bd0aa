//! What the engine is at, and how fast it was since it was last asked: for people who look at the workers.

use longhand_proto::task::WorkerStatus;
use tokio::time::Instant;

use crate::engine::{Engine, EngineStats};

#[derive(Debug)]
pub(super) struct Pulse {
    started: Instant,
    last: Instant,
    generated: u64,
}

impl Pulse {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now, generated: 0 }
    }

    /// The part of a report that the engine knows.
    pub(super) fn take(&mut self, engine: &dyn Engine) -> WorkerStatus {
        let EngineStats { running, waiting, kv_blocks, kv_blocks_used, generated_tokens, .. } = engine.stats();
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        let new = generated_tokens.saturating_sub(self.generated);
        (self.last, self.generated) = (now, generated_tokens);
        WorkerStatus {
            version: longhand_proto::build().to_owned(),
            model: engine.model().clone(),
            running,
            waiting,
            kv_blocks,
            kv_blocks_used,
            generated_tokens,
            tokens_per_second: if seconds > 0.0 { new as f64 / seconds } else { 0.0 },
            uptime_ms: (now - self.started).as_millis() as u64,
            ..WorkerStatus::default()
        }
    }
}
