//! The JSON object of a row, key by key: a value that nobody reads cannot cost the row.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::field::{OPTIONAL_KEYS, RowError, kind, row_error};

/// Reads the object in `bytes`. A value that no JSON parser of 64-bit numbers can hold (NaN, `1e999`, half a surrogate pair,
/// hundreds of levels) is left out, unless its key is one of `needed`: then the key is named.
///
/// Integers beyond 64 bits become strings of the same digits: as floats, two ids would be one.
pub(crate) fn object(bytes: &[u8], needed: impl Fn(&str) -> bool) -> Result<Map<String, Value>, RowError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        row_error(
            "",
            format!("byte {} is not UTF-8", error.valid_up_to() + 1),
            "convert the file to UTF-8 from what it is, for example with `iconv -f GB18030 -t UTF-8` or `-f WINDOWS-1252`",
        )
    })?;
    let Some(members) = members(text) else {
        return Err(match serde_json::from_str::<Value>(text) {
            Err(error) => broken(text, &error),
            Ok(other) => {
                row_error("", format!("{} instead of an object", kind(&other)), "write one JSON object on each line")
            }
        });
    };
    let mut object = Map::new();
    for (key, value) in members {
        let Ok(key) = serde_json::from_str::<String>(key) else { continue };
        match serde_json::from_str(&exact_integers(value)) {
            Ok(value) => {
                object.insert(key, value);
            }
            // How Python writes a number that is missing.
            Err(_) if value == "NaN" && OPTIONAL_KEYS.contains(&key.as_str()) => {
                object.remove(&key);
            }
            Err(error) if needed(&key) => {
                return Err(row_error(
                    &key,
                    format!("holds a value that is not JSON: {error}"),
                    "write a JSON value in its place, or leave the key out",
                ));
            }
            Err(_) => {
                object.remove(&key);
            }
        }
    }
    Ok(object)
}

/// What is wrong with a line that is no JSON. Objects are often written over many lines, or many on one.
fn broken(text: &str, error: &serde_json::Error) -> RowError {
    const ONE_A_LINE: &str = "write one whole JSON object on each line; `jq -c . FILE` does";
    let text = text.trim_ascii();
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Map<String, Value>>();
    let rest = objects.next().and_then(Result::ok).and_then(|_| text.get(objects.byte_offset()..));
    let rest = rest.map(str::trim_ascii_start).unwrap_or_default();
    if rest.starts_with('{') {
        row_error("", "several JSON objects on one line", ONE_A_LINE)
    } else if rest == "," {
        row_error("", "a comma behind the object", "leave it out: rows of JSON Lines have nothing between them")
    } else if text == "{" {
        row_error("", "a JSON object over several lines", ONE_A_LINE)
    } else {
        row_error("", format!("broken JSON: {error}"), "write one whole JSON object on each line")
    }
}

/// Keys with their quotes, and values as they stand; none if the brackets and strings do not make one object.
fn members(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text.trim_ascii().strip_prefix('{')?.trim_ascii_start();
    let mut members = Vec::new();
    if let Some(end) = rest.strip_prefix('}') {
        return end.is_empty().then_some(members);
    }
    loop {
        let (key, after) = rest.split_at(string_len(rest)?);
        let after = after.trim_ascii_start().strip_prefix(':')?.trim_ascii_start();
        let (value, after) = after.split_at(value_len(after)?);
        members.push((key, value));
        let after = after.trim_ascii_start();
        if let Some(end) = after.strip_prefix('}') {
            return end.is_empty().then_some(members);
        }
        rest = after.strip_prefix(',')?.trim_ascii_start();
    }
}

