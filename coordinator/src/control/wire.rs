//! Conversions between the messages of the operator protocol and the coordinator's types, for both sides: one writer and
//! one reader for each.

use longhand_proto::wire::{FORMAT_VERSION, check_version, from_json, to_json};
use longhand_proto::{MAX_MESSAGE_BYTES, WireError, v1};
use serde::Serialize;
use serde_json::Value;

use super::stall::Stall;
use crate::domain::document::Document;
use crate::domain::instruction::{BadRow, Instruction};
use crate::store::{Attempt, Counts, EndedDocument, Record, Revision, Run, RunPolicy};

const INSTRUCTION: &str = "row.instruction";
const BODY: &str = "document.body";
const ATTEMPTS: &str = "document.attempts";
const HISTORY: &str = "document.history";
const ENDED: &str = "load.documents";
const FIGURES: &str = "figures.json";
/// Largest body of a document in a message: what else belongs to it takes far less than the rest.
const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES - (1 << 20);

/// An input row as a message.
///
/// # Errors
/// The instruction has no JSON form.
pub fn row_to_wire(row: Result<Instruction, BadRow>) -> Result<v1::Row, WireError> {
    let kind = match row {
        Ok(instruction) => v1::row::Kind::Instruction(to_json(INSTRUCTION, &instruction)?),
        Err(BadRow { file, line, key, problem, remedy, content_hash }) => {
            let file = file.display().to_string();
            v1::row::Kind::Bad(v1::BadRow { file, line, key, problem, remedy, content_hash })
        }
    };
    Ok(v1::Row { kind: Some(kind), format_version: FORMAT_VERSION })
}

/// Bytes of the instruction in a row.
pub fn row_bytes(row: &v1::Row) -> usize {
    match &row.kind {
        Some(v1::row::Kind::Instruction(json)) => json.len(),
        Some(v1::row::Kind::Bad(_)) | None => 0,
    }
}

/// The input row in a message.
///
/// # Errors
/// The message is incomplete, or its instruction cannot be read.
pub fn row_from_wire(row: v1::Row) -> Result<Result<Instruction, BadRow>, WireError> {
    match row.kind.ok_or(WireError::Missing("row.kind"))? {
        v1::row::Kind::Instruction(json) => from_json(INSTRUCTION, row.format_version, &json).map(Ok),
        v1::row::Kind::Bad(v1::BadRow { file, line, key, problem, remedy, content_hash }) => {
            Ok(Err(BadRow { file: file.into(), line, key, problem, remedy, content_hash }))
        }
    }
}

/// A run with the number of its documents by state, and why it makes no progress.
pub fn run_to_wire(run: Run, counts: Counts, stall: Option<&Stall>) -> v1::Run {
    let stall = stall.map(|stall| v1::Stall { cause: stall.label().into(), message: stall.message(&run.id) });
    let Run { id, recipe, recipe_hash, seed, created_ms, policy, paused, cancelling } = run;
    let RunPolicy { priority, model, judge, max_open } = policy;
    let Counts { ready, leased, delayed, accepted, rejected, failed, cancelled } = counts;
    v1::Run {
        id: id.into(),
        recipe,
        recipe_hash,
        seed,
        created_ms,
        terms: Some(v1::Terms { priority, model, max_open, judge }),
        paused,
        counts: Some(v1::Counts { ready, leased, delayed, accepted, rejected, failed, cancelled }),
        stall,
        cancelling,
    }
}

/// The run in a message.
///
/// # Errors
/// Its id is invalid.
pub fn run_from_wire(run: v1::Run) -> Result<Run, WireError> {
    let v1::Terms { priority, model, max_open, judge } = run.terms.unwrap_or_default();
    Ok(Run {
        id: run.id.parse()?,
        recipe: run.recipe,
        recipe_hash: run.recipe_hash,
        seed: run.seed,
        created_ms: run.created_ms,
        policy: RunPolicy { priority, model, judge, max_open },
        paused: run.paused,
        cancelling: run.cancelling,
    })
}

/// A document that ended as JSON.
///
/// # Errors
/// It has no JSON form.
pub fn ended_to_wire(document: &EndedDocument) -> Result<String, WireError> {
    to_json(ENDED, document)
}

