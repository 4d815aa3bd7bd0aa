//! Totals of a run, true or marked as not yet counted. A count of a large run takes seconds after a restart, so the totals are
//! kept in the store whenever they are complete: until the run is counted again, they are shown as what they were then.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cache::{RunStatsCache, RunStatsHandle};
use super::run_summary::{figures, without_speed};
use crate::store::{Result, Run, Store};

/// Least time between two writes of totals while a run goes on.
const SAVE_EVERY_MS: u64 = 10_000;

/// Totals as the store keeps them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stored {
    /// Of the run: another one may have had its name.
    created_ms: u64,
    /// The latest change that is included.
    change_seq: u64,
    counted_ms: u64,
    figures: Value,
}

/// The figures of a run: counted now, or as the store has them. `complete` is true iff they include all that is in the store;
/// `counted_ms` says of which time they are, if of an earlier one; `listed` is how many documents have been counted again.
///
/// # Errors
/// The store failed.
pub(crate) async fn current_figures(cache: &RunStatsCache, store: &Arc<dyn Store>, run: &Run) -> Result<Value> {
    let handle = cache.refreshed(store, &run.id).await?;
    let now = store.now_ms().await?;
    let (counted, change_seq, ended) = {
        let stats = handle.read();
        (figures(&stats, now, run.paused), stats.change_seq, stats.documents().all(|it| it.state.is_terminal()))
    };
    if counted["complete"] == true {
        save(&handle, store.as_ref(), run, (change_seq, now, ended), &counted).await?;
        return Ok(counted);
    }
    let stored = stored(store.as_ref(), run).await?;
    let latest = store.latest_change(&run.id).await?;
    Ok(choose(counted, stored, latest))
}

/// What is known of a run that is not counted yet.
fn choose(partial: Value, stored: Option<Stored>, latest: u64) -> Value {
    let Some(Stored { change_seq, counted_ms, figures, .. }) = stored else { return partial };
    let mut known = without_speed(figures);
    known["complete"] = json!(change_seq == latest);
    if change_seq != latest {
        known["counted_ms"] = json!(counted_ms);
    }
    known["listed"] = partial["listed"].clone();
    known
}

async fn stored(store: &dyn Store, run: &Run) -> Result<Option<Stored>> {
    // Of another build: they are counted again.
    let stored = store.totals(&run.id).await?.and_then(|json| serde_json::from_str::<Stored>(&json).ok());
    Ok(stored.filter(|stored| stored.created_ms == run.created_ms))
}

/// Keeps complete figures, now and then, and at the end of a run.
async fn save(
    handle: &RunStatsHandle,
    store: &dyn Store,
    run: &Run,
    (change_seq, now, ended): (u64, u64, bool),
    counted: &Value,
) -> Result<()> {
    if !handle.is_save_due(change_seq, now, if ended { 0 } else { SAVE_EVERY_MS }) {
        return Ok(());
    }
    let stored = Stored { created_ms: run.created_ms, change_seq, counted_ms: now, figures: counted.clone() };
    let json = serde_json::to_string(&stored).map_err(|error| crate::store::StoreError::Other(error.to_string()))?;
    store.set_totals(&run.id, &json).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(change_seq: u64) -> Stored {
        let figures =
            json!({ "words": 15_500_000, "words_per_minute": 900.0, "eta_ms": 5, "complete": true, "listed": 20 });
        Stored { created_ms: 1, change_seq, counted_ms: 77, figures }
    }

    #[test]
    fn totals_are_those_of_the_last_count_until_the_run_is_counted_again() {
        let partial = json!({ "words": 1_900_000, "complete": false, "listed": 4 });
        assert_eq!(choose(partial.clone(), None, 9), partial, "nothing else is known");
        let shown = choose(partial.clone(), Some(stored(8)), 9);
        assert_eq!(
            (&shown["words"], &shown["complete"], &shown["counted_ms"]),
            (&15_500_000.into(), &false.into(), &77.into())
        );
        assert_eq!(
            (&shown["listed"], &shown["words_per_minute"], &shown["eta_ms"]),
            (&4.into(), &0.0.into(), &Value::Null)
        );
        let shown = choose(partial, Some(stored(9)), 9);
        assert_eq!(
            (&shown["words"], &shown["complete"]),
            (&15_500_000.into(), &true.into()),
            "nothing has changed since"
        );
        assert!(shown.get("counted_ms").is_none());
    }
}