/// Length of the string that `text` begins with, quotes included.
fn string_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = usize::from(bytes.first() == Some(&b'"'));
    while at > 0 {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Length of the value that `text` begins with.
fn value_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match *bytes.get(at)? {
            b'"' => at += string_len(&text[at..])?,
            b'[' | b'{' => (depth, at) = (depth + 1, at + 1),
            b']' | b'}' if depth > 0 => (depth, at) = (depth - 1, at + 1),
            b',' | b'}' | b']' if depth == 0 => return (at > 0).then(|| text[..at].trim_ascii_end().len()),
            _ => at += 1,
        }
    }
}

/// The same JSON with integers beyond 64 bits as strings.
fn exact_integers(json: &str) -> Cow<'_, str> {
    /// Digits that always fit.
    const SAFE: usize = 18;
    let bytes = json.as_bytes();
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at += string_len(&json[at..]).unwrap_or(bytes.len() - at);
            continue;
        }
        let run = bytes[at..]
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        if run == 0 {
            // Text outside of strings is not JSON, and `at` may be inside of one of its characters.
            at += 1;
            continue;
        }
        let number = &json[at..at + run];
        let digits = number.strip_prefix('-').unwrap_or(number);
        if digits.len() > SAFE
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0')
            && number.parse::<i64>().is_err()
            && number.parse::<u64>().is_err()
        {
            out.push_str(&json[copied..at]);
            out.push_str(&format!("\"{number}\""));
            copied = at + run;
        }
        at += run;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    out.push_str(&json[copied..]);
    Cow::Owned(out)
}

/// JSON text inside a string, with its integers kept.
pub(super) fn nested(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(&exact_integers(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Value, RowError> {
        object(json.as_bytes(), |key| key == "id" || key == "prompt").map(Value::Object)
    }

    #[test]
    fn integers_beyond_64_bits_keep_their_digits() {
        let row = read(
            r#" {"id": 123456789012345678901234567890, "m": {"a": [-99999999999999999999, 1.5e3, 7], "s": "12345678901234567890123"}} "#,
        );
        let want = r#"{"id": "123456789012345678901234567890", "m": {"a": ["-99999999999999999999", 1500.0, 7], "s": "12345678901234567890123"}}"#;
        assert_eq!(row.unwrap(), serde_json::from_str::<Value>(want).unwrap());
        assert_eq!(read(r#"{"id": 18446744073709551615}"#).unwrap()["id"], u64::MAX);
        assert_eq!(read(r#"{"id": 18446744073709551616}"#).unwrap()["id"], "18446744073709551616");
    }

    #[test]
    fn a_value_that_nobody_reads_costs_no_row_and_one_that_is_read_is_named() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for odd in ["NaN", "-Infinity", "1e999", r#""\ud83d""#, r#"[{"a": NaN}]"#, &deep] {
            let row = read(&format!(r#"{{"prompt": "x", "score": {odd}, "b": 1}}"#)).unwrap();
            assert_eq!(row, serde_json::json!({"prompt": "x", "b": 1}), "{odd}");
            let error = read(&format!(r#"{{"prompt": {odd}}}"#)).unwrap_err();
            assert_eq!(error.key, "prompt", "{odd}");
        }
    }

    #[test]
    fn text_outside_of_strings_is_refused_whatever_its_letters() {
        for broken in ["{港: 1}", r#"{"prompt": 港湾 12345678901234567890}"#, "{\"id\": 1} 港", "é"] {
            assert!(read(broken).is_err(), "{broken}");
            assert_eq!(exact_integers(broken).contains('港'), broken.contains('港'));
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for broken in [r#"{"prompt": "x""#, r#"{"prompt" "x"}"#, r#"{"a": 1,}"#, r#"{"a": }"#, "x", ""] {
            assert!(read(broken).unwrap_err().problem.starts_with("broken JSON"), "{broken}");
        }
        assert!(read(r#"{"prompt": "x"} {}"#).unwrap_err().problem.contains("several JSON objects"));
        assert!(read("[1]").unwrap_err().problem.contains("a list instead of an object"));
        assert_eq!(read(" {} ").unwrap(), serde_json::json!({}));
    }
}
