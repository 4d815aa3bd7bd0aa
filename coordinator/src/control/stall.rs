//! Why a run makes no progress: one cause, from what the store and the workers report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longhand_proto::task::TaskKind;
use longhand_proto::{RunId, clock};

use crate::domain::state::State;
use crate::store::{Counts, Filter, Record, Result, Run, RunPolicy, Store, WorkerRecord};

/// A worker without a heartbeat for so long is taken for gone; each sends one every few seconds.
const SILENT_MS: u64 = 20_000;
/// Time of one read from which on the store is slow. A read takes milliseconds.
const SLOW_READ: Duration = Duration::from_secs(2);
/// Documents that are looked at: delayed ones for the first one due, ready ones for their next tasks.
const LOOKED_AT: u32 = 16;

/// What a store shows of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct StoreState<'a> {
    /// The error while it cannot take results.
    pub problem: Option<&'a str>,
    /// Time of the read of the run's counts.
    pub read: Duration,
}

/// What a run that holds no lease waits with.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    /// When the first delayed document is due, Unix milliseconds.
    pub due_ms: Option<u64>,
    /// Next tasks of ready documents.
    pub kinds: BTreeSet<TaskKind>,
    /// Why this coordinator cannot read the recipe; none if it can, or has not tried.
    pub recipe_problem: Option<String>,
}

/// Why nothing moves. The most fundamental cause comes first: what an operator must fix before the next one matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stall {
    /// The store takes no results.
    StoreRefuses {
        /// Its error.
        problem: String,
    },
    /// The store takes long for each call.
    StoreSlow {
        /// Time of one read, milliseconds.
        read_ms: u64,
    },
    /// An operator paused the run, and all leases ended.
    Paused,
    /// The engine of every worker that could write the run waits for its server.
    EngineRefuses {
        /// What the server answers.
        problem: String,
    },
    /// No worker reports to this store.
    NoWorker,
    /// There are workers, but none has the model that the run requires.
    NoModel {
        /// Name or weights hash of that model.
        model: String,
    },
    /// This coordinator cannot read the run's recipe, so it gives its documents to nobody.
    RecipeUnreadable {
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The workers that could do the next task of a document are of a build that does not support it.
    TaskUnsupported {
        /// The kind of that task.
        kind: TaskKind,
    },
    /// What is left waits for a vote, and no worker has the judge's model.
    JudgeMissing {
        /// Name or weights hash of that model.
        model: String,
    },
    /// Every document that is left waits after an error.
    BackingOff {
        /// When the first one is due, Unix milliseconds.
        until_ms: u64,
        /// How long that is from now, milliseconds.
        wait_ms: u64,
    },
    /// Every worker that could write the run is full of other runs' documents.
    WorkersFull {
        /// Number of those workers.
        workers: usize,
    },
}

impl Stall {
    /// Every label.
    pub const LABELS: [&'static str; 11] = [
        "store_refuses",
        "store_slow",
        "paused",
        "engine_refuses",
        "no_worker",
        "no_model",
        "recipe_unreadable",
        "task_unsupported",
        "judge_missing",
        "backing_off",
        "workers_full",
    ];

