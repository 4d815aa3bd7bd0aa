//! What the rules measured of the documents of a run, kept so that a report is a page over numbers. Measuring takes some
//! milliseconds a document; it goes on in the background, and a report shows what there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use longhand_proto::{DocumentId, RunId};

use crate::domain::recipe::Recipe;
use crate::report::Report;
use crate::store::{Record, Run, Store, StoreError};

/// Runs whose measures are kept: about 2 kB a document.
const MAX_RUNS: usize = 4;
/// Documents in memory at a time.
const BATCH: usize = 32;
/// A report that is complete by then is shown complete.
const WAIT: Duration = Duration::from_millis(150);

/// A document to measure, and the tokens generated for it: what was written anew has more.
pub(super) type Wanted = (DocumentId, u64);

/// The runs whose reports were asked for last.
#[derive(Debug, Default)]
pub(super) struct MeasuredRuns {
    runs: Mutex<Vec<(RunId, Arc<MeasuredRun>)>>,
}

/// The documents of one run that are measured so far.
#[derive(Debug)]
pub(super) struct MeasuredRun {
    pub(super) report: Mutex<Report>,
    known: Mutex<HashMap<DocumentId, u64>>,
    /// Held while documents are measured.
    working: Arc<tokio::sync::Mutex<()>>,
}

impl MeasuredRuns {
    /// The run's measures. Those that are missing are computed in the background, one pass at a time.
    pub(super) async fn measure(
        &self,
        store: &Arc<dyn Store>,
        run: &Run,
        wanted: Vec<Wanted>,
    ) -> Result<Arc<MeasuredRun>, StoreError> {
        let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
        let measured = self.entry(run, recipe, &wanted);
        let missing: Vec<Wanted> = {
            let known = measured.known.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.into_iter().filter(|(id, _)| !known.contains_key(id)).collect()
        };
        if missing.is_empty() {
            return Ok(measured);
        }
        if let Ok(guard) = Arc::clone(&measured.working).try_lock_owned() {
            let (store, into) = (Arc::clone(store), Arc::clone(&measured));
            tokio::spawn(async move {
                let _guard = guard;
                if let Err(error) = into.add(store.as_ref(), missing).await {
                    tracing::warn!(%error, "the documents of a report cannot be read");
                }
            });
        }
        drop(tokio::time::timeout(WAIT, measured.working.lock()).await);
        Ok(measured)
    }

    /// The run's entry, a new one if a document was written anew since.
    fn entry(&self, run: &Run, recipe: Recipe, wanted: &[Wanted]) -> Arc<MeasuredRun> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted: HashMap<DocumentId, u64> = wanted.iter().copied().collect();
        let valid = |measured: &MeasuredRun| {
            let known = measured.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().all(|(id, generated)| wanted.get(id) == Some(generated))
        };
        let found = runs.iter().position(|(id, _)| *id == run.id).map(|at| runs.remove(at).1);
        let measured = found.filter(|measured| valid(measured)).unwrap_or_else(|| {
            let report = Mutex::new(Report::new(run.id.to_string(), recipe));
            Arc::new(MeasuredRun { report, known: Mutex::default(), working: Arc::default() })
        });
        runs.push((run.id.clone(), Arc::clone(&measured)));
        if runs.len() > MAX_RUNS {
            runs.remove(0);
        }
        measured
    }
}

impl MeasuredRun {
    /// Documents that were looked at so far.
    pub(super) fn known(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    async fn add(self: &Arc<Self>, store: &dyn Store, missing: Vec<Wanted>) -> Result<(), StoreError> {
        for batch in missing.chunks(BATCH) {
            let calls: Vec<_> = batch.iter().map(|(id, _)| store.get(*id)).collect();
            let records: Vec<Option<Record>> = stream::iter(calls).buffered(BATCH).try_collect().await?;
            let (into, batch) = (Arc::clone(self), batch.to_vec());
            let added = tokio::task::spawn_blocking(move || into.add_batch(&batch, &records));
            added.await.map_err(|error| StoreError::Other(format!("the report failed: {error}")))?;
        }
        Ok(())
    }

    fn add_batch(&self, batch: &[Wanted], records: &[Option<Record>]) {
        for ((id, generated), record) in batch.iter().zip(records) {
            match record.as_ref().map(Record::document) {
                // One that was requeued since has no whole text, and is asked for again when it has one.
                Some(Ok(document)) => {
                    if let Some(assembled) = document.assembled() {
                        let measured = Report::measure(*id, &assembled);
                        self.report.lock().unwrap_or_else(PoisonError::into_inner).push(measured);
                    }
                }
                Some(Err(error)) => tracing::warn!(document = %id, %error, "the stored document cannot be read"),
                None => {}
            }
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, *generated);
        }
    }
}
