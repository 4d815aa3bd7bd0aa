//! Reads what the scripts return.

use std::collections::HashMap;
use std::str::FromStr;

use longhand_proto::{DocumentId, RunId};
use redis::{FromRedisValue, ParsingError, Value};

use super::error::unreadable;
use crate::store::{Counters, LeaseGrant, Record, Result, Run, RunPolicy, Swept};

/// The fields of a document's or a run's HASH; one that is false, empty or 0 is absent.
#[derive(Debug)]
pub(super) struct Fields(HashMap<String, String>);

impl FromRedisValue for Fields {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        HashMap::from_redis_value(value).map(Self)
    }
}

impl Fields {
    fn number<T: FromStr<Err: std::fmt::Display> + Default>(&self, field: &str) -> Result<T> {
        match self.0.get(field) {
            None => Ok(T::default()),
            Some(text) => text.parse().map_err(|error| unreadable(format_args!("{field} {text:?}: {error}"))),
        }
    }

    fn word<T: FromStr<Err: std::fmt::Display>>(&self, field: &str) -> Result<T> {
        let text = self.0.get(field).map_or("", String::as_str);
        text.parse().map_err(|error| unreadable(format_args!("{field} {text:?}: {error}")))
    }

    /// The live lease.
    pub(super) fn grant(&self) -> Result<Option<LeaseGrant>> {
        if !self.0.contains_key("lease") {
            return Ok(None);
        }
        Ok(Some(LeaseGrant {
            id: self.word("lease")?,
            worker: self.word("worker")?,
            granted_ms: self.number("granted_ms")?,
            expires_ms: self.number("expires_ms")?,
            progress: self.number("progress")?,
            progress_ms: self.number("progress_ms")?,
        }))
    }
}

/// Id, envelope, body, checkpoint: what `record` in `document.lua` returns.
pub(super) type RawRecord = (String, Fields, Option<String>, Option<String>);

pub(super) fn record(run: &RunId, (id, fields, body, checkpoint): RawRecord) -> Result<Record> {
    let missing = |what| unreadable(format_args!("document {id} has no {what}"));
    Ok(Record {
        id: document_id(&id)?,
        run: run.clone(),
        state: fields.word("state")?,
        reason: fields.0.get("reason").cloned().unwrap_or_default(),
        version: fields.number("version")?,
        seq: fields.number("seq")?,
        change_seq: fields.number("mark")?,
        changed_ms: fields.number("changed_ms")?,
        open: fields.0.contains_key("open"),
        judge: fields.0.contains_key("judge"),
        due_ms: fields.number("due_ms")?,
        counters: Counters {
            errors: fields.number("errors")?,
            losses: fields.number("losses")?,
            releases: fields.number("releases")?,
        },
        lease: fields.grant()?,
        checkpoint: checkpoint.map(|json| serde_json::from_str(&json)).transpose().map_err(unreadable)?,
        flushed: fields.0.contains_key("flushed"),
        body: body.ok_or_else(|| missing("body"))?,
    })
}

pub(super) fn records(run: &RunId, raw: Vec<RawRecord>) -> Result<Vec<Record>> {
    raw.into_iter().map(|raw| record(run, raw)).collect()
}

/// Document id, state after, envelope before: what `sweep.lua` returns of each.
pub(super) type RawSwept = (String, String, Fields);

pub(super) fn swept(run: &RunId, (id, state, before): RawSwept) -> Result<Swept> {
    Ok(Swept {
        run: run.clone(),
        document: document_id(&id)?,
        lease: before.grant()?.ok_or_else(|| unreadable("a swept document without a lease"))?,
        state: state.parse().map_err(unreadable)?,
    })
}

pub(super) fn document_id(text: &str) -> Result<DocumentId> {
    text.parse().map_err(unreadable)
}

/// The run's HASH; none if it is empty.
pub(super) fn run(id: &RunId, fields: Fields) -> Result<Option<Run>> {
    if fields.0.is_empty() {
        return Ok(None);
    }
    Ok(Some(Run {
        id: id.clone(),
        recipe: fields.word("recipe")?,
        recipe_hash: fields.word("recipe_hash")?,
        seed: fields.number("seed")?,
        created_ms: fields.number("created_ms")?,
        policy: RunPolicy {
            priority: fields.number("priority")?,
            model: fields.word("model")?,
            judge: fields.0.get("judge").cloned().unwrap_or_default(),
            max_open: fields.number("max_open")?,
        },
        paused: fields.0.contains_key("paused"),
        cancelling: fields.0.contains_key("cancelling"),
    }))
}
