//! The runs that have unfinished documents: what spans runs (leasing, sweeping, lists) goes over these only.
//!
//! The index has a key of its own, so no step can write it together with a run. A run is therefore added before and after what
//! makes a document of it unfinished, and taken out by a sweep, which then looks again. What slips through when a process dies
//! in between, and what older builds add, [`RedisStore::refresh`] finds.

use longhand_proto::RunId;

use super::client::key;
use super::error::unreadable;
use super::{RUNS, RedisStore};
use crate::store::Result;

/// ZSET of the ids of runs with unfinished documents, by time of creation.
const ACTIVE: &str = "lh:active";

impl RedisStore {
    /// Ids of the runs with unfinished documents, oldest first; some may have ended since.
    pub(super) async fn active_ids(&self) -> Result<Vec<RunId>> {
        let ids: Vec<String> = self.client.command(redis::cmd("ZRANGE").arg(ACTIVE).arg(0).arg(-1)).await?;
        ids.into_iter().map(|id| id.parse().map_err(unreadable)).collect()
    }

    /// The run has unfinished documents, or is about to.
    pub(super) async fn add_active(&self, run: &RunId) -> Result<()> {
        let created: Option<f64> = self.client.command(redis::cmd("ZSCORE").arg(RUNS).arg(run.as_str())).await?;
        let Some(created) = created else { return Ok(()) };
        self.client.command(redis::cmd("ZADD").arg(ACTIVE).arg(created).arg(run.as_str())).await
    }

    pub(super) async fn remove_active(&self, run: &RunId) -> Result<()> {
        self.client.command(redis::cmd("ZREM").arg(ACTIVE).arg(run.as_str())).await
    }

    /// Takes those out whose documents have all ended.
    pub(super) async fn prune_active(&self, runs: &[RunId]) -> Result<()> {
        for (run, unfinished) in runs.iter().zip(self.are_unfinished(runs).await?) {
            if !unfinished {
                self.remove_active(run).await?;
                // A document may have been added meanwhile.
                if self.are_unfinished(std::slice::from_ref(run)).await? == [true] {
                    self.add_active(run).await?;
                }
            }
        }
        Ok(())
    }

    /// Adds the runs that are missing.
    pub(super) async fn refresh(&self) -> Result<()> {
        let known = self.active_ids().await?;
        let mut others = self.run_ids().await?;
        others.retain(|run| !known.contains(run));
        for (run, unfinished) in others.iter().zip(self.are_unfinished(&others).await?) {
            if unfinished {
                self.add_active(run).await?;
            }
        }
        Ok(())
    }

    async fn are_unfinished(&self, runs: &[RunId]) -> Result<Vec<bool>> {
        let asks: Vec<redis::Cmd> = (runs.iter())
            .map(|run| redis::Cmd::exists(["s:ready", "s:leased", "s:delayed"].map(|state| key(run, state)).as_slice()))
            .collect();
        let found: Vec<u64> = self.client.commands(&asks).await?;
        Ok(found.into_iter().map(|states| states > 0).collect())
    }
}
