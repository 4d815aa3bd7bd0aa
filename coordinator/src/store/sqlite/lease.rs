//! The life of a lease: given, renewed, committed, or swept away.

use longhand_proto::LeaseId;
use rusqlite::{OptionalExtension, Result, Transaction};

use super::row::{self, Bytes, Envelope, int};
use crate::domain::state::State;
use crate::store::share::{Waiting, share};
use crate::store::{
    AttemptEnd, Commit, Committed, Counters, Grant, LeaseQuery, Lookup, Next, Record, Renewal, SweepLimits, Swept,
    Terms, later,
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
    let mut waiting = Vec::with_capacity(runs.len());
    for (run, terms) in &runs {
        wake_delayed(tx, *run, now)?;
        waiting.push(look(tx, *run, terms, query)?);
    }
    let mut leased = Vec::new();
    for ((run, terms), share) in runs.iter().zip(share(&waiting, query.slots as usize)) {
        let mut left = share;
        for judge in pools(terms, query) {
            // The literal state lets the planner take the partial index, which holds the order too.
            let picked = row::select(
                tx,
                "WHERE document.run = ?1 AND state = 'ready' AND document.judge = ?2 ORDER BY open DESC, seq LIMIT ?3",
                (run, judge, left as i64),
            )?;
            left -= picked.len();
            for envelope in picked {
                leased.push(grant(tx, envelope, query, now)?);
            }
        }
    }
    Ok(leased)
}

/// Which of a run's ready documents this worker may take, those for the judge first: they are begun.
fn pools(terms: &Terms, query: &LeaseQuery) -> impl Iterator<Item = bool> {
    let (model, weights_hash) = (&query.model, &query.weights_hash);
    let judges = terms.judges(model, weights_hash).then_some(true);
    judges.into_iter().chain(terms.fits(model, weights_hash).then_some(false))
}

/// What a run has for a worker now.
fn look(tx: &Transaction<'_>, run: i64, terms: &Terms, query: &LeaseQuery) -> Result<Waiting> {
    let mut tally = tx.prepare_cached("SELECT n FROM tally WHERE run = ?1 AND state = ?2")?;
    let mut count = |state: State| {
        let counted = tally.query_row((run, state.as_str()), |row| row::time(row, 0)).optional();
        counted.map(Option::unwrap_or_default)
    };
    let (ready, leased, delayed) = (count(State::Ready)?, count(State::Leased)?, count(State::Delayed)?);
    let for_judge = if terms.judge.is_empty() {
        0
    } else {
        tx.prepare_cached("SELECT count(*) FROM document WHERE run = ?1 AND state = 'ready' AND judge = 1")?
            .query_row([run], |row| row::time(row, 0))?
    };
    let to_write = ready - for_judge;
    let to_write = match u64::from(terms.max_open) {
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
    let ready = pools(terms, query).map(|judge| if judge { for_judge } else { to_write }).sum();
    Ok(Waiting { priority: terms.priority, leased, ready })
}

/// What this request was given before, if it was.
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
        if let Some(envelope) = row::leased(tx, lease.into())? {
            records.push(envelope.fill(tx)?);
        }
    }
    Ok(Some(records))
}

fn wake_delayed(tx: &Transaction<'_>, run: i64, now: u64) -> Result<()> {
    let due = row::select(
        tx,
        "WHERE document.run = ?1 AND state = 'delayed' AND due_ms <= ?2 ORDER BY due_ms LIMIT ?3",
        (run, int(now), DUE_BATCH),
    )?;
    for mut envelope in due {
        envelope.record.state = State::Ready;
        envelope.record.due_ms = 0;
        envelope.change(tx, now)?;
    }
    Ok(())
}

/// Those that may be leased to this worker, oldest first.
fn runs_with_work(tx: &Transaction<'_>, query: &LeaseQuery) -> Result<Vec<(i64, Terms)>> {
    tx.prepare_cached(
        "SELECT key, priority, model, max_open, judge FROM run
         WHERE NOT paused AND (model IN ('', ?1, ?2) OR judge <> '' AND judge IN (?1, ?2))
             AND EXISTS (SELECT 1 FROM tally WHERE tally.run = key AND state IN ('ready', 'delayed') AND n > 0)
         ORDER BY created_ms, id",
    )?
    .query_map((&query.model, &query.weights_hash), |row| {
        Ok((
            row.get(0)?,
            Terms { priority: row.get(1)?, model: row.get(2)?, max_open: row.get(3)?, judge: row.get(4)? },
        ))
    })?
    .collect()
}

fn grant(tx: &Transaction<'_>, mut envelope: Envelope, query: &LeaseQuery, now: u64) -> Result<Record> {
    let id = LeaseId::mint();
    let expires_ms = later(now, query.ttl_ms);
    envelope.record.state = State::Leased;
    envelope.record.open = true;
    envelope.record.lease =
        Some(Grant { id, worker: query.worker.clone(), granted_ms: now, expires_ms, progress: 0, progress_ms: now });
    envelope.change(tx, now)?;
    tx.prepare_cached("INSERT INTO request (worker, request_id, lease, expires_ms) VALUES (?1, ?2, ?3, ?4)")?
        .execute((query.worker.as_str(), &query.request_id, Bytes::from(id), int(expires_ms)))?;
    envelope.fill(tx)
}

