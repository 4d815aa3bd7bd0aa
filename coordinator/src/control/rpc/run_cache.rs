//! Recipes and policies of runs, read from the store once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use longhand_proto::RunId;
use tokio::time::Instant;

use crate::domain::recipe::Recipe;
use crate::store::{Result, RunPolicy, Store, StoreError};

/// What of a run decides its tasks.
#[derive(Debug)]
pub(super) struct RunContext {
    pub(super) recipe: Recipe,
    pub(super) policy: RunPolicy,
}

/// How long a context is taken for true. It never changes while the run exists, but another replica may delete the run, and
/// another one of its name may be submitted.
const FRESH: Duration = Duration::from_secs(60);

/// Contexts by run, each with the time when it was read.
#[derive(Debug, Default)]
pub(super) struct RunCache {
    /// A lock, as all calls read it and each run is inserted rarely; held for one look-up.
    contexts: RwLock<HashMap<RunId, (Arc<RunContext>, Instant)>>,
}

impl RunCache {
    /// The context of a run.
    ///
    /// # Errors
    /// There is no such run, this version cannot read its recipe, or the store failed.
    pub(super) async fn get(&self, store: &dyn Store, run: &RunId) -> Result<Arc<RunContext>> {
        let known = self.contexts.read().unwrap_or_else(PoisonError::into_inner).get(run).cloned();
        if let Some((context, read)) = known
            && read.elapsed() < FRESH
        {
            return Ok(context);
        }
        let stored =
            store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
        let recipe = Recipe::from_toml(&stored.recipe).map_err(|error| {
            StoreError::Refused(format!(
                "version {} cannot read the recipe of run {run}: {error}; use the version that submitted the run",
                longhand_proto::VERSION,
            ))
        })?;
        let context = Arc::new(RunContext { recipe, policy: stored.policy });
        self.contexts
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(run.clone(), (Arc::clone(&context), Instant::now()));
        Ok(context)
    }

    /// Forgets a run.
    pub(super) fn remove(&self, run: &RunId) {
        self.contexts.write().unwrap_or_else(PoisonError::into_inner).remove(run);
    }
}
