//! Leases: granted, renewed, committed, swept.

use longhand_proto::LeaseId;
use rusqlite::{OptionalExtension, Result, Transaction};

use super::row::{self, Bytes, DocumentRow, int};
use super::run::{self, ACTIVE};
use crate::domain::state::State;
use crate::store::fair_share::{RunDemand, fair_share};
use crate::store::{
    Commit, Committed, LeaseGrant, LeaseQuery, Lookup, Record, Renewal, Renewed, RunPolicy, SweepLimits, Swept,
};

/// Most delayed documents that one call makes ready.
const DUE_BATCH: u32 = 1024;

pub(super) fn lease(tx: &Transaction<'_>, query: &LeaseQuery, now: u64) -> Result<Vec<Record>> {
    tx.prepare_cached("DELETE FROM request WHERE expires_ms <= ?1")?.execute([int(now)])?;
    if let Some(records) = repeat(tx, query)? {
        return Ok(records);
    }
    if query.slots == 0 {
        return Ok(Vec::new());
    }
    let runs = runs_with_work(tx, query)?;
    let mut demands = Vec::with_capacity(runs.len());
    for (run, policy) in &runs {
        promote_due(tx, *run, now)?;
        demands.push(demand(tx, *run, policy, query)?);
    }
    let mut leased = Vec::new();
    for ((run, policy), share) in runs.iter().zip(fair_share(&demands, query.slots as usize)) {
        let mut left = share;
        for judge in eligible_queues(policy, query) {
            // The literal state lets the planner take the partial index, which holds the order too.
            let picked = row::select(
                tx,
                "WHERE document.run = ?1 AND state = 'ready' AND document.judge = ?2 ORDER BY open DESC, seq LIMIT ?3",
                (run, judge, left as i64),
            )?;
            left -= picked.len();
            for row in picked {
                leased.extend(grant(tx, row, query, now)?);
            }
        }
    }
    Ok(leased)
}

/// Which of a run's ready documents this worker may take, those for the judge first: they are begun.
fn eligible_queues(policy: &RunPolicy, query: &LeaseQuery) -> impl Iterator<Item = bool> {
    let (model, weights_hash) = (&query.model, &query.weights_hash);
    let judges = policy.can_judge(model, weights_hash).then_some(true);
    judges.into_iter().chain(policy.can_write(model, weights_hash).then_some(false))
}

/// What a run has for a worker now.
fn demand(tx: &Transaction<'_>, run: i64, policy: &RunPolicy, query: &LeaseQuery) -> Result<RunDemand> {
    let mut state_counts = tx.prepare_cached("SELECT n FROM tally WHERE run = ?1 AND state = ?2")?;
    let mut count = |state: State| {
        let counted = state_counts.query_row((run, state.as_str()), |row| row::time(row, 0)).optional();
        counted.map(Option::unwrap_or_default)
    };
    let (ready, leased, delayed) = (count(State::Ready)?, count(State::Leased)?, count(State::Delayed)?);
    let for_judge = if policy.judge.is_empty() {
        0
    } else {
        tx.prepare_cached("SELECT count(*) FROM document WHERE run = ?1 AND state = 'ready' AND judge = 1")?
            .query_row([run], |row| row::time(row, 0))?
    };
    let to_write = ready - for_judge;
    let to_write = match u64::from(policy.max_open) {
        0 => to_write,
        bound => {
            let begun: u64 = tx
                .prepare_cached(
                    "SELECT count(*) FROM document WHERE run = ?1 AND state = 'ready' AND judge = 0 AND open = 1",
                )?
                .query_row([run], |row| row::time(row, 0))?;
            begun + bound.saturating_sub(begun + for_judge + leased + delayed).min(to_write - begun)
        }
    };
    let ready = eligible_queues(policy, query).map(|judge| if judge { for_judge } else { to_write }).sum();
    Ok(RunDemand { priority: policy.priority, leased, ready })
}

/// The leases that this request was granted before and still holds; none for a new request.
fn repeat(tx: &Transaction<'_>, query: &LeaseQuery) -> Result<Option<Vec<Record>>> {
    let leases: Vec<Bytes> = tx
        .prepare_cached("SELECT lease FROM request WHERE worker = ?1 AND request_id = ?2 ORDER BY key")?
        .query_map((query.worker.as_str(), &query.request_id), |row| row.get(0))?
        .collect::<Result<_>>()?;
    if leases.is_empty() {
        return Ok(None);
    }
    let mut records = Vec::new();
    for lease in leases {
        if let Some(row) = row::leased(tx, lease.into())? {
            records.push(row.into_record(tx)?);
        }
    }
    Ok(Some(records))
}

fn promote_due(tx: &Transaction<'_>, run: i64, now: u64) -> Result<()> {
    let due = row::select(
        tx,
        "WHERE document.run = ?1 AND state = 'delayed' AND due_ms <= ?2 ORDER BY due_ms LIMIT ?3",
        (run, int(now), DUE_BATCH),
    )?;
    for mut row in due {
        if let Some(ready) = row.envelope.promote_due(now) {
            row.update(tx, ready, now)?;
        }
    }
    Ok(())
}

