//! The shared store: Redis 7 or Valkey 8, one script for each atomic step.
//!
//! All keys of a run stand under one hash tag, so a step is atomic on a cluster too; what spans runs (leasing, sweeping)
//! goes from run to run. `document.lua` lists the keys.

mod active;
mod address;
mod audit;
mod audit_log;
mod client;
mod connection;
mod error;
mod lease;
mod options;
mod record;
mod run;
mod run_cache;
pub mod scripts;
mod server_check;
mod workers;

use async_trait::async_trait;
use longhand_proto::task::WorkerStatus;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use redis::{FromRedisValue, Value};

use self::client::{Client, key};
use self::error::unreadable;
pub use self::options::{RedisOptions, RedisTls};
use self::record::{Fields, RawRecord, RawSwept};
use self::run_cache::RunCache;
use self::scripts::{CommitArgs, MAX_DELAY_MS, encode_tokens};
use super::{
    Action, Attempt, Audit, AuditLog, Commit, Committed, CompareAndSwap, DocumentStore, Envelope, Filter, LeaseQuery,
    LeaseStore, Lookup, NewDocument, Page, Record, Renewal, Renewed, Result, Revision, Run, Source, Store, StoreError,
    Submitted, Swapped, SweepLimits, Swept, WorkerRecord, WorkerStore,
};
use crate::domain::state::State;

/// ZSET of run ids by time of creation. It and the index of active runs are the only keys that span runs.
const RUNS: &str = "lh:runs";
/// Limits of one step, so that none blocks the server for long: documents, and bytes of their bodies.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

/// Documents in a Redis or Valkey server.
#[derive(Debug)]
pub struct RedisStore {
    client: Client,
    run_cache: RunCache,
}

impl RedisStore {
    /// Connects, and checks that the server will not lose documents.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], or [`StoreError::Refused`] with the remedy if the server is too old or would lose
    /// documents.
    pub async fn open(url: &str, options: RedisOptions) -> Result<Self> {
        let store = Self { client: Client::open(url, options).await?, run_cache: RunCache::default() };
        store.refresh().await?;
        Ok(store)
    }

    /// Oldest first.
    async fn run_ids(&self) -> Result<Vec<RunId>> {
        let ids: Vec<String> = self.client.command(redis::cmd("ZRANGE").arg(RUNS).arg(0).arg(-1)).await?;
        ids.into_iter().map(|id| id.parse().map_err(unreadable)).collect()
    }

    /// The run of this lease, if it is live or was committed as the last one of its document.
    async fn run_of_lease(&self, lease: LeaseId) -> Result<Option<RunId>> {
        self.find_run(lease.as_bytes(), |run| {
            let mut ask = redis::cmd("HEXISTS");
            ask.arg(key(run, "leases")).arg(lease.to_string());
            ask
        })
        .await
    }

    async fn run_of_document(&self, document: DocumentId) -> Result<Option<RunId>> {
        self.find_run(document.as_bytes(), |run| {
            let mut ask = redis::cmd("EXISTS");
            ask.arg(key(run, &format!("d:{document}")));
            ask
        })
        .await
    }

    async fn expect_run(&self, run: Option<&RunId>) -> Result<()> {
        match run {
            Some(run) if self.run(run).await?.is_none() => Err(StoreError::no_run(run)),
            Some(_) | None => Ok(()),
        }
    }

    async fn find_run(&self, id: &[u8; 16], ask: impl Fn(&RunId) -> redis::Cmd) -> Result<Option<RunId>> {
        if let Some(run) = self.run_cache.get(id) {
            return Ok(Some(run));
        }
        // Mostly it is an active one; thousands may have ended.
        let active = self.active_ids().await?;
        if let Some(run) = self.first(&active, &ask).await? {
            self.run_cache.insert(id, &run);
            return Ok(Some(run));
        }
        let mut ended = self.run_ids().await?;
        ended.retain(|run| !active.contains(run));
        let found = self.first(&ended, &ask).await?;
        if let Some(run) = &found {
            self.run_cache.insert(id, run);
        }
        Ok(found)
    }

    /// The first of these runs for which the server answers yes.
    async fn first(&self, runs: &[RunId], ask: impl Fn(&RunId) -> redis::Cmd) -> Result<Option<RunId>> {
        let asks: Vec<redis::Cmd> = runs.iter().map(ask).collect();
        let found: Vec<bool> = self.client.commands(&asks).await?;
        Ok(found.iter().position(|found| *found).map(|index| runs[index].clone()))
    }