/// The documents of a request to load a run.
///
/// # Errors
/// One cannot be read.
pub fn ended_from_wire(documents: &[String], format_version: u32) -> Result<Vec<EndedDocument>, WireError> {
    documents.iter().map(|json| from_json(ENDED, format_version, json)).collect()
}

/// A document as a listing shows it: without body, attempts and history. Lease ids are left out: they are secrets of the
/// workers that hold them.
pub fn document_to_wire(record: &Record) -> v1::Document {
    let document: Option<Document> = record.document().ok();
    let sections = document.as_ref().map_or(&[][..], Document::sections);
    v1::Document {
        id: record.id.to_string(),
        run: record.run.to_string(),
        state: record.state.as_str().into(),
        reason: record.reason.clone(),
        version: record.version,
        seq: record.seq,
        errors: record.counters.errors,
        losses: record.counters.losses,
        releases: record.counters.releases,
        worker: record.lease.as_ref().map(|lease| lease.worker.to_string()).unwrap_or_default(),
        checkpoint_tokens: record.checkpoint.as_ref().map_or(0, |it| it.tokens.len() as u32),
        flushed: record.flushed,
        open: record.open,
        due_ms: record.due_ms,
        body: String::new(),
        attempts: Vec::new(),
        history: Vec::new(),
        left_out: 0,
        instruction_id: document.as_ref().and_then(|it| it.instruction.id.clone()).unwrap_or_default(),
        sections: sections.len() as u32,
        steps: document.as_ref().and_then(Document::plan).map_or(0, |plan| plan.steps.len() as u32),
        words: sections.iter().map(|section| u64::from(section.words)).sum(),
        format_version: FORMAT_VERSION,
    }
}

/// Adds the body and the attempts to a document; of the attempts the latest, if not all fit into `max_bytes` with it. In place of
/// a body that no message has room for there is a string that says so: the document cannot be read, and all others can.
///
/// # Errors
/// An attempt has no JSON form.
pub fn add_body_and_attempts(
    document: &mut v1::Document,
    body: String,
    attempts: &[Attempt],
    max_bytes: usize,
) -> Result<(), WireError> {
    document.body = match body.len() {
        0..=MAX_BODY_BYTES => body,
        bytes => serde_json::json!(format!("its {bytes} bytes are more than a message has room for")).to_string(),
    };
    let (attempts, left_out) = latest(ATTEMPTS, attempts, max_bytes.saturating_sub(bytes(document)))?;
    document.attempts = attempts;
    document.left_out += left_out;
    Ok(())
}

/// Adds the history to a document; the latest revisions, if not all fit into `max_bytes` with the rest.
///
/// # Errors
/// A revision has no JSON form.
pub fn add_history(document: &mut v1::Document, history: &[Revision], max_bytes: usize) -> Result<(), WireError> {
    let (history, left_out) = latest(HISTORY, history, max_bytes.saturating_sub(bytes(document)))?;
    document.history = history;
    document.left_out += left_out;
    Ok(())
}

/// Bytes of a document's JSON fields.
pub fn bytes(document: &v1::Document) -> usize {
    document.body.len() + document.attempts.iter().chain(&document.history).map(String::len).sum::<usize>()
}

/// The last of these entries as JSON, in their order, as many as fit into `room` bytes; and how many are left out.
fn latest<T: Serialize>(field: &'static str, entries: &[T], mut room: usize) -> Result<(Vec<String>, u32), WireError> {
    let mut kept = Vec::new();
    for entry in entries.iter().rev() {
        let json = to_json(field, entry)?;
        let Some(left) = room.checked_sub(json.len()) else { break };
        room = left;
        kept.push(json);
    }
    kept.reverse();
    let left_out = (entries.len() - kept.len()) as u32;
    Ok((kept, left_out))
}

/// The body of a document.
///
/// # Errors
/// It cannot be read.
pub fn body_from_wire(document: &v1::Document) -> Result<Document, WireError> {
    from_json(BODY, document.format_version, &document.body)
}

