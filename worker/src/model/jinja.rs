//! Jinja as the Python library of chat templates has it, where it differs from what this engine has: tags, methods, filters
//! and tests that templates use, and values printed as Python prints them.

#![allow(clippy::wildcard_enum_match_arm, reason = "the kinds of a value may become more")]

mod sums;

use std::fmt::Write;

use longhand_proto::template::literal_len;
use minijinja::value::{Kwargs, Value, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Output, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use sums::with_bounded_sums;

/// Depth of nested lists and maps that can be printed; tools and messages have a dozen.
const MAX_DEPTH: usize = 100;

pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.set_unknown_method_callback(unknown_method);
    environment.set_formatter(print);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", to_json);
    environment.add_filter(sums::FILTER, sums::bounded);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
}

/// The template in the words of this engine. The tag of what a model generates, which masks in training read, becomes a block
/// that does nothing; `'...' % x` becomes the filter that does the same.
pub(super) fn translate(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let end = tag_end(tag);
        let (inside, behind) = tag.split_at(end);
        match &inside[..2] {
            "{#" => out.push_str(inside),
            "{%" => {
                let word =
                    inside.trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['}', '%', '-', '+']).trim();
                match word {
                    "raw" => {
                        let raw = behind.find("endraw").unwrap_or(behind.len());
                        out.push_str(inside);
                        out.push_str(&behind[..raw]);
                        rest = &behind[raw..];
                        continue;
                    }
                    "generation" => out.push_str(&inside.replace("generation", "with")),
                    "endgeneration" => out.push_str(&inside.replace("endgeneration", "endwith")),
                    _ => out.push_str(&with_bounded_sums(&with_format_filters(inside))),
                }
            }
            _ => out.push_str(&with_bounded_sums(&with_format_filters(inside))),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Where a tag ends: behind its closing mark, which does not count inside of a string.
fn tag_end(tag: &str) -> usize {
    let close = match &tag[..2] {
        "{{" => "}}",
        "{%" => "%}",
        _ => return tag.find("#}").map_or(tag.len(), |at| at + 2),
    };
    let mut at = 2;
    let mut braces = 0;
    while at < tag.len() {
        let rest = &tag[at..];
        if braces == 0 && rest.starts_with(close) {
            return at + 2;
        }
        match rest.as_bytes()[0] {
            b'\'' | b'"' => at += literal_len(rest),
            b'{' => (braces, at) = (braces + 1, at + 1),
            b'}' => (braces, at) = (usize::saturating_sub(braces, 1), at + 1),
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    tag.len()
}

/// `'...' % x` as `('...'|format(x))`.
fn with_format_filters(tag: &str) -> String {
    let mut out = String::with_capacity(tag.len());
    let mut at = 0;
    while at < tag.len() {
        let rest = &tag[at..];
        if !rest.starts_with(['\'', '"']) {
            let Some(c) = rest.chars().next() else { break };
            out.push(c);
            at += c.len_utf8();
            continue;
        }
        let literal = &rest[..literal_len(rest)];
        at += literal.len();
        let behind = &tag[at..];
        let operand =
            behind.trim_start().strip_prefix('%').filter(|operand| !operand.starts_with('}')).map(str::trim_start);
        match operand.map(|operand| (operand, operand_len(operand))) {
            Some((operand, len @ 1..)) => {
                let argument = with_format_filters(&operand[..len]);
                // A tuple has the arguments in its parentheses already.
                let whole = argument.starts_with('(') && operand_len_of_group(&argument) == argument.len();
                let filter = if whole {
                    format!("({literal}|format{argument})")
                } else {
                    format!("({literal}|format({argument}))")
                };
                out.push_str(&filter);
                at += behind.len() - operand.len() + len;
            }
            Some(_) | None => out.push_str(literal),
        }
    }
    out
}

/// Bytes of the operand that `text` begins with: a name, a literal or a group, with attributes, calls and filters.
fn operand_len(text: &str) -> usize {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut at = match text.as_bytes().first() {
        Some(b'(' | b'[') => operand_len_of_group(text),
        Some(b'\'' | b'"') => literal_len(text),
        _ => name(text),
    };
    while at > 0 && at < text.len() {
        let rest = &text[at..];
        let more = match rest.as_bytes()[0] {
            b'(' | b'[' => operand_len_of_group(rest),
            b'.' => 1 + name(&rest[1..]),
            b'|' => {
                let filter = rest[1..].trim_start();
                rest.len() - filter.len() + name(filter)
            }
            _ => break,
        };
        at += more;
    }
    at
}

/// Bytes of the group in brackets that `text` begins with.
fn operand_len_of_group(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text.as_bytes()[at] {
            b'\'' | b'"' => {
                at += literal_len(&text[at..]);
                continue;
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number => false,
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => true,
        _ => value.try_iter().is_ok(),
    }
}

/// What has a length and can be indexed; in Python texts and maps count.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Bytes | ValueKind::Seq | ValueKind::Map)
}

/// Methods that Python's texts and lists have and the engine does not.
fn unknown_method(state: &mut State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let pair =
            |(before, sep, behind): (&str, &str, &str)| Value::from([before, sep, behind].map(Value::from).to_vec());
        match method {
            "rsplit" => {
                let (sep, most, named): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
                let sep = sep.or(named.get("sep")?).filter(|sep| !sep.is_none());
                let most = most.or(named.get("maxsplit")?).and_then(|most| usize::try_from(most).ok());
                named.assert_all_used()?;
                return Ok(Value::from(rsplit(text, sep.as_ref().and_then(Value::as_str), most)?));
            }
            "partition" => {
                let (sep,): (String,) = from_args(args)?;
                let found = text.split_once(non_empty(&sep)?);
                return Ok(pair(found.map_or((text, "", ""), |(before, behind)| (before, &sep, behind))));
            }
            "rpartition" => {
                let (sep,): (String,) = from_args(args)?;
                let found = text.rsplit_once(non_empty(&sep)?);
                return Ok(pair(found.map_or(("", "", text), |(before, behind)| (before, &sep, behind))));
            }
            "removeprefix" => {
                let (prefix,): (String,) = from_args(args)?;
                return Ok(text.strip_prefix(&*prefix).unwrap_or(text).into());
            }
            "removesuffix" => {
                let (suffix,): (String,) = from_args(args)?;
                return Ok(text.strip_suffix(&*suffix).unwrap_or(text).into());
            }
            "casefold" => {
                let () = from_args(args)?;
                return Ok(text.to_lowercase().into());
            }
            _ => {}
        }
    }
    if method == "copy" && matches!(value.kind(), ValueKind::Map | ValueKind::Seq) {
        let () = from_args(args)?;
        return Ok(value.clone());
    }
    unknown_method_callback(state, value, method, args)
}

fn non_empty(sep: &str) -> Result<&str, Error> {
    if sep.is_empty() { Err(Error::new(ErrorKind::InvalidOperation, "empty separator")) } else { Ok(sep) }
}

/// From the right, at most `most` times; without a separator at white space, which is left out.
fn rsplit(text: &str, sep: Option<&str>, most: Option<usize>) -> Result<Vec<String>, Error> {
    let mut parts = Vec::new();
    let mut rest = if sep.is_none() { text.trim_end() } else { text };
    loop {
        if most.is_some_and(|most| parts.len() >= most) {
            break;
        }
        let found = match sep {
            Some(sep) => rest.rsplit_once(non_empty(sep)?),
            None => rest.rsplit_once(char::is_whitespace),
        };
        let Some((before, part)) = found else { break };
        parts.push(part.to_owned());
        rest = if sep.is_none() { before.trim_end() } else { before };
    }
    if sep.is_some() || !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    parts.reverse();
    Ok(parts)
}

/// Prints a value as Python does: `None`, `True`, lists with their texts in quotes.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let printed = match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Seq | ValueKind::Map => repr(state, value, 0)?,
        _ => return minijinja::escape_formatter(out, state, value),
    };
    state.consume_fuel(printed.len() as u64 / 64)?;
    out.write_str(&printed).map_err(Error::from)
}

