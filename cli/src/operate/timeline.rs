//! The attempts of a document as a timeline: when each ran, how long it took, and how it ended.

use longhand_command::output::{grouped, table};
use longhand_coordinator::store::{Attempt, AttemptEnd};
use serde_json::Value;

/// Width of the bar that stands for the whole time, in characters.
const BAR: u64 = 28;

/// A table of the attempts, and below it the errors. A bar shows when each attempt ran.
pub(super) fn timeline(attempts: &[Attempt]) -> String {
    let Some(first) = attempts.iter().map(|attempt| attempt.granted_ms).min() else {
        return "no attempts yet\n".to_owned();
    };
    let last = attempts.iter().map(|attempt| attempt.ended_ms).max().unwrap_or(first);
    let whole = (last - first).max(1);
    let head = ["task", "from", "took", "", "end", "words", "tokens", "cached", "tok/s", "worker"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut errors = String::new();
    for (index, attempt) in attempts.iter().enumerate() {
        let task = task(&attempts[index..]);
        let number = |pointer| attempt.detail.pointer(pointer).and_then(Value::as_u64);
        let generated = number("/usage/generated").map(|all| all - number("/usage/resumed").unwrap_or(0));
        let decode_ms = number("/timings/decode_ms").filter(|&ms| ms > 0);
        let speed = generated.zip(decode_ms).map(|(tokens, ms)| tokens * 1_000 / ms);
        let shown = |number: Option<u64>| number.map_or_else(String::new, grouped);
        let end = match attempt.detail["finish_reason"].as_str() {
            Some(reason) if reason != "stop" => format!("{}, {reason}", attempt.end.as_str()),
            _ => attempt.end.as_str().to_owned(),
        };
        rows.push(vec![
            task.clone(),
            clock(attempt.granted_ms - first),
            clock(attempt.ended_ms.saturating_sub(attempt.granted_ms)),
            bar(attempt.granted_ms - first, attempt.ended_ms - first, whole),
            end,
            shown(number("/words")),
            shown(generated),
            shown(number("/usage/cached")),
            shown(speed),
            attempt.worker.to_string(),
        ]);
        match (attempt.detail.pointer("/error/class"), attempt.detail.pointer("/error/message"), attempt.end) {
            (Some(class), Some(message), _) => {
                let (class, message) = (class.as_str().unwrap_or_default(), message.as_str().unwrap_or_default());
                errors.push_str(&format!("{task}: {class}: {message}\n"));
            }
            (_, _, AttemptEnd::Lost) => {
                errors.push_str(&format!("{task}: lost: {} did not renew its lease in time\n", attempt.worker));
            }
            _ => {}
        }
    }
    let blank = if errors.is_empty() { "" } else { "\n" };
    format!("{}{blank}{errors}", table(&rows))
}

/// The task of the first attempt. A lost attempt has no task of its own in the store: it is that of the next one.
fn task(attempts: &[Attempt]) -> String {
    let known = attempts.iter().find_map(|attempt| Some((attempt.detail["kind"].as_str()?, &attempt.detail)));
    match known {
        Some(("section", detail)) => format!("section {}", detail["section"].as_u64().unwrap_or(0) + 1),
        Some((kind, _)) => kind.to_owned(),
        None => "?".to_owned(),
    }
}

/// `m:ss.s`, or `h:mm:ss`.
fn clock(ms: u64) -> String {
    match ms / 1_000 {
        seconds @ 0..3_600 => format!("{}:{:02}.{}", seconds / 60, seconds % 60, ms % 1_000 / 100),
        seconds => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

fn bar(from: u64, to: u64, whole: u64) -> String {
    let at = |ms: u64| (ms * BAR / whole).min(BAR);
    let from = at(from).min(BAR - 1);
    let to = at(to).max(from + 1);
    (0..BAR).map(|column| if (from..to).contains(&column) { '█' } else { '·' }).collect()
}

#[cfg(test)]
mod tests {
    use longhand_proto::LeaseId;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lost_attempt_is_shown_with_its_task_and_reason() {
        let attempt = |granted_ms, ended_ms, end, detail| Attempt {
            lease: LeaseId::mint(),
            worker: "here-1".parse().unwrap(),
            granted_ms,
            ended_ms,
            end,
            detail,
        };
        let usage = json!({ "generated": 300, "resumed": 100, "cached": 1_200 });
        let text = timeline(&[
            attempt(1_000, 3_000, AttemptEnd::Completed, json!({ "kind": "plan", "section": 0, "usage": usage })),
            attempt(3_000, 63_000, AttemptEnd::Lost, json!({})),
            attempt(
                65_000,
                67_000,
                AttemptEnd::Error,
                json!({ "kind": "section", "section": 0, "error": { "class": "empty_section", "message": "nothing" } }),
            ),
            attempt(
                68_000,
                70_000,
                AttemptEnd::Completed,
                json!({ "kind": "section", "section": 0, "usage": usage, "timings": { "decode_ms": 2_000 }, "words": 150,
                        "finish_reason": "length" }),
            ),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[2].starts_with("section 1") && lines[2].contains("1:00.0") && lines[2].contains("lost"),
            "{text}"
        );
        assert!(lines[4].contains("completed, length") && lines[4].contains("100"), "{text}");
        assert_eq!(lines[6], "section 1: lost: here-1 did not renew its lease in time");
        assert_eq!(lines[7], "section 1: empty_section: nothing");
        assert_eq!(timeline(&[]), "no attempts yet\n");
    }
}