    /// The label in messages and metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::StoreRefuses { .. } => "store_refuses",
            Self::StoreSlow { .. } => "store_slow",
            Self::Paused => "paused",
            Self::EngineRefuses { .. } => "engine_refuses",
            Self::NoWorker => "no_worker",
            Self::NoModel { .. } => "no_model",
            Self::RecipeUnreadable { .. } => "recipe_unreadable",
            Self::TaskUnsupported { .. } => "task_unsupported",
            Self::JudgeMissing { .. } => "judge_missing",
            Self::BackingOff { .. } => "backing_off",
            Self::WorkersFull { .. } => "workers_full",
        }
    }

    /// The cause and what to do, in one line.
    pub fn message(&self, run: &RunId) -> String {
        match self {
            Self::StoreRefuses { problem } => format!("the store takes no results: {problem}"),
            Self::StoreSlow { read_ms } => {
                format!(
                    "the store is slow: one read took {:.1} s; check its machine and the network",
                    seconds(*read_ms)
                )
            }
            Self::Paused => format!("paused; run `longhand resume {run}` to continue"),
            Self::EngineRefuses { problem } => format!("the server of the engine does not answer: {problem}"),
            Self::NoWorker => "no worker is connected; start one with `longhand worker`".into(),
            Self::NoModel { model } => format!("no worker has the required model {model}; start one with it"),
            Self::RecipeUnreadable { problem } => problem.clone(),
            Self::TaskUnsupported { kind } => format!(
                "no worker supports tasks of kind {}, which a document needs next; update the workers",
                kind.as_str()
            ),
            Self::JudgeMissing { model } => format!("no worker has the judge's model {model}; start one with it"),
            Self::BackingOff { wait_ms, .. } => {
                format!("all documents back off after errors; the next one is due in {:.0} s", seconds(*wait_ms).ceil())
            }
            Self::WorkersFull { workers } => format!(
                "all {workers} workers with the model are busy with other runs; start more, or wait (--priority decides \
                 which run goes first)"
            ),
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

// Long because the causes stand in one order, a few lines each.
/// Why a run makes no progress; none while it does, and after its last document. A run that just waits for the next request of a worker with room is not stalled.
pub fn why_stalled(
    run: &Run,
    counts: &Counts,
    workers: &[WorkerRecord],
    store: StoreState<'_>,
    waiting: &Waiting,
    now: u64,
) -> Option<Stall> {
    if counts.unfinished() == 0 {
        return None;
    }
    if let Some(problem) = store.problem {
        return Some(Stall::StoreRefuses { problem: problem.to_owned() });
    }
    if store.read >= SLOW_READ {
        return Some(Stall::StoreSlow { read_ms: store.read.as_millis() as u64 });
    }
    if run.cancelling {
        return None;
    }
    if run.paused && counts.leased == 0 {
        return Some(Stall::Paused);
    }
    let RunPolicy { model, judge, .. } = &run.policy;
    let active: Vec<_> = workers.iter().filter(|worker| is_active(worker, now)).collect();
    let has = |worker: &&WorkerRecord| {
        let info = &worker.report.model;
        run.policy.can_write(&info.name, &info.weights_hash)
    };
    let writers: Vec<_> = active.iter().copied().filter(has).collect();
    // A document under way counts for nothing while no engine gets an answer.
    if !writers.is_empty() && writers.iter().all(|writer| !writer.report.problem.is_empty()) {
        return Some(Stall::EngineRefuses { problem: writers[0].report.problem.clone() });
    }
    if counts.leased > 0 {
        return None;
    }
    if active.is_empty() {
        return Some(Stall::NoWorker);
    }
    if writers.is_empty() {
        return Some(Stall::NoModel { model: model.clone() });
    }
    if let Some(problem) = &waiting.recipe_problem {
        return Some(Stall::RecipeUnreadable { problem: problem.clone() });
    }
    let judges: Vec<_> = active.iter().copied().filter(|worker| judges(&run.policy, worker)).collect();
    let unsupported = |kind: &TaskKind| {
        let able = if *kind == TaskKind::Judge && !judge.is_empty() { &judges } else { &writers };
        !able.is_empty() && !able.iter().any(|worker| worker.report.supports(*kind))
    };
    if let Some(&kind) = waiting.kinds.iter().find(|kind| unsupported(kind)) {
        return Some(Stall::TaskUnsupported { kind });
    }
    // New documents wait too while the bound on open ones is reached by delayed ones.
    let max_open = u64::from(run.policy.max_open);
    if counts.ready == 0 || (max_open > 0 && counts.delayed >= max_open) {
        let until_ms = waiting.due_ms.unwrap_or(now);
        return Some(Stall::BackingOff { until_ms, wait_ms: until_ms.saturating_sub(now) });
    }
    if writers.iter().all(|writer| writer.report.held >= writer.report.slots) {
        return Some(Stall::WorkersFull { workers: writers.len() });
    }
    if !judge.is_empty() && judges.is_empty() {
        return Some(Stall::JudgeMissing { model: judge.clone() });
    }
    None
}

fn judges(policy: &RunPolicy, worker: &WorkerRecord) -> bool {
    let info = &worker.report.model;
    policy.can_judge(&info.name, &info.weights_hash)
}

/// Why a worker with this model gets no document of a run, in a few words; none if the run has ended.
pub(crate) fn why_passed_over(run: &Run, counts: &Counts, model: &str, weights_hash: &str) -> Option<String> {
    let Run { id, policy, .. } = run;
    let (can_write, can_judge) = (policy.can_write(model, weights_hash), policy.can_judge(model, weights_hash));
    let open = counts.leased + counts.delayed;
    let reason = match () {
        () if counts.unfinished() == 0 => return None,
        () if run.cancelling => "is being cancelled".to_owned(),
        () if run.paused => "is paused".to_owned(),
        () if !can_write && !can_judge => format!("requires model {}, and this worker has {model}", policy.model),
        () if !can_write => "has nothing to judge now".to_owned(),
        () if counts.ready == 0 && counts.leased == 0 => {
            format!("backs off after errors ({} documents)", counts.delayed)
        }
        () if counts.ready == 0 => format!("has no document left that nobody writes ({open} in progress)"),
        () if policy.max_open > 0 && open >= u64::from(policy.max_open) => {
            format!("has as many open documents as it may ({})", policy.max_open)
        }
        () => format!("has {} documents for another kind of worker", counts.ready),
    };
    Some(format!("run {id} {reason}"))
}

/// True while it reports and takes documents.
fn is_active(worker: &WorkerRecord, now: u64) -> bool {
    now.saturating_sub(worker.seen_ms) <= SILENT_MS && !worker.drain && !worker.report.draining
}

/// Asks a store why its runs make no progress. The workers are read once for all of them.
#[derive(Debug)]
pub struct StallFinder<'a> {
    store: &'a dyn Store,
    /// The store's error while it cannot take results.
    problem: Option<String>,
    /// Runs whose recipe cannot be read, and why.
    unreadable: BTreeMap<RunId, String>,
    workers: Option<Vec<WorkerRecord>>,
}

impl<'a> StallFinder<'a> {
    /// For one answer: what it read is not read again.
    pub fn new(store: &'a dyn Store, problem: Option<String>, unreadable: BTreeMap<RunId, String>) -> Self {
        Self { store, problem, unreadable, workers: None }
    }

    /// The run's counts, and why it makes no progress.
    ///
    /// # Errors
    /// The store failed.
    pub async fn counts(&mut self, run: &Run) -> Result<(Counts, Option<Stall>)> {
        let asked = clock::now();
        let counts = self.store.counts(&run.id).await?;
        let read = clock::now().duration_since(asked);
        if counts.unfinished() == 0 {
            return Ok((counts, None));
        }
        let workers = match self.workers.take() {
            Some(workers) => workers,
            None => self.store.workers().await?,
        };
        let all_supported = |workers: &[WorkerRecord]| {
            workers.iter().all(|worker| TaskKind::ALL.into_iter().all(|kind| worker.report.supports(kind)))
        };
        let peek = !all_supported(&workers);
        self.workers = Some(workers);
        let mut waiting = Waiting::default();
        if counts.leased == 0 {
            waiting.recipe_problem = self.unreadable.get(&run.id).cloned();
            if counts.delayed > 0 {
                waiting.due_ms = self.head(run, State::Delayed).await?.iter().map(|record| record.due_ms).min();
            }
            if counts.ready > 0 && peek {
                let ready = self.head(run, State::Ready).await?;
                let documents = ready.iter().filter_map(|record| record.document().ok());
                waiting.kinds = documents.map(|document| document.current().0).collect();
            }
        }
        let workers = self.workers.get_or_insert_default();
        let state = StoreState { problem: self.problem.as_deref(), read };
        let stall = why_stalled(run, &counts, workers, state, &waiting, self.store.now_ms().await?);
        Ok((counts, stall))
    }

    /// The first documents in this state.
    async fn head(&self, run: &Run, state: State) -> Result<Vec<Record>> {
        let filter = Filter { state: Some(state), reason: None };
        Ok(self.store.list(&run.id, &filter, None, LOOKED_AT).await?.records)
    }
}

#[cfg(test)]
mod tests;
