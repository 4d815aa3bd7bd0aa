//! The atomic steps: one Lua file each, behind the functions that all of them share; and their arguments. [`lease`] and
//! [`commit`] are the same steps as bare commands, for benchmarks that leave everything else out.

use std::sync::LazyLock;

use longhand_proto::task::Checkpoint;
use longhand_proto::{LeaseId, RunId};
use redis::{Cmd, RedisWrite, Script, ToRedisArgs};

use super::client::key;
use crate::store::record::LAST_MS;
use crate::store::{Commit, LeaseQuery, Next, Result, StoreError};

/// Half of what Lua counts exactly, so that a time plus a delay stays exact.
pub(super) const MAX_DELAY_MS: u64 = LAST_MS / 2;

/// A script and its flags: one that writes is refused as a whole when the server has no memory or no disk, so it never
/// stops half-way.
macro_rules! scripts {
    ($($name:ident = $flags:literal $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!("#!lua", $flags, "\n", include_str!("document.lua"), "\n", include_str!($file)))
        });)*
    };
}

scripts! {
    CREATE_RUN = "" "create_run.lua";
    SUBMIT = "" "submit.lua";
    LOAD = "" "load.lua";
    DELETE = "" "delete.lua";
    PAUSE = "" "pause.lua";
    CANCEL = "" "cancel.lua";
    DEMAND = "" "demand.lua";
    LEASE = "" "lease.lua";
    RENEW = "" "renew.lua";
    LOOKUP = " flags=no-writes" "lookup.lua";
    COMMIT = "" "commit.lua";
    SWEEP = "" "sweep.lua";
    SWAP = "" "swap.lua";
    GET = " flags=no-writes" "get.lua";
    LIST = " flags=no-writes" "list.lua";
    COUNTS = " flags=no-writes" "counts.lua";
    HEARTBEAT = "" "heartbeat.lua";
    WORKERS = " flags=no-writes" "workers.lua";
    DRAIN = "" "drain.lua";
    MARK_FLUSHED = "" "mark_flushed.lua";
    AUDIT_DOCUMENTS = "" "audit_documents.lua";
    AUDIT_INDEX = "" "audit_index.lua";
    AUDIT_LEASES = "" "audit_leases.lua";
}

/// A value as JSON.
pub(super) fn encode(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Other(format!("a value cannot be written as JSON: {error}")))
}

/// A checkpoint as the scripts take it: JSON, empty for none.
pub(super) fn encode_checkpoint(checkpoint: Option<&Checkpoint>) -> Result<String> {
    checkpoint.map_or_else(|| Ok(String::new()), encode)
}

/// A checkpoint as `renew.lua` takes it: its tokens, and how its JSON goes on after them. Empty for none.
pub(super) fn encode_tokens(checkpoint: Option<&Checkpoint>) -> Result<(String, String)> {
    let json = encode_checkpoint(checkpoint)?;
    let (head, rest) = json.split_at(json.find(']').unwrap_or(0));
    Ok((head.trim_start_matches("{\"tokens\":[").to_owned(), rest.to_owned()))
}

/// The scripts that [`lease`] and [`commit`] call: load them into the server first.
pub fn preload() -> [&'static Script; 2] {
    [&LEASE, &COMMIT]
}

/// The bare command that leases at most as many documents as there are fresh ids.
pub fn lease(run: &RunId, query: &LeaseQuery, fresh: &[LeaseId]) -> Cmd {
    evalsha(&LEASE, run, LeaseArgs { query, fresh })
}

/// The bare command that ends an attempt.
///
/// # Errors
/// The checkpoint cannot be written as JSON.
pub fn commit(run: &RunId, commit: &Commit) -> Result<Cmd> {
    Ok(evalsha(&COMMIT, run, CommitArgs::of(commit)?))
}

fn evalsha(script: &Script, run: &RunId, args: impl ToRedisArgs) -> Cmd {
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
        let LeaseQuery { worker, request_id, slots: _, ttl_ms, model, weights_hash, except: _ } = self.query;
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
        Ok(Self { commit, checkpoint: encode_checkpoint(commit.checkpoint.as_ref())? })
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
