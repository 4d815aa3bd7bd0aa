//! The body of a request. All servers take OpenAI's fields; for more, such as a grammar, each has its own.

use longhand_proto::task::{Constraint, LengthControl, Task};
use serde_json::{Map, Value, json};

use super::gbnf;

/// The server's extensions of the protocol, detected from the `owned_by` of its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's own fields and no others: an unknown one may be rejected.
    Plain,
    Vllm,
    Sglang,
    LlamaCpp,
}

impl Dialect {
    pub(super) fn of(owner: &str) -> Self {
        match owner {
            "vllm" => Self::Vllm,
            "sglang" => Self::Sglang,
            // The second is what its Python binding reports.
            "llamacpp" | "me" => Self::LlamaCpp,
            _ => Self::Plain,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "an OpenAI-compatible server",
            Self::Vllm => "vLLM",
            Self::Sglang => "SGLang",
            Self::LlamaCpp => "llama.cpp",
        }
    }
}

/// The request's body.
pub(super) fn build(task: &Task, dialect: Dialect, model: &str) -> Value {
    let sampling = &task.sampling;
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model", json!(model));
    set("messages", json!(task.messages));
    set("stream", json!(true));
    // Counts in every event where a server supports it: a text that is stopped here gets no last event.
    set(
        "stream_options",
        match dialect {
            Dialect::Vllm | Dialect::Sglang => json!({ "include_usage": true, "continuous_usage_stats": true }),
            Dialect::Plain | Dialect::LlamaCpp => json!({ "include_usage": true }),
        },
    );
    set("max_tokens", json!(task.max_tokens));
    set("temperature", json!(sampling.temperature));
    set("top_p", json!(sampling.top_p));
    // The widest integer that every server accepts.
    set("seed", json!(task.seed & 0x7fff_ffff));
    match dialect {
        Dialect::Plain => {}
        Dialect::Vllm | Dialect::Sglang => {
            // Both disable it with -1.
            set("top_k", if sampling.top_k == 0 { json!(-1) } else { json!(sampling.top_k) });
            set("min_p", json!(sampling.min_p));
            set("repetition_penalty", json!(sampling.repetition_penalty));
            if let Some(length) = task.length {
                // A word is at least one token.
                set("min_tokens", json!((length.target_words as f32 * length.floor) as u32));
            }
        }
        Dialect::LlamaCpp => {
            set("top_k", json!(sampling.top_k));
            set("min_p", json!(sampling.min_p));
            set("repeat_penalty", json!(sampling.repetition_penalty));
            set("repeat_last_n", json!(sampling.penalty_window));
            set("timings_per_token", json!(true));
            // It has no minimum length but this: a word is at least one token.
            let below_floor =
                |length: LengthControl| length.target_words as f32 * length.floor >= task.max_tokens as f32;
            set("ignore_eos", json!(task.length.is_some_and(below_floor)));
        }
    }
    if let Some((name, value)) = task.constraint.as_ref().and_then(|constraint| grammar(constraint, dialect)) {
        set(name, value);
    }
    Value::Object(body)
}

/// The field that enforces `constraint`. Without an equivalent grammar, the coordinator checks the text and retries.
fn grammar(constraint: &Constraint, dialect: Dialect) -> Option<(&'static str, Value)> {
    match constraint {
        Constraint::JsonSchema(schema) => {
            let schema: Value = serde_json::from_str(schema).unwrap_or(json!({}));
            let format = json!({ "name": "answer", "schema": schema, "strict": true });
            Some(("response_format", json!({ "type": "json_schema", "json_schema": format })))
        }
        Constraint::Lark(lark) => match (dialect, gbnf::from_lark(lark)) {
            (Dialect::LlamaCpp, Some(grammar)) => Some(("grammar", json!(grammar))),
            (Dialect::Vllm, Some(grammar)) => Some(("structured_outputs", json!({ "grammar": grammar }))),
            (Dialect::Sglang, Some(grammar)) => Some(("ebnf", json!(grammar))),
            (Dialect::Plain, _) | (_, None) => None,
        },
    }
}
