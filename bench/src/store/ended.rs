//! What a coordinator does again and again, in a store with many runs that have ended.

use std::sync::Arc;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{EndedDocument, LeaseQuery, Run, RunPolicy, Store, StoreError};
use longhand_proto::{DocumentId, RunId};

use super::{FilledStore, LIMITS, body, timed};
use crate::redis_server::store_failure;

/// Documents of each run.
const DOCUMENTS: u32 = 100;
/// Runs of the dashboard's list beside the active ones, and runs with series of their own.
const PAGE_RUNS: u32 = 100;
const SCRAPE_RUNS: u32 = 32;

/// Fills the store with `runs` ended runs and an active one, and measures.
pub(super) async fn measure(store: Arc<dyn Store>, runs: u32) -> Result<Vec<(&'static str, f64)>> {
    for number in 0..runs {
        ended_run(store.as_ref(), &format!("ended-{number}")).await?;
    }
    let filled = FilledStore::new(Arc::clone(&store), DOCUMENTS).await?;
    store.sweep(&LIMITS).await.map_err(store_failure)?;
    let nothing = LeaseQuery {
        worker: "bench".parse().map_err(Failure::refused)?,
        request_id: "nothing".into(),
        slots: 1,
        ttl_ms: 1_000,
        model: "bench".into(),
        weights_hash: "bench".into(),
        except: vec![filled.run],
    };
    let with_counts = |runs: Vec<Run>| {
        let store = Arc::clone(&store);
        async move {
            for run in runs {
                store.counts(&run.id).await?;
            }
            Ok::<_, StoreError>(())
        }
    };
    Ok(vec![
        ("lease, nothing to give", timed(|| store.lease(&nothing)).await?),
        ("sweep, nothing due", timed(|| store.sweep(&LIMITS)).await?),
        ("hello", timed(|| async { with_counts(store.active_runs().await?).await }).await?),
        (
            "scrape",
            timed(|| async {
                with_counts(store.active_runs().await?).await?;
                with_counts(store.latest_runs(SCRAPE_RUNS).await?).await
            })
            .await?,
        ),
        (
            "page of runs",
            timed(|| async {
                with_counts(store.active_runs().await?).await?;
                with_counts(store.latest_runs(PAGE_RUNS).await?).await
            })
            .await?,
        ),
    ])
}

async fn ended_run(store: &dyn Store, name: &str) -> Result<()> {
    let (id, recipe): (RunId, _) = (name.parse().map_err(Failure::refused)?, Recipe::builtin());
    let run = Run {
        id: id.clone(),
        recipe: recipe.to_toml(),
        recipe_hash: recipe.hash(),
        seed: 7,
        created_ms: 1,
        policy: RunPolicy::default(),
        paused: false,
    };
    store.create_run(&run).await.map_err(store_failure)?;
    let body = body(&id)?;
    let document = |number: u32| EndedDocument {
        id: DocumentId::derive(&id, &number.to_string(), 0),
        state: State::Accepted,
        reason: String::new(),
        version: 2,
        open: true,
        flushed: true,
        body: body.clone(),
        attempts: Vec::new(),
        history: Vec::new(),
    };
    let documents: Vec<_> = (0..DOCUMENTS).map(document).collect();
    store.load(&id, &documents).await.map(drop).map_err(store_failure)
}