    /// The entries of a document's list of JSON.
    async fn entries<T: serde::de::DeserializeOwned>(&self, document: DocumentId, list: &str) -> Result<Vec<T>> {
        let run = self.run_of_document(document).await?.ok_or_else(|| StoreError::no_document(document))?;
        let mut ask = redis::cmd("LRANGE");
        ask.arg(key(&run, &format!("{list}:{document}"))).arg(0).arg(-1);
        let entries: Vec<String> = self.client.command(&ask).await?;
        entries.iter().map(|json| serde_json::from_str(json).map_err(unreadable)).collect()
    }

    /// Documents of one index.
    async fn page(&self, run: &RunId, index: &str, after: Option<u64>, limit: u64) -> Result<Vec<Record>> {
        let bound = after.map_or_else(|| "-inf".to_owned(), |seq| format!("({seq}"));
        let mut call = self.client.step(&scripts::LIST, run);
        call.arg(index).arg(bound).arg(limit);
        let raw: Option<Vec<RawRecord>> = self.client.invoke(&call).await?;
        record::records(run, raw.ok_or_else(|| StoreError::no_run(run))?)
    }
}

/// How many of these one step takes: at least one.
fn batch_len<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> usize {
    let mut sum = 0;
    let fit = items.iter().take(BATCH).take_while(|item| {
        let first = sum == 0;
        sum += bytes(item).max(1);
        first || sum <= BATCH_BYTES
    });
    fit.count()
}

/// A reply of one word, or of a word and a value.
fn optional<T: FromRedisValue>(answer: Vec<Value>) -> Result<(String, Option<T>)> {
    let mut parts = answer.into_iter();
    let word = parts.next().ok_or_else(|| unreadable("an empty reply"))?;
    let value = parts.next().map(T::from_redis_value).transpose().map_err(unreadable)?;
    Ok((String::from_redis_value(word).map_err(unreadable)?, value))
}

/// The index that a filter selects.
fn index(filter: &Filter) -> Option<String> {
    match (filter.state, filter.reason.as_deref()) {
        (None, _) => Some("all".to_owned()),
        (Some(state), None) => Some(format!("s:{}", state.as_str())),
        (Some(state), Some(reason)) if state.is_terminal() => Some(format!("r:{}:{reason}", state.as_str())),
        // Unfinished documents have no reason.
        (Some(state), Some("")) => Some(format!("s:{}", state.as_str())),
        (Some(_), Some(_)) => None,
    }
}

#[async_trait]
impl Source for RedisStore {
    async fn run(&self, id: &RunId) -> Result<Option<Run>> {
        record::run(id, self.client.command(redis::cmd("HGETALL").arg(key(id, "run"))).await?)
    }

    async fn attempts(&self, document: DocumentId) -> Result<Vec<Attempt>> {
        self.entries(document, "a").await
    }

    async fn list(&self, run: &RunId, filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page> {
        filter.check()?;
        // No index for a filter that matches nothing; the run must exist all the same.
        let index = index(filter).unwrap_or_else(|| "none".to_owned());
        // One more than asked for, to know whether there is a next page.
        let limit = limit.max(1);
        let mut records = self.page(run, &index, after, u64::from(limit) + 1).await?;
        if records.len() <= limit as usize {
            return Ok(Page { records, next: None });
        }
        records.truncate(limit as usize);
        let next = records.last().map(|record| record.seq);
        Ok(Page { records, next })
    }

    async fn unflushed(&self, run: &RunId, limit: u32) -> Result<Vec<Record>> {
        self.page(run, "q:unflushed", None, u64::from(limit)).await
    }

    async fn mark_flushed(&self, run: &RunId, documents: &[DocumentId]) -> Result<Vec<DocumentId>> {
        let mut ignored = Vec::new();
        let mut rest = documents;
        loop {
            let (batch, after) = rest.split_at(rest.len().min(BATCH));
            let mut call = self.client.step(&scripts::MARK_FLUSHED, run);
            for document in batch {
                call.arg(document.to_string());
            }
            let answer: Option<Vec<String>> = self.client.invoke(&call).await?;
            for id in answer.ok_or_else(|| StoreError::no_run(run))? {
                ignored.push(record::document_id(&id)?);
            }
            rest = after;
            if rest.is_empty() {
                return Ok(ignored);
            }
        }
    }
}

#[async_trait]
impl DocumentStore for RedisStore {
    async fn submit(&self, run: &RunId, documents: &[NewDocument]) -> Result<Submitted> {
        self.add_active(run).await?;
        let mut submitted = Submitted::default();
        let mut rest = documents;
        loop {
            let (batch, after) = rest.split_at(batch_len(rest, |document| document.body.len()));
            let mut call = self.client.step(&scripts::SUBMIT, run);
            for document in batch {
                let Envelope { state, reason, .. } = Envelope::new(document.failed.as_deref());
                call.arg(document.id.to_string()).arg(state.as_str()).arg(reason).arg(&document.body);
            }
            let inserted: Option<u64> = self.client.invoke(&call).await?;
            let inserted = inserted.ok_or_else(|| StoreError::no_run(run))?;
            submitted.inserted += inserted;
            submitted.existing += batch.len() as u64 - inserted;
            rest = after;
            if rest.is_empty() {
                if submitted.inserted > 0 {
                    self.add_active(run).await?;
                }
                return Ok(submitted);
            }
        }
    }