/// The body of a document as unparsed JSON, for display; a string if it is no JSON.
///
/// # Errors
/// Its format is unknown.
pub fn raw_body_from_wire(document: &v1::Document) -> Result<Value, WireError> {
    check_version(BODY, document.format_version)?;
    Ok(serde_json::from_str(&document.body).unwrap_or_else(|_| Value::String(document.body.clone())))
}

/// The attempts of a document, oldest first.
///
/// # Errors
/// One cannot be read.
pub fn attempts_from_wire(document: &v1::Document) -> Result<Vec<Attempt>, WireError> {
    document.attempts.iter().map(|json| from_json(ATTEMPTS, document.format_version, json)).collect()
}

/// The revisions of a document before each requeue, oldest first.
///
/// # Errors
/// One cannot be read.
pub fn history_from_wire(document: &v1::Document) -> Result<Vec<Revision>, WireError> {
    document.history.iter().map(|json| from_json(HISTORY, document.format_version, json)).collect()
}

/// Statistics of a run, for display.
///
/// # Errors
/// They have no JSON form.
pub fn figures_to_wire(figures: &Value) -> Result<v1::Figures, WireError> {
    Ok(v1::Figures { json: to_json(FIGURES, figures)?, format_version: FORMAT_VERSION })
}

/// Statistics of a run, for display.
///
/// # Errors
/// They cannot be read.
pub fn figures_from_wire(figures: &v1::Figures) -> Result<Value, WireError> {
    from_json(FIGURES, figures.format_version, &figures.json)
}

#[cfg(test)]
mod tests {
    use longhand_proto::task::Message;

    use super::*;
    use crate::domain::language::Language;

    fn instruction() -> Instruction {
        Instruction {
            id: Some("row-1".into()),
            messages: vec![Message { role: "user".into(), content: "Write about harbours.".into() }],
            language: Language::En,
            required_words: Some(1_500),
            context: Vec::new(),
            metadata: serde_json::Map::new(),
            line: 1,
        }
    }

    #[test]
    fn a_row_round_trips_and_one_of_an_older_peer_is_read() {
        let bad = BadRow {
            file: "in.jsonl".into(),
            line: 9,
            key: "length".into(),
            problem: "invalid length".into(),
            remedy: "write a number".into(),
            content_hash: "f00".into(),
        };
        for row in [Ok(instruction()), Err(bad)] {
            let wire = row_to_wire(row.clone()).unwrap();
            assert_eq!(wire.format_version, FORMAT_VERSION);
            assert_eq!(row_from_wire(v1::Row { format_version: 0, ..wire.clone() }).unwrap(), row);
            assert_eq!(row_from_wire(wire).unwrap(), row);
        }
    }

    #[test]
    fn a_row_of_an_unknown_format_is_rejected_by_name() {
        let wire = v1::Row { format_version: 7, ..row_to_wire(Ok(instruction())).unwrap() };
        let error = row_from_wire(wire).unwrap_err().to_string();
        assert!(error.contains("`row.instruction` has format version 7"), "{error}");
    }

    #[test]
    fn a_body_that_no_message_has_room_for_costs_only_itself() {
        let with = |bytes: usize| {
            let mut document = v1::Document::default();
            add_body_and_attempts(&mut document, "x".repeat(bytes), &[], 100).unwrap();
            document
        };
        assert_eq!(with(MAX_BODY_BYTES).body.len(), MAX_BODY_BYTES);
        let document = with(MAX_BODY_BYTES + 1);
        assert!(document.body.contains("more than a message has room for"), "{}", document.body);
        let error = body_from_wire(&document).unwrap_err().to_string();
        assert!(error.contains("15728641 bytes"), "the reason reaches whoever reads it: {error}");
    }

    #[test]
    fn of_entries_that_do_not_fit_the_latest_are_kept() {
        let entries = ["first", "second", "third"];
        let kept = |room| latest(ATTEMPTS, &entries, room).unwrap();
        assert_eq!(kept(16), (vec![r#""second""#.to_owned(), r#""third""#.to_owned()], 1));
        assert_eq!(kept(6), (Vec::new(), 3));
        assert_eq!(kept(100).1, 0);
    }
}