fn repr(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<String, Error> {
    check_depth(depth)?;
    state.consume_fuel(1)?;
    Ok(match value.kind() {
        ValueKind::None => "None".into(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.into(),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let mut quoted = String::from(quote);
            for c in text.chars() {
                match c {
                    '\n' => quoted.push_str("\\n"),
                    '\r' => quoted.push_str("\\r"),
                    '\t' => quoted.push_str("\\t"),
                    '\\' => quoted.push_str("\\\\"),
                    c if c == quote => quoted.extend(['\\', c]),
                    c => quoted.push(c),
                }
            }
            quoted.push(quote);
            quoted
        }
        ValueKind::Map => {
            let mut entries = Vec::new();
            for key in value.try_iter()? {
                entries.push(format!(
                    "{}: {}",
                    repr(state, &key, depth + 1)?,
                    repr(state, &value.get_item(&key)?, depth + 1)?
                ));
            }
            format!("{{{}}}", entries.join(", "))
        }
        ValueKind::Seq => {
            let items = value.try_iter()?.map(|item| repr(state, &item, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", items.join(", "))
        }
        _ => value.to_string(),
    })
}

fn check_depth(depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, "a value is nested too deep to be printed"));
    }
    Ok(())
}

/// How JSON is laid out.
struct Layout {
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    ensure_ascii: bool,
    sort_keys: bool,
}

