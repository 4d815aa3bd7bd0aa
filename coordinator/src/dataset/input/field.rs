//! Fields of a row: reading a value, and what is wrong with one.

use serde_json::{Map, Value};

/// What is wrong with a row, without its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowError {
    pub(crate) key: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// What is wrong with a key of a row, and what to do.
pub(crate) fn row_error(key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> RowError {
    RowError { key: key.into(), problem: problem.into(), remedy: remedy.into() }
}

/// The value of a key that is there and not null.
pub(crate) fn present<'a>(row: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    row.get(key).filter(|value| !value.is_null())
}

/// A text: a string, or a list of `{"type": "text", "text": "..."}` parts.
pub(crate) fn text_of(key: &str, value: &Value) -> Result<String, RowError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect();
            parts
                .ok_or_else(|| row_error(key, "holds a part that is not text", "only text can be written about"))?
                .join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err(wrong_type(key, value, "a string"));
        }
    };
    if text.trim().is_empty() {
        return Err(row_error(key, "is empty", "write the instruction there"));
    }
    Ok(text)
}

/// A value of the wrong type.
pub(crate) fn wrong_type(key: &str, value: &Value, expected: &str) -> RowError {
    row_error(key, format!("is {}", kind(value)), format!("expected {expected}"))
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
