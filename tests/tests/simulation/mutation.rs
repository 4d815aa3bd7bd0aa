//! Mutants of the store, each of which breaks one rule of its contract: the simulation must detect all of them.

use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Attempt, Commit, Committed, DocumentStore, Filter, LeaseGrant, LeaseStore, Lookup, Next, Record, Renewal, Renewed,
    Result, Source, SqliteStore, Store, SweepLimits, Swept,
};
use longhand_proto::{LeaseId, rng};

use super::sim::run_id;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    /// A worker may write under any lease that it ever had.
    NoFence,
    /// A sweep revokes leases that had expired when it listed them, without checking again.
    BlindSweep,
    /// A commit is acknowledged before it is written.
    EarlyAnswer,
    /// The checkpoint of a lost lease is stored.
    StaleCheckpoint,
    /// Tokens are appended to whatever is stored.
    BlindAppend,
}

/// All mutants, with what the checker must report of each.
pub(crate) const MUTATIONS: [(Mutation, &str); 5] = [
    (Mutation::NoFence, "which is not live, changed document"),
    (Mutation::BlindSweep, "revoked a live lease"),
    (Mutation::EarlyAnswer, "was acknowledged, and the store does not hold it"),
    (Mutation::StaleCheckpoint, "a renewal under another lease changed"),
    (Mutation::BlindAppend, "has another checkpoint than was saved"),
];

impl Mutation {
    pub(crate) async fn lookup(self, store: &SqliteStore, lease: LeaseId) -> Result<Lookup> {
        let looked = store.lookup(lease).await?;
        if self != Self::NoFence || looked != Lookup::Stale {
            return Ok(looked);
        }
        Ok(match former(store, lease).await? {
            Some((mut record, attempt, held)) => {
                record.lease = Some(LeaseGrant { id: lease, worker: attempt.worker, ..held });
                Lookup::Live(Box::new(record))
            }
            None => looked,
        })
    }

    pub(crate) async fn commit(self, store: &SqliteStore, commit: &Commit) -> Result<Committed> {
        if self == Self::EarlyAnswer && matches!(store.lookup(commit.lease).await?, Lookup::Live(_)) {
            let (store, commit) = (store.clone(), commit.clone());
            drop(tokio::spawn(async move {
                tokio::time::sleep(rng::up_to(Duration::from_millis(100))).await;
                store.commit(&commit).await
            }));
            return Ok(Committed::Done(None));
        }
        let committed = store.commit(commit).await?;
        if self != Self::NoFence || committed != Committed::Stale {
            return Ok(committed);
        }
        match former(store, commit.lease).await? {
            Some((_, _, held)) => store.commit(&Commit { lease: held.id, ..commit.clone() }).await,
            None => Ok(committed),
        }
    }

    pub(crate) async fn renew(self, store: &SqliteStore, renewals: &[Renewal], ttl_ms: u64) -> Result<Renewed> {
        if self == Self::BlindAppend {
            return store.renew(&appended_blindly(store, renewals).await?, ttl_ms).await;
        }
        let renewed = store.renew(renewals, ttl_ms).await?;
        if self == Self::StaleCheckpoint {
            for renewal in renewals.iter().filter(|renewal| renewed.lost.contains(&renewal.lease)) {
                if let Some((_, _, held)) = former(store, renewal.lease).await? {
                    store.renew(&[Renewal { lease: held.id, progress: 0, ..renewal.clone() }], ttl_ms).await?;
                }
            }
        }
        Ok(renewed)
    }

    pub(crate) async fn sweep(self, store: &SqliteStore, limits: &SweepLimits) -> Result<Vec<Swept>> {
        if self != Self::BlindSweep {
            return store.sweep(limits).await;
        }
        let now = store.now_ms().await?;
        let leased = Filter { state: Some(State::Leased), reason: None };
        let over = store.list(&run_id(), &leased, None, limits.batch).await?.records.into_iter();
        let over: Vec<Record> = over.filter(|it| it.lease.as_ref().is_some_and(|it| it.expires_ms <= now)).collect();
        if !over.is_empty() {
            tokio::time::sleep(rng::up_to(Duration::from_secs(2))).await;
        }
        let mut swept = store.sweep(limits).await?;
        for record in over {
            let Some(record) = store.get(record.id).await? else { continue };
            let Some(lease) = record.lease else { continue };
            let detail = serde_json::json!({});
            let taken =
                Commit { lease: lease.id, body: None, checkpoint: None, next: Next::Release, detail, ttl_ms: 0 };
            store.commit(&taken).await?;
            swept.push(Swept { run: run_id(), document: record.id, lease, state: State::Ready });
        }
        Ok(swept)
    }
}

/// The renewals with what is stored in place of what they leave out.
async fn appended_blindly(store: &SqliteStore, renewals: &[Renewal]) -> Result<Vec<Renewal>> {
    let mut whole = renewals.to_vec();
    for Renewal { lease, checkpoint, from, .. } in &mut whole {
        let Lookup::Live(record) = store.lookup(*lease).await? else { continue };
        if let (Some(later), Some(stored), true) = (checkpoint, record.checkpoint, *from > 0) {
            later.tokens.splice(0..0, stored.tokens);
            *from = 0;
        }
    }
    Ok(whole)
}

/// The document that once had this lease, if it has another one now.
async fn former(store: &SqliteStore, lease: LeaseId) -> Result<Option<(Record, Attempt, LeaseGrant)>> {
    for record in store.list(&run_id(), &Filter::default(), None, 10_000).await?.records {
        let attempts = store.attempts(record.id).await?;
        let attempt = attempts.into_iter().find(|attempt| attempt.lease == lease);
        if let (Some(attempt), Some(held)) = (attempt, record.lease.clone()) {
            return Ok(Some((record, attempt, held)));
        }
    }
    Ok(None)
}
