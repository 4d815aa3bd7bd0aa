//! The status that a worker reports with each renewal: what it holds, what its engine is doing, and how fast it has been
//! since the last report.

use longhand_proto::task::{TaskKind, WorkerStatus};
use tokio::time::Instant;

use super::report::{WorkerReport, WorkerSnapshot};
use crate::engine::{Engine, EngineStats};

/// Remembers the last report, from which the decoding speed is measured.
#[derive(Debug)]
pub(super) struct Heartbeat {
    started: Instant,
    last: Instant,
    /// Tokens generated up to `last`.
    generated: u64,
}

impl Heartbeat {
    pub(super) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now, generated: 0 }
    }

    /// The next report.
    pub(super) fn status(
        &mut self,
        engine: &dyn Engine,
        snapshot: WorkerSnapshot,
        slots: u32,
        draining: bool,
    ) -> WorkerStatus {
        let EngineStats { running, waiting, kv_blocks, kv_blocks_used, generated_tokens, .. } = engine.stats();
        let WorkerReport { completed, failed, released, lost, continued: _ } = snapshot.report;
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        let new = generated_tokens.saturating_sub(self.generated);
        (self.last, self.generated) = (now, generated_tokens);
        WorkerStatus {
            version: longhand_proto::build().to_owned(),
            model: engine.model().clone(),
            slots,
            held: snapshot.held,
            running,
            waiting,
            kv_blocks,
            kv_blocks_used,
            tokens_per_second: if seconds > 0.0 { new as f64 / seconds } else { 0.0 },
            generated_tokens,
            completed,
            failed,
            released,
            lost,
            uptime_ms: (now - self.started).as_millis() as u64,
            draining,
            problem: engine.problem().unwrap_or_default(),
            kinds: TaskKind::ALL.map(|kind| kind.as_str().to_owned()).to_vec(),
        }
    }
}
