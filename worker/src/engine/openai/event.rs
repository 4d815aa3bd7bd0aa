//! One event of a server's answer. Only what is needed is read; anything missing, null or of another type counts as absent,
//! as servers differ in everything else.

use longhand_proto::task::FinishReason;
use serde_json::Value;

/// What an event says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Event {
    pub(super) text: String,
    /// It has reasoning that is kept apart from the text: progress, but no part of it.
    pub(super) reasoning: bool,
    pub(super) end: Option<End>,
    pub(super) usage: Option<UsageCounts>,
}

/// Why a server ended its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Finished(FinishReason),
    /// By its content filter.
    Filtered,
    /// By a failure of its own.
    Aborted,
    /// For a reason that no text has, such as a call of a tool.
    Unknown(String),
}

/// Token counts of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct UsageCounts {
    pub(super) prompt: u32,
    pub(super) cached: u32,
    /// None where the server does not say.
    pub(super) generated: Option<u32>,
}

impl Event {
    /// Reads an event, or a whole answer of a server that does not stream.
    pub(super) fn read(value: &Value) -> Self {
        let mut event = Self { usage: usage(value), ..Self::default() };
        // One answer was asked for; a second one would be mixed into it.
        let first = |choice: &&Value| count(&choice["index"]).unwrap_or(0) == 0;
        for choice in value["choices"].as_array().into_iter().flatten().filter(first) {
            let (delta, message) = (&choice["delta"], &choice["message"]);
            for content in [&delta["content"], &message["content"], &choice["text"]] {
                let before = event.text.len();
                event.read_content(content);
                if event.text.len() > before {
                    break;
                }
            }
            let apart = ["reasoning_content", "reasoning", "reasoning_details", "thinking"];
            event.reasoning |= [delta, message].iter().any(|from| apart.iter().any(|key| !is_empty(&from[*key])));
            event.end = event.end.or_else(|| end(choice["finish_reason"].as_str()?));
        }
        event
    }

