//! One JSON object to one instruction.

use std::ops::RangeInclusive;

use longhand_proto::task::Message;
use serde_json::{Map, Value};

use super::field::{OPTIONAL_KEYS, RowError, is_blank, present, quoted, row_error, stated, text_of, wrong_type};
use super::object::{nested, object};
use super::turns;
use crate::domain::instruction::{Context, Instruction};
use crate::domain::language::{self, Language};
use crate::text::length;

/// Longest instruction text, all turns together. Prompts repeat it in every task, so more than that is a mistake.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Keys that may hold the text, in the order in which they are looked for.
pub(super) const TEXT_KEYS: [&str; 4] = ["prompt", "instruction", "messages", "body"];
/// What `length` may ask for, in words.
pub const LENGTH_RANGE: RangeInclusive<u64> = 10..=1_000_000;

/// Whether a row's `key` means something here.
pub(crate) fn is_read(key: &str) -> bool {
    TEXT_KEYS.contains(&key) || OPTIONAL_KEYS.contains(&key)
}

/// Reads one line of JSON.
pub(crate) fn parse(bytes: &[u8], line: u64) -> Result<Instruction, RowError> {
    instruction(object(bytes, is_read)?, line)
}

/// The instruction of a text alone, as a row with nothing but a `prompt`.
///
/// # Errors
/// The text is empty or too long.
pub fn of_text(text: &str) -> Result<Instruction, String> {
    let row = Map::from_iter([("prompt".to_owned(), Value::from(text))]);
    instruction(row, 1).map_err(|error| format!("the instruction {}; {}", error.problem, error.remedy))
}

/// The instruction, and whether the row states its language.
pub(crate) fn parse_stated(bytes: &[u8], line: u64) -> Result<(Instruction, bool), RowError> {
    let row = object(bytes, is_read)?;
    let says = stated(&row, "language").is_some();
    Ok((instruction(row, line)?, says))
}

/// A column of Parquet has one type, so an exported corpus holds the JSON text of the object there.
pub(crate) fn metadata(value: Option<Value>) -> Result<Map<String, Value>, RowError> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(metadata)) => Ok(metadata),
        Some(Value::String(text)) if is_blank(&text) => Ok(Map::new()),
        Some(Value::String(text)) => nested(&text)
            .ok_or_else(|| row_error("metadata", "is a string", "write an object, or the JSON text of one")),
        Some(other) => Err(wrong_type("metadata", &other, "an object")),
    }
}

fn instruction(mut row: Map<String, Value>, line: u64) -> Result<Instruction, RowError> {
    let messages = messages(&row)?;
    size(&row, &messages)?;
    let request = messages.last().map_or("", |message| message.content.as_str());
    let language = match stated(&row, "language") {
        None => language::detect(request),
        Some(Value::String(name)) => language_named(name)?,
        Some(other) => return Err(wrong_type("language", other, "a string, `en` or `zh`")),
    };
    let required_words = match stated(&row, "length") {
        None => length::required(request),
        Some(value) => Some(stated_length(value)?),
    };
    let id = match stated(&row, "id").map(|id| ("id", id)).or(stated(&row, "custom_id").map(|id| ("custom_id", id))) {
        None => None,
        Some((_, Value::String(id))) => Some(id.clone()),
        Some((_, Value::Number(id))) => Some(id.to_string()),
        Some((key, other)) => return Err(wrong_type(key, other, "a string or a number")),
    };
    let context = context(&row)?;
    let metadata = metadata(row.remove("metadata"))?;
    Ok(Instruction { id, messages, language, required_words, context, metadata, line })
}

/// Refuses a text that is too long.
pub(crate) fn size(row: &Map<String, Value>, messages: &[Message]) -> Result<(), RowError> {
    let size: usize = messages.iter().map(|message| message.content.len()).sum();
    if size > MAX_TEXT_BYTES {
        let key = ["prompt", "instruction", "messages"].into_iter().find(|key| row.contains_key(*key));
        return Err(row_error(
            key.unwrap_or("body.messages"),
            format!("a text of {size} bytes; the limit is {MAX_TEXT_BYTES}"),
            "shorten it, or move material to draw on into `context`",
        ));
    }
    Ok(())
}

fn messages(row: &Map<String, Value>) -> Result<Vec<Message>, RowError> {
    if let Some(prompt) = present(row, "prompt") {
        if turns::are(prompt) {
            return turns("prompt", prompt);
        }
        return Ok(vec![user(text_of("prompt", prompt)?)]);
    }
    if let Some(instruction) = present(row, "instruction") {
        if turns::are(instruction) {
            return turns("instruction", instruction);
        }
        let mut text = text_of("instruction", instruction)?;
        match present(row, "input") {
            None => {}
            Some(Value::String(input)) if input.trim().is_empty() => {}
            Some(Value::String(input)) => text = format!("{}\n\n{}", text.trim_end(), input.trim()),
            Some(other) => return Err(wrong_type("input", other, "a string")),
        }
        return Ok(vec![user(text)]);
    }
    if let Some(messages) = present(row, "messages") {
        return turns("messages", messages);
    }
    match present(row, "body") {
        Some(Value::Object(body)) => match present(body, "messages") {
            Some(messages) => turns("body.messages", messages),
            None => Err(row_error("body.messages", "is missing", "an OpenAI batch line holds its turns there")),
        },
        Some(other) => Err(wrong_type("body", other, "an object with `messages`")),
        None => Err(no_text(row)),
    }
}

