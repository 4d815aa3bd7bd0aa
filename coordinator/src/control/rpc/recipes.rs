//! Recipes and policies of the runs that are being written, read once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use longhand_proto::RunId;

use crate::domain::recipe::Recipe;
use crate::store::{Result, RunPolicy, Store, StoreError};

/// What of a run decides its tasks.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) recipe: Arc<Recipe>,
    pub(super) policy: RunPolicy,
}

/// They never change, so what was read stays true.
#[derive(Debug, Default)]
pub(super) struct Recipes {
    /// A lock, as all calls read it and each run is inserted once; held for one look-up.
    known: RwLock<HashMap<RunId, Arc<Known>>>,
}

impl Recipes {
    pub(super) async fn of(&self, store: &dyn Store, run: &RunId) -> Result<Arc<Known>> {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(run) {
            return Ok(Arc::clone(known));
        }
        let stored =
            store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
        let recipe = Recipe::from_toml(&stored.recipe).map_err(|error| {
            StoreError::Refused(format!(
                "run {run} cannot be read by version {}: {error}; use the version that submitted it",
                longhand_proto::VERSION,
            ))
        })?;
        let known = Arc::new(Known { recipe: Arc::new(recipe), policy: stored.policy });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(run.clone(), Arc::clone(&known));
        Ok(known)
    }
}