/// Runs with documents that this worker may lease, oldest first.
fn runs_with_work(tx: &Transaction<'_>, query: &LeaseQuery) -> Result<Vec<(i64, RunPolicy)>> {
    let mut select = tx.prepare_cached(&format!(
        "SELECT key, priority, model, max_open, judge, id FROM run
         WHERE NOT paused AND NOT cancelling AND (model IN ('', ?1, ?2) OR judge <> '' AND judge IN (?1, ?2))
             AND key IN ({ACTIVE})
             AND EXISTS (SELECT 1 FROM tally WHERE tally.run = key AND state IN ('ready', 'delayed') AND n > 0)
         ORDER BY created_ms, id",
    ))?;
    let mut rows = select.query((&query.model, &query.weights_hash))?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(5)?;
        if !query.except.iter().any(|run| run.as_str() == id) {
            let policy =
                RunPolicy { priority: row.get(1)?, model: row.get(2)?, max_open: row.get(3)?, judge: row.get(4)? };
            runs.push((row.get(0)?, policy));
        }
    }
    Ok(runs)
}

fn grant(tx: &Transaction<'_>, mut row: DocumentRow, query: &LeaseQuery, now: u64) -> Result<Option<Record>> {
    let lease = LeaseGrant::new(LeaseId::mint(), query.worker.clone(), now, query.ttl_ms);
    let (id, expires_ms) = (Bytes::from(lease.id), int(lease.expires_ms));
    let Some(leased) = row.envelope.grant(lease) else { return Ok(None) };
    row.update(tx, leased, now)?;
    tx.prepare_cached("INSERT INTO request (worker, request_id, lease, expires_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute((query.worker.as_str(), &query.request_id, id, expires_ms))?;
    row.into_record(tx).map(Some)
}

pub(super) fn renew(tx: &Transaction<'_>, renewals: &[Renewal], ttl_ms: u64, now: u64) -> Result<Renewed> {
    let mut answer = Renewed::default();
    for renewal in renewals {
        let found = row::leased(tx, renewal.lease)?;
        let renewed = found.and_then(|row| Some((row.envelope.renew(renewal, ttl_ms, now)?, row)));
        let Some((envelope, mut row)) = renewed else {
            let last = row::committed(tx, renewal.lease)?;
            let cancelled = last.is_some_and(|row| row.envelope.state == State::Cancelled);
            if cancelled { &mut answer.cancelled } else { &mut answer.lost }.push(renewal.lease);
            continue;
        };
        if run::is_cancelling(tx, &row.run)? {
            answer.cancelled.push(renewal.lease);
            continue;
        }
        row.envelope = envelope;
        match &renewal.checkpoint {
            Some(later) if renewal.from > 0 => {
                match row.checkpoint(tx)?.and_then(|it| it.appended(renewal.from, later)) {
                    Some(whole) => row.set_checkpoint(tx, Some(&whole))?,
                    None => answer.unsaved.push(renewal.lease),
                }
            }
            Some(whole) => row.set_checkpoint(tx, Some(whole))?,
            None => {}
        }
        row.save(tx)?;
    }
    Ok(answer)
}

pub(super) fn lookup(tx: &Transaction<'_>, lease: LeaseId) -> Result<Lookup> {
    if let Some(row) = row::leased(tx, lease)? {
        return Ok(Lookup::Live(Box::new(row.into_record(tx)?)));
    }
    Ok(match row::committed(tx, lease)? {
        Some(row) => Lookup::Committed(Box::new(row.into_record(tx)?)),
        None => Lookup::Stale,
    })
}

pub(super) fn commit(tx: &Transaction<'_>, commit: &Commit, now: u64) -> Result<Committed> {
    let found = match row::leased(tx, commit.lease)? {
        Some(row) => Some(row),
        None => row::committed(tx, commit.lease)?,
    };
    let Some(mut row) = found else { return Ok(Committed::Stale) };
    if row.envelope.live(commit.lease).is_some() && !commit.cancels() && run::is_cancelling(tx, &row.run)? {
        return Ok(Committed::Cancelling);
    }
    let (answer, change) = row.envelope.commit(commit, now);
    if let Some(change) = change {
        row.apply(tx, change, commit.body.as_deref(), commit.checkpoint.as_ref(), now)?;
    }
    Ok(answer)
}

pub(super) fn sweep(tx: &Transaction<'_>, limits: &SweepLimits, now: u64) -> Result<Vec<Swept>> {
    // A row without a lease is for the audit: here it would stand before the others for ever.
    let mut over = row::select(
        tx,
        "WHERE state = 'leased' AND lease IS NOT NULL AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2",
        (int(now), limits.batch),
    )?;
    if let Some(last) = now.checked_sub(limits.no_progress_ms) {
        let room = limits.batch - over.len() as u32;
        over.extend(row::select(
            tx,
            "WHERE state = 'leased' AND lease IS NOT NULL AND progress_ms <= ?1 AND expires_ms > ?2
             ORDER BY progress_ms LIMIT ?3",
            (int(last), int(now), room),
        )?);
    }
    let mut swept = Vec::new();
    for mut row in over {
        let (Some(change), Some(lease)) = (row.envelope.sweep(&limits.of(&row.run), now), row.envelope.lease.clone())
        else {
            continue;
        };
        row.apply(tx, change, None, None, now)?;
        swept.push(Swept { run: row.run, document: row.id, lease, state: row.envelope.state });
    }
    Ok(swept)
}