/// Most columns that are named in an error.
const MAX_NAMED: usize = 6;

/// What is said of a row without a text: which of its columns may hold one, or the rows.
fn no_text(row: &Map<String, Value>) -> RowError {
    let remedy = "add one of `prompt`, `instruction`, `messages` or `body.messages`";
    let names: Vec<String> = row.keys().filter(|key| !is_read(key)).map(|key| key.escape_debug().to_string()).collect();
    let is_rows = |value: &Value| {
        let first = value.as_array().and_then(|list| list.first());
        first.is_some_and(|first| TEXT_KEYS.iter().any(|key| first.get(key).is_some()))
    };
    let remedy = match (names.is_empty(), row.iter().find(|(_, value)| is_rows(value))) {
        (_, Some((key, _))) => {
            format!("the rows are in `{}`: write them out with `jq -c '.{0}[]'`", key.escape_debug())
        }
        (true, None) => remedy.to_owned(),
        (false, None) => {
            let named = quoted(names.iter().take(MAX_NAMED));
            format!("{remedy}, or take another column with `longhand import --field`: the row has {named}")
        }
    };
    row_error("", "the row has no text", remedy)
}

/// The turns of a conversation up to the last one of the user's. Answers behind that are dropped: they are what is to be
/// written.
fn turns(key: &str, value: &Value) -> Result<Vec<Message>, RowError> {
    let turns = turns::of(key, value)?;
    let last = *turns::of_user(&turns)?.last().ok_or_else(|| turns::no_user(key))?;
    turns[..=last].iter().map(turns::Turn::message).collect()
}

/// The texts in `context`.
pub(crate) fn context(row: &Map<String, Value>) -> Result<Vec<Context>, RowError> {
    let texts = match stated(row, "context") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => return Ok(vec![Context { id: "1".into(), text: text.clone() }]),
        Some(Value::Array(texts)) => texts,
        Some(other) => return Err(wrong_type("context", other, "a list of texts, or of objects with id and text")),
    };
    let context = texts.iter().enumerate().map(|(index, text)| {
        let key = format!("context[{index}]");
        match text.as_object() {
            Some(object) => Ok(Context {
                id: match present(object, "id") {
                    Some(Value::String(id)) => id.clone(),
                    Some(Value::Number(id)) => id.to_string(),
                    None => (index + 1).to_string(),
                    Some(other) => return Err(wrong_type(&format!("{key}.id"), other, "a string or a number")),
                },
                text: match present(object, "text") {
                    Some(text) => text_of(&format!("{key}.text"), text)?,
                    None => return Err(row_error(&format!("{key}.text"), "is missing", "give each text its `text`")),
                },
            }),
            None => {
                let text = text_of(&key, text).map_err(|error| RowError { remedy: "leave it out".into(), ..error })?;
                Ok(Context { id: (index + 1).to_string(), text })
            }
        }
    });
    context.collect()
}

fn language_named(name: &str) -> Result<Language, RowError> {
    let remedy = "use `en` or `zh`, or leave the key out";
    known_language(name).ok_or_else(|| row_error("language", format!("unknown language {name:?}"), remedy))
}

/// The language that a data set means by a name or a code.
pub(crate) fn known_language(name: &str) -> Option<Language> {
    match name.trim().to_lowercase().split(['-', '_', ' ', '(']).next()? {
        "en" | "eng" | "english" | "英文" | "英语" => Some(Language::En),
        "zh" | "zho" | "chi" | "cmn" | "chinese" | "mandarin" | "中文" | "汉语" => Some(Language::Zh),
        _ => None,
    }
}

fn stated_length(value: &Value) -> Result<u32, RowError> {
    let remedy = format!("give whole words, {} to {}, or leave the key out", LENGTH_RANGE.start(), LENGTH_RANGE.end());
    let number = match value {
        Value::String(text) => number(text).is_some(),
        Value::Number(_) => true,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    let problem = if number { "is out of range" } else { "is not a number" };
    whole_words(value).ok_or_else(|| row_error("length", format!("{value} {problem}"), remedy))
}

/// A length in [`LENGTH_RANGE`]: 3000, 3000.0 (a column of doubles) or "3000" (a column of text).
pub(crate) fn whole_words(value: &Value) -> Option<u32> {
    let words = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => number(text)?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let range = *LENGTH_RANGE.start() as f64..=*LENGTH_RANGE.end() as f64;
    (words.fract() == 0.0 && range.contains(&words)).then_some(words as u32)
}

/// A number as text, its thousands set apart by commas or not.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let groups: Vec<&str> = text.split(',').collect();
    let grouped = groups.len() > 1 && groups[0].len() <= 3 && groups[1..].iter().all(|group| group.len() == 3);
    if grouped { text.replace(',', "").parse().ok() } else { text.parse().ok() }
}

fn user(content: String) -> Message {
    Message { role: "user".into(), content }
}
