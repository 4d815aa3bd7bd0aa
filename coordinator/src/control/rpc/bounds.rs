//! Bounds on what workers say. It is stored, shown and exported, and somebody who stole a token says anything.

use longhand_proto::v1;
use tonic::Status;

/// Most bytes of a name: of a model, a version, a device.
const MAX_NAME: usize = 512;
/// Most characters of the problem of an engine.
const MAX_PROBLEM: usize = 500;
/// Most bytes of one text: some times what the longest section has. All sections of a document fit into one message.
const MAX_TEXT: usize = 256 << 10;
/// Most tokens of an unfinished text, and places where its end was taken back.
const MAX_TOKENS: usize = 256 << 10;
const MAX_BACKTRACKS: usize = 16 << 10;

fn check(field: &str, length: usize, limit: usize) -> Result<(), Status> {
    if length > limit {
        return Err(Status::invalid_argument(format!(
            "field `{field}` is too long: it has {length}, the limit is {limit}"
        )));
    }
    Ok(())
}

/// A name of any kind.
pub(super) fn name(field: &str, text: &str) -> Result<(), Status> {
    check(field, text.len(), MAX_NAME)
}

/// The model of a worker.
pub(super) fn model(model: &v1::ModelInfo) -> Result<(), Status> {
    let v1::ModelInfo { name: model, weights_hash, tokenizer_hash, licence, engine, device, .. } = model;
    let names = [model, weights_hash, tokenizer_hash, licence, engine, device];
    names.into_iter().try_for_each(|text| name("model", text))
}

/// The status of a worker. What its engine complains of may be the answer of a server, and is cut.
pub(super) fn vitals(vitals: &mut v1::Vitals) -> Result<(), Status> {
    if let Some((end, _)) = vitals.problem.char_indices().nth(MAX_PROBLEM) {
        vitals.problem.truncate(end);
    }
    name("version", &vitals.version)?;
    if !vitals.tokens_per_second.is_finite() || vitals.tokens_per_second < 0.0 {
        return Err(Status::invalid_argument("field `tokens_per_second` is not a speed"));
    }
    vitals.model.as_ref().map_or(Ok(()), model)
}

/// An unfinished text, after `from` tokens that are stored.
pub(super) fn checkpoint(checkpoint: &v1::Checkpoint, from: u32) -> Result<(), Status> {
    check("tokens", checkpoint.tokens.len().saturating_add(from as usize), MAX_TOKENS)?;
    check("backtracks", checkpoint.backtracks.len(), MAX_BACKTRACKS)?;
    name("tokenizer_hash", &checkpoint.tokenizer_hash)
}

/// A finished text.
pub(super) fn output(output: &v1::Output) -> Result<(), Status> {
    check("text", output.text.len(), MAX_TEXT)
}