/// Python's `json.dumps`, with the arguments that templates give; nothing is escaped for HTML.
fn to_json(state: &State<'_, '_>, value: &Value, indent: Option<Value>, named: Kwargs) -> Result<Value, Error> {
    let indent = indent.or(named.get("indent")?).filter(|indent| !indent.is_none());
    let indent = match indent {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(number) => Some(" ".repeat(usize::try_from(number)?.min(MAX_DEPTH))),
    };
    let separators: Option<Vec<String>> = named.get("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators are two texts")),
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let ensure_ascii = named.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sort_keys = named.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    named.assert_all_used()?;
    let layout = Layout { indent, item_separator, key_separator, ensure_ascii, sort_keys };
    let mut out = String::new();
    layout.write(state, &mut out, value, 0)?;
    state.consume_fuel(out.len() as u64 / 64)?;
    Ok(out.into())
}

impl Layout {
    fn write(&self, state: &State<'_, '_>, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::String => self.write_text(out, value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                out.push('{');
                for (at, key) in keys.iter().enumerate() {
                    self.begin_item(out, at, depth + 1);
                    self.write_text(out, key.as_str().unwrap_or(&key.to_string()));
                    out.push_str(&self.key_separator);
                    self.write(state, out, &value.get_item(key)?, depth + 1)?;
                }
                self.end_items(out, keys.len(), depth);
                out.push('}');
            }
            ValueKind::Seq | ValueKind::Iterable => {
                out.push('[');
                let mut count = 0;
                for item in value.try_iter()? {
                    self.begin_item(out, count, depth + 1);
                    self.write(state, out, &item, depth + 1)?;
                    count += 1;
                }
                self.end_items(out, count, depth);
                out.push(']');
            }
            kind => {
                return Err(Error::new(ErrorKind::InvalidOperation, format!("tojson: {kind} is not JSON")));
            }
        }
        Ok(())
    }

    fn begin_item(&self, out: &mut String, at: usize, depth: usize) {
        if at > 0 {
            out.push_str(&self.item_separator);
        }
        self.new_line(out, depth);
    }

    fn end_items(&self, out: &mut String, count: usize, depth: usize) {
        if count > 0 {
            self.new_line(out, depth);
        }
    }

    fn new_line(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn write_text(&self, out: &mut String, text: &str) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 || self.ensure_ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        // Writing to a text cannot fail.
                        write!(out, "\\u{unit:04x}").ok();
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

/// Templates that state the date get a fixed one: the same document must give the same prompt on every day and on every
/// worker. It is the one that Llama 3's own templates fall back to.
fn strftime_now(format: &str) -> Result<String, Error> {
    let mut date = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            date.push(letter);
            continue;
        }
        let mut letter = letters.next();
        // Without the zero or blank in front.
        let bare = letter == Some('-');
        if bare {
            letter = letters.next();
        }
        let part = match letter {
            Some('d' | 'e') => "26",
            Some('m') => "07",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('Y') => "2024",
            Some('y') => "24",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('j') => "208",
            Some('u' | 'w') => "5",
            Some('H' | 'I') => "12",
            Some('M' | 'S') => "00",
            Some('p') => "PM",
            Some('F') => "2024-07-26",
            Some('D') => "07/26/24",
            Some('T') => "12:00:00",
            Some('Z' | 'z') => "",
            Some('%') => "%",
            other => {
                let written: String = other.into_iter().collect();
                let message = format!("strftime_now does not know %{written}");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        };
        let shorter = part.trim_start_matches('0');
        date.push_str(if bare { if shorter.is_empty() { "0" } else { shorter } } else { part });
    }
    Ok(date)
}
#[cfg(test)]
mod tests;
