//! Runs: created, listed, paused, cancelled, counted, deleted.

use async_trait::async_trait;
use longhand_proto::RunId;

use super::client::key;
use super::error::unreadable;
use super::record::{self, Fields};
use super::scripts::{self, encode};
use super::{RUNS, RedisStore, batch_len};
use crate::domain::state::State;
use crate::store::{Counts, EndedDocument, Result, Run, RunPolicy, RunStore, StoreError};

impl RedisStore {
    /// The runs with these ids that exist, in their order.
    async fn runs_of(&self, ids: &[RunId]) -> Result<Vec<Run>> {
        let asks: Vec<redis::Cmd> = ids.iter().map(|id| redis::Cmd::hgetall(key(id, "run"))).collect();
        let found: Vec<Fields> = self.client.commands(&asks).await?;
        ids.iter().zip(found).filter_map(|(id, fields)| record::run(id, fields).transpose()).collect()
    }

    async fn step_cancel(&self, run: &RunId, begin: bool) -> Result<bool> {
        let mut call = self.client.step(&scripts::CANCEL, run);
        call.arg(u8::from(begin));
        let finished: Option<bool> = self.client.invoke(&call).await?;
        finished.ok_or_else(|| StoreError::no_run(run))
    }
}

#[async_trait]
impl RunStore for RedisStore {
    async fn create_run(&self, run: &Run) -> Result<Run> {
        // Listed first: a run that is listed and does not exist is passed over, one that exists unlisted would be lost.
        let mut list = redis::cmd("ZADD");
        list.arg(RUNS).arg("NX").arg(run.created_ms).arg(run.id.as_str());
        self.client.command::<()>(&list).await?;
        let mut call = self.client.step(&scripts::CREATE_RUN, &run.id);
        let RunPolicy { priority, model, judge, max_open } = &run.policy;
        call.arg("recipe").arg(&run.recipe).arg("recipe_hash").arg(&run.recipe_hash).arg("seed").arg(run.seed);
        call.arg("created_ms").arg(run.created_ms).arg("priority").arg(priority);
        call.arg("model").arg(model).arg("judge").arg(judge).arg("max_open").arg(max_open);
        if run.paused {
            call.arg("paused").arg(1);
        }
        let fields: Fields = self.client.invoke(&call).await?;
        record::run(&run.id, fields)?.ok_or_else(|| StoreError::no_run(&run.id))
    }

    async fn runs(&self) -> Result<Vec<Run>> {
        self.runs_of(&self.run_ids().await?).await
    }

    async fn active_runs(&self) -> Result<Vec<Run>> {
        self.runs_of(&self.active_ids().await?).await
    }

    async fn latest_runs(&self, limit: u32) -> Result<Vec<Run>> {
        let last = i64::from(limit) - 1;
        let ids: Vec<String> = match limit {
            0 => Vec::new(),
            _ => self.client.command(redis::cmd("ZREVRANGE").arg(RUNS).arg(0).arg(last)).await?,
        };
        let ids: Vec<RunId> = ids.into_iter().map(|id| id.parse().map_err(unreadable)).collect::<Result<_>>()?;
        self.runs_of(&ids).await
    }

    async fn refresh_active(&self) -> Result<()> {
        self.refresh().await
    }

    async fn delete_run(&self, run: &RunId, limit: u32) -> Result<bool> {
        let mut call = self.client.step(&scripts::DELETE, run);
        call.arg(limit.max(1));
        let outcome: String = self.client.invoke(&call).await?;
        match outcome.as_str() {
            "more" => return Ok(true),
            "done" => {}
            "leased" => return Err(StoreError::leased(run)),
            other => return Err(unreadable(other)),
        }
        self.remove_active(run).await?;
        self.client.command::<()>(redis::cmd("ZREM").arg(RUNS).arg(run.as_str())).await?;
        Ok(false)
    }

    async fn load(&self, run: &RunId, documents: &[EndedDocument]) -> Result<u64> {
        let mut loaded = 0;
        let mut rest = documents;
        loop {
            let bytes = |document: &EndedDocument| {
                let history: usize = document.history.iter().map(|revision| revision.body.len()).sum();
                document.body.len() + history + 512 * document.attempts.len()
            };
            let (batch, after) = rest.split_at(batch_len(rest, bytes));
            let mut call = self.client.step(&scripts::LOAD, run);
            for document in batch {
                call.arg(document.id.to_string()).arg(document.state.as_str()).arg(&document.reason);
                call.arg(document.version).arg(u8::from(document.open)).arg(u8::from(document.flushed));
                call.arg(&document.body).arg(document.attempts.len());
                for attempt in &document.attempts {
                    call.arg(encode(attempt)?);
                }
                call.arg(document.history.len());
                for revision in &document.history {
                    call.arg(encode(revision)?);
                }
            }
            let added: Option<u64> = self.client.invoke(&call).await?;
            loaded += added.ok_or_else(|| StoreError::no_run(run))?;
            rest = after;
            if rest.is_empty() {
                return Ok(loaded);
            }
        }
    }

    async fn pause(&self, run: &RunId, paused: bool) -> Result<Run> {
        let mut call = self.client.step(&scripts::PAUSE, run);
        call.arg(u8::from(paused));
        record::run(run, self.client.invoke(&call).await?)?.ok_or_else(|| StoreError::no_run(run))
    }

    async fn cancel(&self, run: &RunId) -> Result<()> {
        self.step_cancel(run, true).await.map(drop)
    }

    async fn finish_cancel(&self, run: &RunId) -> Result<bool> {
        self.step_cancel(run, false).await
    }

    async fn latest_change(&self, run: &RunId) -> Result<u64> {
        self.expect_run(Some(run)).await?;
        let mut ask = redis::cmd("HGET");
        ask.arg(key(run, "run")).arg("changes");
        Ok(self.client.command::<Option<u64>>(&ask).await?.unwrap_or(0))
    }

    async fn totals(&self, run: &RunId) -> Result<Option<String>> {
        self.expect_run(Some(run)).await?;
        self.client.command(redis::cmd("GET").arg(key(run, "totals"))).await
    }

    async fn set_totals(&self, run: &RunId, json: &str) -> Result<()> {
        self.expect_run(Some(run)).await?;
        self.client.command(redis::cmd("SET").arg(key(run, "totals")).arg(json)).await
    }

    async fn counts(&self, run: &RunId) -> Result<Counts> {
        let mut call = self.client.step(&scripts::COUNTS, run);
        call.arg(State::ALL.map(State::as_str).as_slice());
        let found: Option<Vec<u64>> = self.client.invoke(&call).await?;
        let mut counts = Counts::default();
        for (state, count) in State::ALL.into_iter().zip(found.ok_or_else(|| StoreError::no_run(run))?) {
            *counts.of_mut(state) = count;
        }
        Ok(counts)
    }
}
