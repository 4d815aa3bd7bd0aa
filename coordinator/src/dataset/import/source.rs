//! One row of a data set to one row of instructions.

use std::path::Path;

use longhand_proto::task::Message;
use serde_json::{Map, Value, json};

use super::format::{Format, Shape};
use super::options::{Options, Turn};
use crate::dataset::input::field::{RowError, present, row_error, stated as stated_value, text_of, wrong_type};
use crate::dataset::input::{Row, Text, row, turns};

pub(super) use crate::dataset::input::object;

/// Reads the instruction out of `object`.
pub(super) fn row(
    object: &Map<String, Value>,
    shape: &Shape,
    options: &Options,
    path: &Path,
    line: u64,
    dropped: &mut Dropped,
) -> Result<Row, RowError> {
    let (mut messages, turn) = instruction(object, &shape.0, options)?;
    let earlier = beside(object, &messages, dropped);
    if options.history {
        messages.splice(..0, earlier);
    } else {
        for message in earlier {
            dropped.insert(if message.role == "system" { "system" } else { "history" });
        }
    }
    row::size(object, &messages)?;
    let context = row::context(object).unwrap_or_else(|_| {
        dropped.insert("context");
        Vec::new()
    });
    let mut hash = blake3::Hasher::new_derive_key("longhand imported instruction v1");
    for message in &messages {
        hash.update(message.role.as_bytes()).update(&[0]).update(message.content.as_bytes()).update(&[0]);
    }
    for text in &context {
        hash.update(text.id.as_bytes()).update(&[0]).update(text.text.as_bytes()).update(&[0]);
    }
    let id = hash.finalize().to_hex()[..32].to_owned();

    let stated = present(object, "language").and_then(Value::as_str);
    let language = stated.and_then(row::known_language);
    // What others keep in these columns may be anything.
    let stated_length = stated_value(object, "length");
    let length = stated_length.and_then(row::whole_words);
    if stated_length.is_some() && length.is_none() {
        dropped.insert("length");
    }
    let mut metadata = row::metadata(object.get("metadata").cloned()).unwrap_or_else(|_| {
        dropped.insert("metadata");
        Map::new()
    });
    if let Some(moderation) = moderation(object) {
        metadata.insert("moderation".into(), moderation);
    }
    metadata.insert("source".into(), source(object, &shape.0, options, path, line, turn, stated));

    // Names the content, so the same instruction from two places is one.
    Ok(Row { id: Some(id), text: Text::of(&messages), language, length, context, metadata })
}

/// Columns of one row that say something and were not kept.
pub(super) type Dropped = std::collections::BTreeSet<&'static str>;

/// What columns beside the text say of the conversation before it: `system`, and Alpaca's `history` of pairs.
fn beside(object: &Map<String, Value>, messages: &[Message], dropped: &mut Dropped) -> Vec<Message> {
    let mut earlier = Vec::new();
    let mut add = |role: &str, content: &str| {
        if !content.trim().is_empty() {
            earlier.push(Message { role: role.into(), content: content.into() });
        }
    };
    match present(object, "system").or_else(|| present(object, "system_prompt")) {
        // The turns say it already.
        Some(_) if messages.iter().any(|message| message.role == "system") => {}
        Some(Value::String(system)) => add("system", system),
        Some(_) => {
            dropped.insert("system");
        }
        None => {}
    }
    let pairs = match present(object, "history") {
        Some(Value::Array(pairs)) => pairs.as_slice(),
        Some(Value::String(text)) if text.trim().is_empty() => &[],
        Some(_) => {
            dropped.insert("history");
            &[]
        }
        None => &[],
    };
    for pair in pairs {
        let texts = pair.as_array().map(|pair| pair.iter().map(Value::as_str).collect::<Vec<_>>());
        let Some([Some(question), Some(answer)]) = texts.as_deref() else {
            dropped.insert("history");
            continue;
        };
        add("user", question);
        add("assistant", answer);
    }
    earlier
}

