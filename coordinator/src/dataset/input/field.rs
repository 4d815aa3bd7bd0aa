//! Fields of a row: reading a value, and what is wrong with one.

use serde_json::{Map, Value};

/// Keys that are read beside the text.
pub(super) const OPTIONAL_KEYS: [&str; 7] = ["id", "custom_id", "length", "language", "context", "metadata", "input"];

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
    if is_blank(&text) {
        return Err(row_error(key, "is empty", "write the instruction there"));
    }
    Ok(text)
}

/// Whether nobody sees anything of a text: blanks, and marks without width.
pub(crate) fn is_blank(text: &str) -> bool {
    let unseen = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().all(unseen)
}

/// The value of a key that says something: tables write an empty text where they have none.
pub(crate) fn stated<'a>(row: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    present(row, key).filter(|value| !value.as_str().is_some_and(is_blank))
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

/// Names of columns, for people.
pub(crate) fn quoted<T: AsRef<str>>(columns: impl IntoIterator<Item = T>) -> String {
    columns.into_iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}
