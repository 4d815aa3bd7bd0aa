//! What a step is called with, for the store's own calls; and the steps as bare commands, for measurements that leave
//! everything else out.

use longhand_proto::{LeaseId, RunId};
use redis::{Cmd, RedisWrite, Script, ToRedisArgs};

use super::client::key;
use super::{MAX_DELAY_MS, encode, step};
use crate::store::{Commit, LeaseQuery, Next, Result};

/// The scripts behind [`lease`] and [`commit`], to be loaded before.
pub fn scripts() -> [&'static Script; 2] {
    [&step::LEASE, &step::COMMIT]
}

/// Leases at most as many documents as there are fresh ids.
pub fn lease(run: &RunId, query: &LeaseQuery, fresh: &[LeaseId]) -> Cmd {
    bare(&step::LEASE, run, LeaseArgs { query, fresh })
}

/// # Errors
/// The checkpoint cannot be written as JSON.
pub fn commit(run: &RunId, commit: &Commit) -> Result<Cmd> {
    Ok(bare(&step::COMMIT, run, CommitArgs::of(commit)?))
}

fn bare(script: &Script, run: &RunId, args: impl ToRedisArgs) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(script.get_hash()).arg(1).arg(key(run, "run")).arg(0).arg(args);
    call
}

/// Arguments of `lease.lua` after the clock offset.
pub(super) struct LeaseArgs<'a> {
    pub(super) query: &'a LeaseQuery,
    pub(super) fresh: &'a [LeaseId],
}

impl ToRedisArgs for LeaseArgs<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let LeaseQuery { worker, request_id, slots: _, ttl_ms, model, weights_hash } = self.query;
        for word in [worker.as_str(), request_id] {
            word.write_redis_args(out);
        }
        (*ttl_ms).min(MAX_DELAY_MS).write_redis_args(out);
        for word in [model, weights_hash] {
            word.write_redis_args(out);
        }
        for lease in self.fresh {
            out.write_arg_fmt(lease);
        }
    }

    fn num_of_args(&self) -> usize {
        5 + self.fresh.len()
    }
}

/// Arguments of `commit.lua` after the clock offset.
pub(super) struct CommitArgs<'a> {
    commit: &'a Commit,
    checkpoint: String,
}

impl<'a> CommitArgs<'a> {
    pub(super) fn of(commit: &'a Commit) -> Result<Self> {
        Ok(Self { commit, checkpoint: encode(commit.checkpoint.as_ref())? })
    }
}

impl ToRedisArgs for CommitArgs<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let Commit { lease, body, checkpoint: _, next, detail, ttl_ms } = self.commit;
        let (kind, next_lease, delay_ms, state, reason) = match next {
            Next::Continue { lease } => ("continue", *lease, 0, "", ""),
            Next::Judge { lease } => ("judge", *lease, 0, "", ""),
            Next::Retry { delay_ms } => ("retry", None, *delay_ms, "", ""),
            Next::Release => ("release", None, 0, "", ""),
            Next::End { state, reason } => ("end", None, 0, state.as_str(), reason.as_str()),
        };
        out.write_arg_fmt(lease);
        kind.write_redis_args(out);
        match next_lease {
            Some(lease) => out.write_arg_fmt(lease),
            None => out.write_arg(b""),
        }
        delay_ms.min(MAX_DELAY_MS).write_redis_args(out);
        state.write_redis_args(out);
        reason.write_redis_args(out);
        (*ttl_ms).min(MAX_DELAY_MS).write_redis_args(out);
        next.attempt_end().as_str().write_redis_args(out);
        out.write_arg_fmt(detail);
        u8::from(body.is_some()).write_redis_args(out);
        body.as_deref().unwrap_or_default().write_redis_args(out);
        self.checkpoint.write_redis_args(out);
    }

    fn num_of_args(&self) -> usize {
        12
    }
}