    /// A text, or a list of parts.
    fn read_content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.text.push_str(text),
            Value::Array(parts) => parts.iter().for_each(|part| match &part["text"] {
                Value::String(text) => self.text.push_str(text),
                _ if part.is_string() => self.read_content(part),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    self.reasoning |= !is_empty(&part["thinking"]) || !is_empty(&part["reasoning"])
                }
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Array(parts) => parts.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// A count, also one that came as a float or in quotes.
fn count(value: &Value) -> Option<u32> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    // Casting saturates.
    (number >= 0.0).then_some(number as u32)
}

fn usage(value: &Value) -> Option<UsageCounts> {
    let (usage, timings) = (&value["usage"], &value["timings"]);
    if let (Some(prompt), generated) = (count(&usage["prompt_tokens"]), count(&usage["completion_tokens"])) {
        let cached = [&usage["prompt_tokens_details"]["cached_tokens"], &usage["prompt_cache_hit_tokens"]];
        let cached = cached.into_iter().find_map(count).unwrap_or(0).min(prompt);
        return Some(UsageCounts { prompt, cached, generated });
    }
    // llama.cpp's own counts, in every event: `usage` comes only at the end.
    let (prompt, generated) = (count(&timings["prompt_n"])?, count(&timings["predicted_n"]));
    let cached = count(&timings["cache_n"]).unwrap_or(0);
    Some(UsageCounts { prompt: prompt.saturating_add(cached), cached, generated })
}

/// None for what servers send while the text goes on.
fn end(reason: &str) -> Option<End> {
    let end = match reason.trim().to_lowercase().as_str() {
        "" | "null" | "none" => return None,
        "stop" | "eos" | "eos_token" | "stop_sequence" | "stop_token" | "end_turn" | "complete" => {
            End::Finished(FinishReason::Stop)
        }
        "length" | "max_tokens" | "model_length" | "max_length" => End::Finished(FinishReason::Length),
        "content_filter" | "safety" | "recitation" | "prohibited_content" => End::Filtered,
        "abort" | "aborted" | "cancelled" | "canceled" | "error" | "insufficient_system_resource" => End::Aborted,
        _ => End::Unknown(reason.to_owned()),
    };
    Some(end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const STOP: End = End::Finished(FinishReason::Stop);

    fn counts(prompt: u32, cached: u32, generated: u32) -> Option<UsageCounts> {
        Some(UsageCounts { prompt, cached, generated: Some(generated) })
    }

    /// Shapes as servers send them: the server, the event, and the text, reasoning, end and usage in it.
    #[test]
    fn recorded_shapes_are_read_alike() {
        type Row = (&'static str, Value, &'static str, bool, Option<End>, Option<UsageCounts>);
        let table: Vec<Row> = vec![
            (
                "vLLM, role first",
                json!({"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}),
                "",
                false,
                None,
                None,
            ),
            (
                "vLLM, reasoning twice",
                json!({"choices":[{"index":0,"delta":{"reasoning":"Hm","reasoning_content":"Hm"},"finish_reason":null}]}),
                "",
                true,
                None,
                None,
            ),
            (
                "vLLM, with counts",
                json!({"choices":[{"index":0,"delta":{"content":"A","reasoning_content":null},"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":9,"total_tokens":10,"completion_tokens":1}}),
                "A",
                false,
                None,
                counts(9, 0, 1),
            ),
            (
                "vLLM, end",
                json!({"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop","stop_reason":null}]}),
                "",
                false,
                Some(STOP),
                None,
            ),
            (
                "vLLM, counts last",
                json!({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}),
                "",
                false,
                None,
                counts(9, 4, 3),
            ),
            (
                "vLLM, no details",
                json!({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":null}}),
                "",
                false,
                None,
                counts(9, 0, 3),
            ),
            (
                "SGLang",
                json!({"choices":[{"index":0,"delta":{"role":null,"content":"A","reasoning_content":null,"tool_calls":null},"finish_reason":"","matched_stop":null}],"usage":null}),
                "A",
                false,
                None,
                None,
            ),
            (
                "SGLang, end",
                json!({"choices":[{"index":0,"delta":{"content":null},"finish_reason":"stop","matched_stop":151645}]}),
                "",
                false,
                Some(STOP),
                None,
            ),
            (
                "llama.cpp",
                json!({"choices":[{"finish_reason":null,"index":0,"delta":{"content":"A"}}],"timings":{"cache_n":5,"prompt_n":4,"prompt_ms":1.5,"predicted_n":2,"predicted_ms":3.25}}),
                "A",
                false,
                None,
                counts(9, 5, 2),
            ),
            (
                "TGI",
                json!({"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"A"},"logprobs":null,"finish_reason":null}]}),
                "A",
                false,
                None,
                None,
            ),
            (
                "TGI, end",
                json!({"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"eos_token"}]}),
                "",
                false,
                Some(STOP),
                None,
            ),
            (
                "Ollama",
                json!({"choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Hm"},"finish_reason":null}]}),
                "",
                true,
                None,
                None,
            ),
            (
                "LMDeploy",
                json!({"choices":[{"index":0,"delta":{"role":"assistant","content":"A","reasoning_content":null,"gen_tokens":null},"finish_reason":null}],"usage":null}),
                "A",
                false,
                None,
                None,
            ),
            (
                "TensorRT-LLM",
                json!({"choices":[{"index":0,"delta":{"role":"assistant","content":"A"},"finish_reason":null,"stop_reason":null,"disaggregated_params":null}],"usage":{"prompt_tokens":9.0,"completion_tokens":1.0}}),
                "A",
                false,
                None,
                counts(9, 0, 1),
            ),
            (
                "a gateway's list",
                json!({"choices":[{"delta":{"content":[{"type":"text","text":"A"},{"type":"text","text":"B"}]}}]}),
                "AB",
                false,
                None,
                None,
            ),
            (
                "Mistral's parts",
                json!({"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"Hm"}]}]}}]}),
                "",
                true,
                None,
                None,
            ),
            (
                "OpenRouter",
                json!({"provider":"X","choices":[{"index":0,"delta":{"role":"assistant","content":"","reasoning":"Hm","reasoning_details":[{"type":"reasoning.text","text":"Hm"}]},"finish_reason":null,"native_finish_reason":null}]}),
                "",
                true,
                None,
                None,
            ),
            (
                "OpenRouter, failure",
                json!({"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}),
                "",
                false,
                Some(End::Aborted),
                None,
            ),
            (
                "DeepSeek, counts",
                json!({"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_cache_hit_tokens":8}}),
                "",
                false,
                None,
                counts(9, 8, 3),
            ),
            (
                "Gemini's gateway",
                json!({"choices":[{"delta":{"content":"A"},"finish_reason":"MAX_TOKENS"}]}),
                "A",
                false,
                Some(End::Finished(FinishReason::Length)),
                None,
            ),
            ("no delta", json!({"choices":[{"index":0,"delta":null,"finish_reason":null}]}), "", false, None, None),
            ("no choices", json!({"choices":null,"usage":null}), "", false, None, None),
            (
                "odd types",
                json!({"choices":[7,{"delta":[],"finish_reason":3}],"usage":"none","timings":[]}),
                "",
                false,
                None,
                None,
            ),
            (
                "odd counts",
                json!({"choices":[],"usage":{"prompt_tokens":"9","completion_tokens":null}}),
                "",
                false,
                None,
                Some(UsageCounts { prompt: 9, cached: 0, generated: None }),
            ),
            ("a second answer", json!({"choices":[{"index":1,"delta":{"content":"B"}}]}), "", false, None, None),
            (
                "not streamed",
                json!({"choices":[{"index":0,"message":{"role":"assistant","content":"A","reasoning_content":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":1}}),
                "A",
                false,
                Some(STOP),
                counts(9, 0, 1),
            ),
            (
                "a tool",
                json!({"choices":[{"delta":{"tool_calls":[{}]},"finish_reason":"tool_calls"}]}),
                "",
                false,
                Some(End::Unknown("tool_calls".into())),
                None,
            ),
            ("not an object", json!("ping"), "", false, None, None),
        ];
        for (server, value, text, reasoning, end, usage) in table {
            assert_eq!(Event::read(&value), Event { text: text.into(), reasoning, end, usage }, "{server}: {value}");
        }
    }
}
