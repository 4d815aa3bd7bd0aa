//! Recipes and policies of runs, read from the store once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use longhand_proto::RunId;

use crate::domain::recipe::Recipe;
use crate::store::{Result, RunPolicy, Store, StoreError};

/// What of a run decides its tasks.
#[derive(Debug)]
pub(super) struct RunContext {
    pub(super) recipe: Recipe,
    pub(super) policy: RunPolicy,
}

/// Contexts by run. They never change once a run exists, so entries need no invalidation.
#[derive(Debug, Default)]
pub(super) struct RunCache {
    /// A lock, as all calls read it and each run is inserted once; held for one look-up.
    contexts: RwLock<HashMap<RunId, Arc<RunContext>>>,
}

impl RunCache {
    /// The context of a run.
    ///
    /// # Errors
    /// There is no such run, this version cannot read its recipe, or the store failed.
    pub(super) async fn get(&self, store: &dyn Store, run: &RunId) -> Result<Arc<RunContext>> {
        if let Some(context) = self.contexts.read().unwrap_or_else(PoisonError::into_inner).get(run) {
            return Ok(Arc::clone(context));
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
        self.contexts.write().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), Arc::clone(&context));
        Ok(context)
    }
}