pub(super) fn renew(tx: &Transaction<'_>, renewals: &[Renewal], ttl_ms: u64, now: u64) -> Result<Vec<LeaseId>> {
    let mut lost = Vec::new();
    for renewal in renewals {
        let Some(mut envelope) = row::leased(tx, renewal.lease)? else {
            lost.push(renewal.lease);
            continue;
        };
        if let Some(grant) = &mut envelope.record.lease {
            grant.expires_ms = later(now, ttl_ms);
            if renewal.progress > grant.progress {
                grant.progress = renewal.progress;
                grant.progress_ms = now;
            }
        }
        if renewal.checkpoint.is_some() {
            envelope.set_checkpoint(tx, renewal.checkpoint.as_ref())?;
        }
        envelope.save(tx)?;
    }
    Ok(lost)
}

pub(super) fn lookup(tx: &Transaction<'_>, lease: LeaseId) -> Result<Lookup> {
    if let Some(envelope) = row::leased(tx, lease)? {
        return Ok(Lookup::Live(Box::new(envelope.fill(tx)?)));
    }
    Ok(match row::committed(tx, lease)? {
        Some(envelope) => Lookup::Committed(Box::new(envelope.fill(tx)?)),
        None => Lookup::Stale,
    })
}

pub(super) fn commit(tx: &Transaction<'_>, commit: &Commit, now: u64) -> Result<Committed> {
    let Some(mut envelope) = row::leased(tx, commit.lease)? else {
        return Ok(match row::committed(tx, commit.lease)? {
            Some(Envelope { record, next, .. }) => {
                Committed::Repeated(record.lease.filter(|grant| Some(grant.id) == next))
            }
            None => Committed::Stale,
        });
    };
    let Some(ended) = envelope.record.lease.take() else { return Ok(Committed::Stale) };
    envelope.add_attempt(tx, &ended, now, commit.next.attempt_end(), &commit.detail)?;
    envelope.last = Some(commit.lease);
    envelope.next = None;
    if let Some(body) = &commit.body {
        envelope.set_body(tx, body)?;
    }
    if commit.checkpoint.is_some() || commit.next != Next::Release {
        envelope.set_checkpoint(tx, commit.checkpoint.as_ref())?;
    }
    let record = &mut envelope.record;
    match &commit.next {
        Next::Continue { lease } | Next::Judge { lease } => {
            record.judge = matches!(commit.next, Next::Judge { .. });
            record.counters = Counters { releases: record.counters.releases, ..Counters::default() };
            record.state = State::Ready;
            if let Some(id) = *lease {
                record.state = State::Leased;
                record.lease = Some(Grant {
                    id,
                    worker: ended.worker,
                    granted_ms: now,
                    expires_ms: later(now, commit.ttl_ms),
                    progress: 0,
                    progress_ms: now,
                });
                envelope.next = Some(id);
            }
        }
        Next::Retry { delay_ms } => {
            record.counters.errors += 1;
            record.state = State::Delayed;
            record.due_ms = later(now, *delay_ms);
        }
        Next::Release => {
            record.counters.releases += 1;
            record.state = State::Ready;
        }
        Next::End { state, reason } => {
            record.counters = Counters { releases: record.counters.releases, ..Counters::default() };
            record.state = *state;
            record.judge = false;
            record.reason.clone_from(reason);
        }
    }
    envelope.change(tx, now)?;
    Ok(Committed::Done(envelope.record.lease))
}

pub(super) fn sweep(tx: &Transaction<'_>, limits: &SweepLimits, now: u64) -> Result<Vec<Swept>> {
    let mut over = row::select(
        tx,
        "WHERE state = 'leased' AND expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2",
        (int(now), limits.batch),
    )?;
    if let Some(last) = now.checked_sub(limits.no_progress_ms) {
        let room = limits.batch - over.len() as u32;
        over.extend(row::select(
            tx,
            "WHERE state = 'leased' AND progress_ms <= ?1 AND expires_ms > ?2 ORDER BY progress_ms LIMIT ?3",
            (int(last), int(now), room),
        )?);
    }
    let mut swept = Vec::new();
    for mut envelope in over {
        let Some(lease) = envelope.record.lease.take() else { continue };
        envelope.add_attempt(tx, &lease, now, AttemptEnd::Lost, &serde_json::json!({}))?;
        envelope.record.counters.losses += 1;
        envelope.record.state = State::Ready;
        if envelope.record.counters.losses >= limits.max_losses {
            envelope.record.state = State::Failed;
            envelope.record.reason = "poison".into();
            envelope.record.judge = false;
            envelope.set_checkpoint(tx, None)?;
        }
        envelope.change(tx, now)?;
        let Record { run, id: document, state, .. } = envelope.record;
        swept.push(Swept { run, document, lease, state });
    }
    Ok(swept)
}
