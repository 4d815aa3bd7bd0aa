//! A run at work: one loop that watches it, writes shards, and decides how it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_coordinator::corpus::{Corpus, Options, RunTiming, Stats};
use longhand_coordinator::store::{Store, StoreError};
use longhand_proto::clock;
use longhand_worker::engine::Engine;
use serde_json::json;
use tokio::time::MissedTickBehavior;

use crate::display::Display;
use crate::exit::{Code, Failure, Result};
use crate::folder::Folder;
use crate::interrupt::Signals;
use crate::pipeline::Pipeline;
use crate::progress::Watcher;
use crate::run::out_of_store;
use crate::summary;

/// Time between two looks at the run.
const LOOK: Duration = Duration::from_millis(500);
/// Time between two shards while documents are accepted; until then the store keeps them.
const FLUSH: Duration = Duration::from_secs(60);
/// How long the store may be out of reach before the run gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the run needs to be watched and ended.
#[derive(Debug)]
pub(crate) struct Job {
    // Fields are dropped in this order: the folder's lock last.
    watcher: Watcher,
    corpus: Corpus,
    display: Display,
    store: Arc<dyn Store>,
    folder: Folder,
    started_ms: u64,
    flushed: Instant,
    /// Since when the store is out of reach.
    unreachable: Option<Instant>,
}

/// Why the loop ended.
#[derive(Debug)]
enum End {
    Complete,
    Interrupted,
}

impl Job {
    /// Picks up the corpus where an earlier process left it.
    pub(crate) async fn begin(
        folder: Folder,
        store: Arc<dyn Store>,
        engine: Arc<dyn Engine>,
        display: Display,
    ) -> Result<Self> {
        let id = &folder.identity.run;
        let corpus = Corpus::open(folder.dir(), id, store.as_ref()).await.map_err(Failure::stopped)?;
        let restored = corpus.restore(store.as_ref()).await.map_err(Failure::stopped)?;
        if restored > 0 {
            let text =
                format!("the store had lost {restored} documents that are in the corpus; they are not written again");
            display.event("restored", &text, json!({ "documents": restored }))?;
        }
        let watcher = Watcher::start(Arc::clone(&store), engine, id.clone()).await.map_err(|e| out_of_store(&e))?;
        let (started_ms, flushed) = (clock::unix_ms(), clock::now());
        Ok(Self { watcher, corpus, display, store, folder, started_ms, flushed, unreachable: None })
    }

    pub(crate) fn display(&self) -> &Display {
        &self.display
    }

    /// Works until every document has ended, or a signal or an error ends it earlier.
    pub(crate) async fn work(mut self, mut pipeline: Pipeline, mut signals: Signals) -> Result<Code> {
        let end = self.watch(&mut pipeline, &mut signals).await;
        self.display.finish();
        match end? {
            End::Complete => {
                pipeline.stop().await?;
                self.complete().await
            }
            End::Interrupted => {
                let text = "stopping: unfinished sections are handed in (Ctrl-C again stops at once)";
                self.display.event("stopping", text, json!({}))?;
                signals.end_at_next();
                pipeline.stop().await?;
                self.flush().await?;
                let text = "stopped; the same command goes on where this one ended";
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
        let mut trouble = pipeline.trouble();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(End::Interrupted),
                Ok(()) = trouble.changed() => {
                    if let Some(trouble) = trouble.borrow_and_update().clone() {
                        return Err(Failure::stopped(format!(
                            "{trouble}; when that is mended, give the same command again: it goes on where it stopped"
                        )));
                    }
                }
                reason = pipeline.broken() => {
                    return Err(Failure::stopped(format!("{reason}; the same command goes on where this one stopped")));
                }
                _ = look.tick() => {
                    if self.look(pipeline).await? {
                        return Ok(End::Complete);
                    }
                }
            }
        }
    }

    /// Shows how far the run is; true if every document has ended.
    async fn look(&mut self, pipeline: &Pipeline) -> Result<bool> {
        match self.watcher.look().await {
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
            Err(error) => Err(out_of_store(&error)),
        }
    }

    /// The worker goes on decoding while the store is away for a moment.
    fn wait(&mut self, reason: &str) -> Result<()> {
        let now = clock::now();
        match self.unreachable {
            None => {
                self.unreachable = Some(now);
                let text = format!("the store is out of reach, trying again for {} s: {reason}", PATIENCE.as_secs());
                self.display.event("store_unreachable", &text, json!({ "reason": reason }))
            }
            Some(since) if now.duration_since(since) >= PATIENCE => {
                Err(out_of_store(&StoreError::Unreachable(reason.to_owned())))
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
    /// The time that the work took. A process that found all work done tells that of the one before it.
    fn timing(&self) -> RunTiming {
        let generated = self.watcher.generated();
        if generated == 0
            && let Ok(text) = std::fs::read(self.folder.dir().join("stats.json"))
            && let Ok(Stats { timing: Some(timing), .. }) = serde_json::from_slice(&text)
        {
            return timing;
        }
        let seconds = self.watcher.elapsed().as_secs_f64();
        let speed = (generated > 0).then(|| generated as f64 / seconds);
        RunTiming { started_ms: self.started_ms, ended_ms: clock::unix_ms(), tokens_per_second: speed }
    }
}
