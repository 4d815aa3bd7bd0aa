//! Reads what the scripts return.

use std::collections::HashMap;
use std::str::FromStr;

use longhand_proto::{DocumentId, RunId};
use redis::{FromRedisValue, ParsingError, Value};

use super::error::unreadable;
use crate::store::{Counters, Grant, Record, Result, Run, Swept, Terms};

/// A document's HASH; a field that is false, empty or 0 is absent.
#[derive(Debug)]
pub(super) struct Envelope(HashMap<String, String>);

impl FromRedisValue for Envelope {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        HashMap::from_redis_value(value).map(Self)
    }
}

impl Envelope {
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
    pub(super) fn grant(&self) -> Result<Option<Grant>> {
        if !self.0.contains_key("lease") {
            return Ok(None);
        }
        Ok(Some(Grant {
            id: self.word("lease")?,
            worker: self.word("worker")?,
            granted_ms: self.number("granted_ms")?,
            expires_ms: self.number("expires_ms")?,
            progress: self.number("progress")?,
            progress_ms: self.number("progress_ms")?,
        }))
    }
}

/// Id, envelope, body, checkpoint: what `record` in `document.lua` makes.
pub(super) type RawRecord = (String, Envelope, Option<String>, Option<String>);

pub(super) fn record(run: &RunId, (id, envelope, body, checkpoint): RawRecord) -> Result<Record> {
    let lost = |what| unreadable(format_args!("document {id} has no {what}"));
    Ok(Record {
        id: document_id(&id)?,
        run: run.clone(),
        state: envelope.word("state")?,
        reason: envelope.0.get("reason").cloned().unwrap_or_default(),
        version: envelope.number("version")?,
        seq: envelope.number("seq")?,
        mark: envelope.number("mark")?,
        changed_ms: envelope.number("changed_ms")?,
        open: envelope.0.contains_key("open"),
        judge: envelope.0.contains_key("judge"),
        due_ms: envelope.number("due_ms")?,
        counters: Counters {
            errors: envelope.number("errors")?,
            losses: envelope.number("losses")?,
            releases: envelope.number("releases")?,
        },
        lease: envelope.grant()?,
        checkpoint: checkpoint.map(|json| serde_json::from_str(&json)).transpose().map_err(unreadable)?,
        flushed: envelope.0.contains_key("flushed"),
        body: body.ok_or_else(|| lost("body"))?,
    })
}

pub(super) fn records(run: &RunId, raw: Vec<RawRecord>) -> Result<Vec<Record>> {
    raw.into_iter().map(|raw| record(run, raw)).collect()
}

/// Document id, state after, envelope before: what `sweep.lua` returns of each.
pub(super) type RawSwept = (String, String, Envelope);

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
pub(super) fn run(id: &RunId, envelope: Envelope) -> Result<Option<Run>> {
    if envelope.0.is_empty() {
        return Ok(None);
    }
    Ok(Some(Run {
        id: id.clone(),
        recipe: envelope.word("recipe")?,
        recipe_hash: envelope.word("recipe_hash")?,
        seed: envelope.number("seed")?,
        created_ms: envelope.number("created_ms")?,
        terms: Terms {
            priority: envelope.number("priority")?,
            model: envelope.word("model")?,
            judge: envelope.0.get("judge").cloned().unwrap_or_default(),
            max_open: envelope.number("max_open")?,
        },
        paused: envelope.0.contains_key("paused"),
    }))
}
