//! The body of a request. All servers take OpenAI's fields; for more, such as a grammar, each has its own.

use longhand_proto::task::{Constraint, LengthControl, SamplingKey, Task};
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

/// The request's body, for at most `max_tokens` tokens of text.
pub(super) fn build(task: &Task, max_tokens: u32, dialect: Dialect, model: &str) -> Value {
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
    set("max_tokens", json!(max_tokens));
    set("temperature", json!(sampling.temperature));
    set("top_p", json!(sampling.top_p));
    // The widest integer that every server accepts.
    set("seed", json!(task.seed & 0x7fff_ffff));
    // A section is text for a reader: models that can think aloud are asked not to, each by the name its template knows. What
    // one thinks all the same is kept apart from its text.
    if dialect != Dialect::Plain {
        set("chat_template_kwargs", json!({ "enable_thinking": false, "thinking": false }));
    }
    match dialect {
        Dialect::Plain => {}
        Dialect::Vllm | Dialect::Sglang => {
            if dialect == Dialect::Sglang {
                set("separate_reasoning", json!(true));
            }
            // Both disable it with -1.
            set("top_k", if sampling.top_k == 0 { json!(-1) } else { json!(sampling.top_k) });
            set("min_p", json!(sampling.min_p));
            set("repetition_penalty", json!(sampling.repetition_penalty));
            if let Some(length) = task.length {
                // A word is at least one token.
                set("min_tokens", json!(((length.target_words as f32 * length.floor) as u32).min(max_tokens)));
            }
        }
        Dialect::LlamaCpp => {
            set("reasoning_format", json!("auto"));
            set("top_k", json!(sampling.top_k));
            set("min_p", json!(sampling.min_p));
            set("repeat_penalty", json!(sampling.repetition_penalty));
            set("repeat_last_n", json!(sampling.penalty_window));
            if sampling.dry_multiplier > 0.0 {
                set("dry_multiplier", json!(sampling.dry_multiplier));
                set("dry_base", json!(sampling.dry_base));
                set("dry_allowed_length", json!(sampling.dry_allowed_length));
                // By default the server looks at its whole context. It reserves memory for the number that it is told: the
                // largest takes 16 GB a request, and kills it.
                if sampling.dry_penalty_last_n > 0 {
                    set("dry_penalty_last_n", json!(sampling.dry_penalty_last_n));
                }
                // A list replaces the server's own, which these four are.
                let breakers = ["\n", ":", "\"", "*"].into_iter().chain(task.names.iter().map(String::as_str));
                set("dry_sequence_breakers", json!(breakers.collect::<Vec<_>>()));
            }
            // It has no minimum length but this: a word is at least one token.
            let below_floor = |length: LengthControl| length.target_words as f32 * length.floor >= max_tokens as f32;
            set("ignore_eos", json!(task.length.is_some_and(below_floor)));
        }
    }
    // A value that is left out is the server's own: vLLM and SGLang take what the model's makers recommend.
    for key in Vec::from(sampling.from_model) {
        for name in names(key) {
            body.remove(*name);
        }
    }
    if let Some((name, value)) = task.constraint.as_ref().and_then(|constraint| grammar(constraint, dialect)) {
        body.insert(name.to_owned(), value);
    }
    Value::Object(body)
}

/// What servers call a value.
const fn names(key: SamplingKey) -> &'static [&'static str] {
    match key {
        SamplingKey::Temperature => &["temperature"],
        SamplingKey::TopK => &["top_k"],
        SamplingKey::TopP => &["top_p"],
        SamplingKey::MinP => &["min_p"],
        SamplingKey::RepetitionPenalty => &["repetition_penalty", "repeat_penalty"],
    }
}

/// Tokens of text that fit behind the task's prompt: as the local engine does, a text ends where the context is full. The
/// prompt's tokens are not known here, so they are estimated, high rather than low; at least the words below the floor are
/// asked for, and then the server decides. A context of 0 is not known.
pub(super) fn max_tokens(task: &Task, context: u32) -> u32 {
    if context == 0 {
        return task.max_tokens;
    }
    let room = context.saturating_sub(estimated_prompt_tokens(task));
    task.max_tokens.min(room.max(min_tokens(task)))
}

/// Tokens without which a text is not worth a request: a word is at least one.
pub(super) fn min_tokens(task: &Task) -> u32 {
    let minimum = task.length.map_or(16, |length| (length.target_words as f32 * length.floor) as u32);
    minimum.clamp(1, task.max_tokens.max(1))
}

/// Three ASCII characters a token, one of any other, and the marks of the chat template.
fn estimated_prompt_tokens(task: &Task) -> u32 {
    let tokens = |text: &str| {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        text.chars().count() - ascii + ascii.div_ceil(3) + 8
    };
    let all: usize = task.messages.iter().map(|message| tokens(&message.content)).sum();
    u32::try_from(all + 16).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use longhand_proto::DocumentId;
    use longhand_proto::task::{Sampling, TaskKind};

    use super::*;

    fn body(sampling: Sampling, dialect: Dialect) -> Value {
        let task = Task {
            run: "test".parse().unwrap(),
            document: DocumentId::from_bytes([2; 16]),
            kind: TaskKind::Section,
            section: 0,
            attempt: 1,
            messages: Vec::new(),
            sampling,
            length: None,
            constraint: None,
            letters: longhand_proto::task::Letters::Any,
            words_left: 0,
            names: Vec::new(),
            ban: Vec::new(),
            max_tokens: 10,
            seed: 1,
            traceparent: String::new(),
        };
        build(&task, 10, dialect, "model")
    }

    #[test]
    fn a_value_that_the_model_recommends_is_left_to_the_server() {
        let keys = [SamplingKey::Temperature, SamplingKey::TopK, SamplingKey::RepetitionPenalty];
        let sampling = Sampling { from_model: keys.to_vec().into(), ..Sampling::default() };
        for dialect in [Dialect::Plain, Dialect::Vllm, Dialect::Sglang, Dialect::LlamaCpp] {
            let sent = body(sampling, dialect);
            let left_out = ["temperature", "top_k", "repetition_penalty", "repeat_penalty"];
            assert!(left_out.iter().all(|name| sent.get(name).is_none()) && sent.get("top_p").is_some(), "{sent}");
        }
    }

    #[test]
    fn dry_is_sent_where_it_is_known_and_on() {
        let on = Sampling { dry_multiplier: 0.5, ..Sampling::default() };
        let sent = body(on, Dialect::LlamaCpp);
        let fields =
            ["dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n"].map(|name| sent[name].as_f64());
        assert_eq!(fields, [Some(0.5), Some(1.75), Some(2.0), None], "the whole context is the server's default");
        let part = Sampling { dry_penalty_last_n: 64, ..on };
        assert_eq!(body(part, Dialect::LlamaCpp)["dry_penalty_last_n"], 64);
        for (sampling, dialect) in [(Sampling::default(), Dialect::LlamaCpp), (on, Dialect::Vllm), (on, Dialect::Plain)]
        {
            let sent = body(sampling, dialect).to_string();
            assert!(!sent.contains("dry_"), "{sent}");
        }
    }
}