/// The turns to keep, and the number of the chosen one among the user's.
fn instruction(
    object: &Map<String, Value>,
    format: &Format,
    options: &Options,
) -> Result<(Vec<Message>, usize), RowError> {
    let column = format.column();
    let missing = || row_error(column, "is missing", "fill it in, or leave the row out");
    let value = present(object, column).ok_or_else(missing)?;
    let alone = |content: String| (vec![Message { role: "user".into(), content }], 1);
    match (format, value) {
        (Format::Openai, Value::Object(body)) => match present(body, "messages") {
            Some(turns) => chosen("body.messages", turns, options),
            None => Err(row_error("body.messages", "is missing", "an OpenAI batch line holds its turns there")),
        },
        (Format::Prompt | Format::Alpaca, value) if turns::are(value) => chosen(column, value, options),
        (Format::Openai, other) => Err(wrong_type(column, other, "an object with `messages`")),
        (Format::Alpaca, value) => {
            let mut text = text_of(column, value)?;
            if let Some(input) =
                present(object, "input").and_then(Value::as_str).filter(|input| !input.trim().is_empty())
            {
                text = format!("{}\n\n{}", text.trim_end(), input.trim());
            }
            Ok(alone(text))
        }
        (Format::Prompt, value) | (Format::Field(_), value @ Value::String(_)) => Ok(alone(text_of(column, value)?)),
        (Format::Wildchat | Format::Sharegpt | Format::Messages | Format::Field(_), turns) => {
            chosen(column, turns, options)
        }
    }
}

/// Only the turns that are kept are looked at closely: an empty answer behind them harms nobody.
fn chosen(key: &str, value: &Value, options: &Options) -> Result<(Vec<Message>, usize), RowError> {
    let turns = turns::of(key, value)?;
    let of_user = turns::of_user(&turns)?;
    let number = match options.turn {
        Turn::First => 1,
        Turn::Last => of_user.len(),
        Turn::Nth(number) => number,
    };
    let Some(&at) = number.checked_sub(1).and_then(|index| of_user.get(index)) else {
        if of_user.is_empty() {
            return Err(turns::no_user(key));
        }
        let problem = format!("has {} turns with the role `user`; there is no turn {number}", of_user.len());
        return Err(row_error(key, problem, "choose another --turn, or leave the row out"));
    };
    let from = if options.history { 0 } else { at };
    let messages = turns[from..=at].iter().map(turns::Turn::message).collect::<Result<_, _>>()?;
    Ok((messages, number))
}

/// Where a row came from.
fn source(
    object: &Map<String, Value>,
    format: &Format,
    options: &Options,
    path: &Path,
    line: u64,
    turn: usize,
    language: Option<&str>,
) -> Value {
    let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut source = json!({
        "name": options.source.as_deref().unwrap_or(&file),
        "file": file,
        "row": line,
        "format": format.name(),
        "turn": turn,
    });
    let own = |keys: &[&str]| keys.iter().find_map(|key| present(object, key)).cloned();
    let licence = own(&["licence", "license"]).or_else(|| options.licence.clone().map(Value::String));
    let id = own(&["id", "custom_id", "conversation_hash", "conversation_id"]);
    for (key, value) in [("id", id), ("licence", licence), ("language", language.map(Value::from))] {
        if let Some(value) = value {
            source[key] = value;
        }
    }
    source
}

/// What the data set's own moderation says, if it says anything: WildChat's `toxic`, `redacted` and the categories that
/// were flagged for any turn.
fn moderation(object: &Map<String, Value>) -> Option<Value> {
    let mut out = Map::new();
    for key in ["toxic", "redacted"] {
        if let Some(Value::Bool(value)) = present(object, key) {
            out.insert(key.into(), Value::Bool(*value));
        }
    }
    if let Some(Value::Array(turns)) = present(object, "openai_moderation") {
        let of_turn = |turn: &Value| match turn.get("categories") {
            Some(Value::Object(categories)) => {
                categories.iter().filter(|(_, on)| **on == Value::Bool(true)).map(|(name, _)| name.clone()).collect()
            }
            Some(_) | None => Vec::new(),
        };
        let flagged: std::collections::BTreeSet<String> = turns.iter().flat_map(of_turn).collect();
        out.insert("flagged".into(), flagged.into_iter().collect());
    }
    (!out.is_empty()).then_some(Value::Object(out))
}
