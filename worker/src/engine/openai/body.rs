//! A task as a request. All servers take OpenAI's fields; for more, such as a grammar, each has its own words.

use longhand_proto::task::{Constraint, LengthControl, Task};
use serde_json::{Map, Value, json};

use super::gbnf;

/// Which server it is, as far as that matters. Told from the `owned_by` of its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's own fields and no others: an unknown one may be refused.
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
            // The second is what its Python binding says.
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
pub(super) fn of(task: &Task, dialect: Dialect, model: &str) -> Value {
    let sampling = &task.sampling;
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    set("model", json!(model));
    set("messages", json!(task.messages));
    set("stream", json!(true));
    // Counts in every event where a server can: a text that is stopped from here has no last one.
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
    // The widest that every server reads.
    set("seed", json!(task.seed & 0x7fff_ffff));
    match dialect {
        Dialect::Plain => {}
        Dialect::Vllm | Dialect::Sglang => {
            // Both count none as -1.
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
            // It knows no least length but this one: a word is at least one token.
            let below_floor =
                |length: LengthControl| length.target_words as f32 * length.floor >= task.max_tokens as f32;
            set("ignore_eos", json!(task.length.is_some_and(below_floor)));
        }
    }
    match &task.constraint {
        None => {}
        Some(Constraint::JsonSchema(schema)) => {
            let schema: Value = serde_json::from_str(schema).unwrap_or(json!({}));
            let format = json!({ "name": "answer", "schema": schema, "strict": true });
            set("response_format", json!({ "type": "json_schema", "json_schema": format }));
        }
        // Without a grammar, or with one that has no twin there, the coordinator checks the text and asks again.
        Some(Constraint::Lark(lark)) => match (dialect, gbnf::of_lark(lark)) {
            (Dialect::LlamaCpp, Some(grammar)) => set("grammar", json!(grammar)),
            (Dialect::Vllm, Some(grammar)) => set("structured_outputs", json!({ "grammar": grammar })),
            (Dialect::Sglang, Some(grammar)) => set("ebnf", json!(grammar)),
            (Dialect::Plain, _) | (_, None) => {}
        },
    }
    Value::Object(body)
}