    async fn get(&self, document: DocumentId) -> Result<Option<Record>> {
        let Some(run) = self.run_of_document(document).await? else { return Ok(None) };
        let mut call = self.client.step(&scripts::GET, &run);
        call.arg(document.to_string());
        let raw: Option<RawRecord> = self.client.invoke(&call).await?;
        raw.map(|raw| record::record(&run, raw)).transpose()
    }

    async fn swap(&self, swap: &CompareAndSwap) -> Result<Swapped> {
        swap.check()?;
        let missing = || StoreError::no_document(swap.document);
        let run = self.run_of_document(swap.document).await?.ok_or_else(missing)?;
        if swap.state == State::Ready {
            self.add_active(&run).await?;
        }
        let mut call = self.client.step(&scripts::SWAP, &run);
        call.arg(swap.document.to_string()).arg(swap.version).arg(swap.state.as_str()).arg(swap.stored_reason());
        call.arg(u8::from(swap.body.is_some())).arg(swap.body.as_deref().unwrap_or_default());
        call.arg(LeaseId::from_bytes(swap.fingerprint()).to_string()).arg(u8::from(swap.judge));
        let outcome: String = self.client.invoke(&call).await?;
        if swap.state == State::Ready {
            self.add_active(&run).await?;
        }
        match outcome.as_str() {
            "done" => Ok(Swapped::Done),
            "changed" => Ok(Swapped::Changed),
            "missing" => Err(missing()),
            other => Err(unreadable(other)),
        }
    }

    async fn history(&self, document: DocumentId) -> Result<Vec<Revision>> {
        self.entries(document, "h").await
    }

    async fn changed(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<Record>> {
        self.page(run, "q:changes", Some(after), u64::from(limit)).await
    }
}

#[async_trait]
impl LeaseStore for RedisStore {
    async fn lease(&self, query: &LeaseQuery) -> Result<Vec<Record>> {
        self.lease_over_runs(query).await
    }

    async fn renew(&self, renewals: &[Renewal], ttl_ms: u64) -> Result<Renewed> {
        let mut renewed = Renewed::default();
        let mut routed = Vec::new();
        for renewal in renewals {
            match self.run_of_lease(renewal.lease).await? {
                Some(run) => routed.push((run, renewal, encode_tokens(renewal.checkpoint.as_ref())?)),
                None => renewed.lost.push(renewal.lease),
            }
        }
        routed.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        for mut rest in routed.chunk_by(|(a, ..), (b, ..)| a == b) {
            while let Some((run, ..)) = rest.first() {
                let (batch, after) =
                    rest.split_at(batch_len(rest, |(_, _, (tokens, after))| tokens.len() + after.len()));
                let mut call = self.client.step(&scripts::RENEW, run);
                call.arg(ttl_ms.min(MAX_DELAY_MS));
                for (_, Renewal { lease, progress, checkpoint, from }, (tokens, after)) in batch {
                    let count = checkpoint.as_ref().map_or(0, |it| it.tokens.len());
                    call.arg(lease.to_string()).arg(*progress).arg(*from).arg(count).arg(tokens).arg(after);
                }
                let [lost, cancelled, unsaved]: [Vec<String>; 3] = self.client.invoke(&call).await?;
                let Renewed { lost: gone, cancelled: stopped, unsaved: kept } = &mut renewed;
                for (ids, found) in [(lost, gone), (cancelled, stopped), (unsaved, kept)] {
                    for id in ids {
                        found.push(id.parse().map_err(unreadable)?);
                    }
                }
                rest = after;
            }
        }
        Ok(renewed)
    }

