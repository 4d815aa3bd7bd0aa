//! The prompts of an evaluation: text, requested words, and type.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::dataset::input::LENGTH_RANGE;
use serde::Deserialize;
use serde_json::{Value, json};

/// One prompt. Its id is derived from its line and content, so that a changed file leads to different documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) id: String,
    pub(super) text: String,
    pub(super) length: u32,
    pub(super) kind: Option<String>,
}

/// A line of the file; other keys are ignored.
#[derive(Debug, Deserialize)]
struct Row {
    prompt: Option<String>,
    length: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Reads all prompts that request at most `max_length` words, and the number of those that request more.
pub(super) fn read(path: &Path, max_length: Option<u32>) -> Result<(Vec<Prompt>, usize)> {
    let open = |e| Failure::refused(format!("{}: {e}; check the path and its permissions", path.display()));
    let lines = BufReader::new(File::open(path).map_err(open)?).lines();
    let mut prompts = Vec::new();
    for (line, number) in lines.zip(1_u64..) {
        let line = line.map_err(|e| at(path, number, "", &e.to_string(), "expected JSON Lines in UTF-8"))?;
        if !line.trim().is_empty() {
            prompts.push(
                prompt(&line, number).map_err(|(key, problem, remedy)| at(path, number, key, &problem, &remedy))?,
            );
        }
    }
    let all = prompts.len();
    prompts.retain(|prompt| max_length.is_none_or(|most| prompt.length <= most));
    if prompts.is_empty() {
        let what = if all == 0 { "has no prompts" } else { "has no prompt within --max-length" };
        return Err(Failure::refused(format!(
            "{}: the file {what}; expected one JSON object per line, such as {{\"prompt\": \"...\", \"length\": 1000}}",
            path.display()
        )));
    }
    let left_out = all - prompts.len();
    Ok((prompts, left_out))
}

/// Key, problem, remedy.
type RowError = (&'static str, String, String);

fn prompt(line: &str, number: u64) -> Result<Prompt, RowError> {
    let row: Row = serde_json::from_str(line)
        .map_err(|e| ("", format!("not a valid prompt: {e}"), "write one JSON object per line".to_owned()))?;
    let text = row.prompt.filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| ("prompt", "is missing".to_owned(), "add the text of the prompt".to_owned()))?;
    let fits = |length: &Value| length.as_u64().filter(|words| LENGTH_RANGE.contains(words));
    let length = row.length.as_ref().and_then(fits).and_then(|words| u32::try_from(words).ok()).ok_or_else(|| {
        let problem = match &row.length {
            None => "is missing".to_owned(),
            Some(length) => format!("is {length}"),
        };
        (
            "length",
            problem,
            format!("expected a whole number of words from {} to {}", LENGTH_RANGE.start(), LENGTH_RANGE.end()),
        )
    })?;
    let hash = blake3::hash(format!("{length} {text}").as_bytes()).to_hex();
    Ok(Prompt { id: format!("{number:04}-{}", &hash[..8]), text, length, kind: row.kind })
}

fn at(path: &Path, line: u64, key: &str, problem: &str, remedy: &str) -> Failure {
    let key = if key.is_empty() { String::new() } else { format!("`{key}` ") };
    Failure::refused(format!("{}:{line}: {key}{problem}; {remedy}", path.display()))
}

/// The prompts as a file of instructions.
pub(super) fn rows(prompts: &[Prompt]) -> String {
    let row = |prompt: &Prompt| {
        let Prompt { id, text, length, kind } = prompt;
        let metadata = kind.as_ref().map_or_else(|| json!({}), |kind| json!({ "type": kind }));
        format!("{}\n", json!({ "id": id, "prompt": text, "length": length, "metadata": metadata }))
    };
    prompts.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_id_of_a_prompt_depends_on_line_and_content() {
        let read_all = |text| read(file(text).path(), None).unwrap().0;
        let prompts = read_all(
            "{\"prompt\": \"Write.\", \"length\": 300, \"type\": \"News\"}\n\n{\"prompt\": \"写。\", \"length\": 20}\n",
        );
        assert_eq!(prompts.len(), 2);
        assert_eq!((prompts[0].kind.as_deref(), prompts[1].length), (Some("News"), 20));
        assert!(prompts[0].id.starts_with("0001-") && prompts[1].id.starts_with("0003-"));
        let other = read_all("{\"prompt\": \"Write.\", \"length\": 301}");
        assert_ne!(other[0].id, prompts[0].id);
        assert!(rows(&prompts).lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    }

    #[test]
    fn a_bad_prompt_is_reported_with_line_key_and_remedy() {
        for (text, says) in [
            ("\n{\"length\": 5}", ":2: `prompt` is missing; add the text of the prompt"),
            ("{\"prompt\": \"x\"}", ":1: `length` is missing; expected a whole number of words from 10 to 1000000"),
            (
                "{\"prompt\": \"x\", \"length\": \"many\"}",
                ":1: `length` is \"many\"; expected a whole number of words from 10 to 1000000",
            ),
            ("{\"prompt\": \"x\", \"length\": 5}", ":1: `length` is 5; expected a whole number of words"),
            ("[1]", ":1: not a valid prompt"),
            ("", "the file has no prompts"),
        ] {
            let error = read(file(text).path(), None).unwrap_err().message;
            assert!(error.contains(says), "{error}");
        }
        let long = file("{\"prompt\": \"x\", \"length\": 500}");
        assert!(read(long.path(), Some(100)).unwrap_err().message.contains("no prompt within --max-length"));
        assert_eq!(read(long.path(), Some(500)).unwrap().1, 0);
    }
}
