//! Totals of an engine whose tasks run concurrently.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use longhand_proto::task::Usage;

use super::EngineStats;

/// Totals since the start, and the tasks running now. For engines without steps and KV blocks of their own.
#[derive(Debug, Default)]
pub(crate) struct TaskCounters {
    running: AtomicU32,
    prompt: AtomicU64,
    cached: AtomicU64,
    generated: AtomicU64,
}

impl TaskCounters {
    /// Counts a running task until `task` ends.
    pub(crate) async fn running<T>(&self, task: impl Future<Output = T>) -> T {
        self.running.fetch_add(1, Ordering::Relaxed);
        let output = task.await;
        self.running.fetch_sub(1, Ordering::Relaxed);
        output
    }

    /// Adds the prompt, cached and generated tokens of `usage`.
    pub(crate) fn add(&self, usage: &Usage) {
        self.prompt.fetch_add(usage.prompt.into(), Ordering::Relaxed);
        self.cached.fetch_add(usage.cached.into(), Ordering::Relaxed);
        self.generated.fetch_add(usage.generated.into(), Ordering::Relaxed);
    }

    /// The totals. Whatever is cached counts as reusable.
    pub(crate) fn stats(&self) -> EngineStats {
        let cached_tokens = self.cached.load(Ordering::Relaxed);
        EngineStats {
            running: self.running.load(Ordering::Relaxed),
            prompt_tokens: self.prompt.load(Ordering::Relaxed),
            cached_tokens,
            reusable_tokens: cached_tokens,
            generated_tokens: self.generated.load(Ordering::Relaxed),
            ..EngineStats::default()
        }
    }
}