    async fn lookup(&self, lease: LeaseId) -> Result<Lookup> {
        let Some(run) = self.run_of_lease(lease).await? else { return Ok(Lookup::Stale) };
        let mut call = self.client.step(&scripts::LOOKUP, &run);
        call.arg(lease.to_string());
        let (meaning, raw): (String, Option<RawRecord>) = optional(self.client.invoke(&call).await?)?;
        let record = raw.map(|raw| record::record(&run, raw)).transpose()?.map(Box::new);
        match (meaning.as_str(), record) {
            ("live", Some(record)) => Ok(Lookup::Live(record)),
            ("committed", Some(record)) => Ok(Lookup::Committed(record)),
            ("stale", None) => Ok(Lookup::Stale),
            (other, _) => Err(unreadable(other)),
        }
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        commit.check()?;
        let Some(run) = self.run_of_lease(commit.lease).await? else { return Ok(Committed::Stale) };
        let mut call = self.client.step(&scripts::COMMIT, &run);
        call.arg(CommitArgs::of(commit)?);
        let (outcome, fields): (String, Option<Fields>) = optional(self.client.invoke(&call).await?)?;
        let grant = fields.map(|fields| fields.grant()).transpose()?.flatten();
        if let Some(grant) = &grant {
            self.run_cache.insert(grant.id.as_bytes(), &run);
        }
        match outcome.as_str() {
            "done" => Ok(Committed::Done(grant)),
            "repeated" => Ok(Committed::Repeated(grant)),
            "stale" => Ok(Committed::Stale),
            "cancelling" => Ok(Committed::Cancelling),
            other => Err(unreadable(other)),
        }
    }

    async fn sweep(&self, limits: &SweepLimits) -> Result<Vec<Swept>> {
        let runs = self.active_ids().await?;
        let asks: Vec<redis::Cmd> = runs.iter().map(|run| redis::Cmd::exists(key(run, "q:expiry"))).collect();
        let leased: Vec<bool> = self.client.commands(&asks).await?;
        let mut swept = Vec::new();
        for (run, _) in runs.iter().zip(leased).filter(|(_, leased)| *leased) {
            let room = limits.batch as usize - swept.len();
            if room == 0 {
                break;
            }
            let mut call = self.client.step(&scripts::SWEEP, run);
            call.arg(limits.of(run).max_losses).arg(limits.no_progress_ms.min(MAX_DELAY_MS)).arg(room);
            let raw: Vec<RawSwept> = self.client.invoke(&call).await?;
            for raw in raw {
                swept.push(record::swept(run, raw)?);
            }
        }
        self.prune_active(&runs).await?;
        Ok(swept)
    }
}

#[async_trait]
impl WorkerStore for RedisStore {
    async fn heartbeat(&self, worker: &WorkerId, report: &WorkerStatus) -> Result<bool> {
        workers::heartbeat(&self.client, worker, report).await
    }

    async fn workers(&self) -> Result<Vec<WorkerRecord>> {
        workers::workers(&self.client).await
    }

    async fn drain(&self, worker: &WorkerId) -> Result<()> {
        match workers::drain(&self.client, worker).await? {
            true => Ok(()),
            false => Err(StoreError::no_worker(worker)),
        }
    }
}

#[async_trait]
impl AuditLog for RedisStore {
    async fn append_audit(&self, run: Option<&RunId>, action: &Action) -> Result<()> {
        self.expect_run(run).await?;
        audit_log::append(&self.client, run, action).await
    }

    async fn audit_log(&self, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>> {
        self.expect_run(run).await?;
        audit_log::entries(&self.client, run, limit).await
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn audit(&self, run: &RunId, repair: bool) -> Result<Audit> {
        if self.run(run).await?.is_none() {
            return Err(StoreError::no_run(run));
        }
        audit::audit(&self.client, run, repair).await
    }

    async fn now_ms(&self) -> Result<u64> {
        let (seconds, micros): (u64, u64) = self.client.command(&redis::cmd("TIME")).await?;
        Ok((seconds * 1000 + micros / 1000).saturating_add_signed(self.client.clock_offset_ms()))
    }
}
