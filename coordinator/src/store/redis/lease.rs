//! Leasing over runs: each run is one atomic step, and `fair_share` says how many documents each may lease.

use longhand_proto::{LeaseId, RunId};

use super::RedisStore;
use super::client::key;
use super::record::{self, RawRecord};
use super::scripts::{self, LeaseArgs};
use crate::store::fair_share::{RunDemand, fair_share};
use crate::store::{LeaseQuery, Record, Result};

/// Most slots served in one call; a worker has tens.
const MAX_SLOTS: u32 = 1024;

impl RedisStore {
    pub(super) async fn lease_over_runs(&self, query: &LeaseQuery) -> Result<Vec<Record>> {
        let slots = query.slots.min(MAX_SLOTS) as usize;
        let runs = self.active_ids().await?;
        if let [run] = runs.as_slice() {
            let slots = if query.except.contains(run) { 0 } else { slots };
            return Ok(self.lease_in(run, query, slots).await?.1);
        }
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let request = format!("req:{}:{}", query.worker, query.request_id);
        let asks: Vec<redis::Cmd> = (runs.iter())
            .flat_map(|run| {
                let waiting = [key(run, "q:ready"), key(run, "q:judge"), key(run, "q:delayed")];
                [redis::Cmd::exists(key(run, &request)), redis::Cmd::exists(waiting.as_slice())]
            })
            .collect();
        let found: Vec<u64> = self.client.commands(&asks).await?;
        let waiting: Vec<(&RunId, bool, bool)> =
            runs.iter().zip(found.chunks_exact(2)).map(|(run, found)| (run, found[0] > 0, found[1] > 0)).collect();

        // A repeated request is answered from the runs that served it first, before any run gives it more.
        let mut repeated = None;
        for (run, _, _) in waiting.iter().filter(|(_, served, _)| *served) {
            let (known, records) = self.lease_in(run, query, 0).await?;
            if known {
                repeated.get_or_insert_with(Vec::new).extend(records);
            }
        }
        if let Some(records) = repeated {
            return Ok(records);
        }
        if slots == 0 {
            return Ok(Vec::new());
        }
        let waiting: Vec<&RunId> = waiting
            .iter()
            .filter(|(run, _, waiting)| *waiting && !query.except.contains(run))
            .map(|(run, _, _)| *run)
            .collect();
        match waiting.as_slice() {
            [] => Ok(Vec::new()),
            [run] => Ok(self.lease_in(run, query, slots).await?.1),
            runs => self.lease_shared(runs, query, slots).await,
        }
    }

    /// Slots that a run turns out not to need go to the next.
    async fn lease_shared(&self, runs: &[&RunId], query: &LeaseQuery, slots: usize) -> Result<Vec<Record>> {
        let mut demands = Vec::with_capacity(runs.len());
        for run in runs {
            let mut call = self.client.step(&scripts::DEMAND, run);
            call.arg(&query.model).arg(&query.weights_hash);
            let (priority, leased, ready): (u32, u64, u64) = self.client.invoke(&call).await?;
            demands.push(RunDemand { priority, leased, ready });
        }
        let mut leased = Vec::new();
        let mut spare = 0;
        for (run, share) in runs.iter().zip(fair_share(&demands, slots)).filter(|(_, share)| *share > 0) {
            let records = self.lease_in(run, query, share + spare).await?.1;
            spare = (share + spare).saturating_sub(records.len());
            leased.extend(records);
        }
        Ok(leased)
    }

    /// Leases of one run, and whether the request was served before.
    async fn lease_in(&self, run: &RunId, query: &LeaseQuery, slots: usize) -> Result<(bool, Vec<Record>)> {
        let fresh: Vec<LeaseId> = (0..slots).map(|_| LeaseId::mint()).collect();
        let mut call = self.client.step(&scripts::LEASE, run);
        call.arg(LeaseArgs { query, fresh: &fresh });
        let (known, raw): (bool, Vec<RawRecord>) = self.client.invoke(&call).await?;
        let records = record::records(run, raw)?;
        for grant in records.iter().filter_map(|record| record.lease.as_ref()) {
            self.run_cache.insert(grant.id.as_bytes(), run);
        }
        Ok((known, records))
    }
}
