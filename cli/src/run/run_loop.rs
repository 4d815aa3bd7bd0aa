//! The loop of a run: it tracks progress, writes shards, and decides when and how the run ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::plural;
use longhand_coordinator::corpus::{Corpus, Options, RunTiming, Stats};
use longhand_coordinator::store::{Store, StoreError};
use longhand_proto::clock;
use longhand_worker::engine::Engine;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::folder::Folder;
use super::pipeline::Pipeline;
use super::progress::ProgressTracker;
use super::store_failure::store_failure;
use super::summary;
use crate::display::Display;
use crate::signals::Signals;

/// Time between two polls of the progress.
const POLL: Duration = Duration::from_millis(500);
/// Time between two shards; until then accepted documents are in the store.
const FLUSH: Duration = Duration::from_secs(60);
/// How long the store may be unreachable before the run stops.
const PATIENCE: Duration = Duration::from_secs(120);

/// A run in progress.
#[derive(Debug)]
pub(crate) struct RunLoop {
    // Fields are dropped in this order: the folder's lock last.
    tracker: ProgressTracker,
    corpus: Corpus,
    display: Display,
    store: Arc<dyn Store>,
    folder: Folder,
    started_ms: u64,
    flushed: Instant,
    /// Since when the store is unreachable.
    unreachable: Option<Instant>,
}

/// Why the loop ended.
#[derive(Debug)]
enum End {
    Complete,
    Interrupted,
}

impl RunLoop {
    /// Opens the corpus, and restores documents that the store has lost.
    pub(crate) async fn new(
        folder: Folder,
        store: Arc<dyn Store>,
        engine: Arc<dyn Engine>,
        display: Display,
    ) -> Result<Self> {
        let id = &folder.identity.run;
        let corpus = Corpus::open(folder.dir(), id, store.as_ref()).await.map_err(Failure::stopped)?;
        let restored = corpus.restore(store.as_ref()).await.map_err(Failure::stopped)?;
        if restored > 0 {
            let text = format!("restored from the corpus: {} missing from the store", plural(restored, "document"));
            display.event("restored", &text, json!({ "documents": restored }))?;
        }
        let tracker =
            ProgressTracker::start(Arc::clone(&store), engine, id.clone()).await.map_err(|e| store_failure(&e))?;
        let (started_ms, flushed) = (clock::unix_ms(), clock::now());
        Ok(Self { tracker, corpus, display, store, folder, started_ms, flushed, unreachable: None })
    }

    /// Where the run shows its events.
    pub(crate) fn display(&self) -> &Display {
        &self.display
    }

    /// Runs until every document has ended, or until a signal or an error.
    pub(crate) async fn run(mut self, mut pipeline: Pipeline, mut signals: Signals) -> Result<Code> {
        let end = self.watch(&mut pipeline, &mut signals).await;
        self.display.finish();
        match end? {
            End::Complete => {
                pipeline.stop().await?;
                self.complete().await
            }
            End::Interrupted => {
                let text = "stopping: submitting unfinished sections (press Ctrl-C again to stop at once)";
                // Whoever read this may be gone; the leases are handed back all the same.
                let said = self.display.event("stopping", text, json!({}));
                signals.exit_on_next();
                pipeline.stop().await?;
                self.flush().await?;
                said?;
                let text = "stopped; rerun the same command to resume";
                self.display.event(
                    "interrupted",
                    text,
                    json!({ "run": self.folder.identity.run, "output": self.folder.dir() }),
                )?;
                Ok(Code::Interrupted)
            }
        }
    }

    async fn watch(&mut self, pipeline: &mut Pipeline, signals: &mut Signals) -> Result<End> {
        let mut store_health = pipeline.store_health();
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(End::Interrupted),
                Ok(()) = store_health.changed() => {
                    if let Some(problem) = store_health.borrow_and_update().clone() {
                        return Err(Failure::stopped(format!(
                            "{problem}; fix this, then rerun the same command to resume"
                        )));
                    }
                }
                reason = pipeline.failed() => {
                    return Err(Failure::stopped(format!("{reason}; rerun the same command to resume")));
                }
                _ = poll.tick() => {
                    if self.poll(pipeline).await? {
                        return Ok(End::Complete);
                    }
                }
            }
        }
    }

    /// Shows the progress; true if every document has ended.
    async fn poll(&mut self, pipeline: &Pipeline) -> Result<bool> {
        match self.tracker.poll().await {
            Ok(snapshot) => {
                self.unreachable = None;
                let ended = snapshot.counts.unfinished() == 0;
                self.display.progress(&snapshot, ended)?;
                if !ended && clock::now().duration_since(self.flushed) >= FLUSH {
                    let begun = clock::now();
                    self.flush().await?;
                    pipeline.metrics().flushed(clock::now().duration_since(begun));
                }
                Ok(ended)
            }
            Err(StoreError::Unreachable(reason)) => self.wait(&reason).map(|()| false),
            Err(error) => Err(store_failure(&error)),
        }
    }

    /// The worker keeps decoding while the store is unreachable for a short time.
    fn wait(&mut self, reason: &str) -> Result<()> {
        let now = clock::now();
        match self.unreachable {
            None => {
                self.unreachable = Some(now);
                let text = format!("the store is unreachable, retrying for {} s: {reason}", PATIENCE.as_secs());
                self.display.event("store_unreachable", &text, json!({ "reason": reason }))
            }
            Some(since) if now.duration_since(since) >= PATIENCE => {
                Err(store_failure(&StoreError::Unreachable(reason.to_owned())))
            }
            Some(_) => Ok(()),
        }
    }

    /// Moves accepted documents from the store into the corpus.
    async fn flush(&mut self) -> Result<()> {
        self.corpus.flush(self.store.as_ref()).await.map_err(Failure::stopped)?;
        self.flushed = clock::now();
        Ok(())
    }

    async fn complete(mut self) -> Result<Code> {
        let timing = self.timing();
        let (dir, options) = (self.folder.dir(), Options::with_timing(timing));
        let stats = self.corpus.export_to(self.store.as_ref(), dir, &options).await.map_err(Failure::stopped)?;
        let text = summary::text(&stats, timing, self.folder.dir());
        self.display.summary(&text, json!({ "stats": stats, "output": self.folder.dir() }))?;
        Ok(summary::code(&stats))
    }

    /// The time that the run took. A process that found nothing left to do reports that of the previous process.
    fn timing(&self) -> RunTiming {
        let generated = self.tracker.generated();
        if generated == 0
            && let Ok(text) = std::fs::read(self.folder.dir().join("stats.json"))
            && let Ok(Stats { timing: Some(timing), .. }) = serde_json::from_slice(&text)
        {
            return timing;
        }
        let seconds = self.tracker.elapsed().as_secs_f64();
        let speed = (generated > 0).then(|| generated as f64 / seconds);
        RunTiming { started_ms: self.started_ms, ended_ms: clock::unix_ms(), tokens_per_second: speed }
    }
}
