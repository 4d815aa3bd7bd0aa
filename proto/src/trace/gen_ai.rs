//! Names of OpenTelemetry's conventions for generative AI, which change between versions: they stand here and nowhere
//! else.

use opentelemetry::{Array, KeyValue, StringValue, Value};
use serde_json::json;

use crate::task::{FinishReason, Message, ModelInfo, Output, Sampling, Usage};

/// The version that the names are of; stated with every span.
pub const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.0";

/// Characters of a prompt or a text that a span holds where content was asked for: collectors refuse messages beyond 4
/// MiB, and a batch holds many spans.
const CONTENT: usize = 16_384;

/// What a model is asked.
pub fn request(sampling: &Sampling, seed: u64) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.request.temperature", plain(sampling.temperature)),
        KeyValue::new("gen_ai.request.top_p", plain(sampling.top_p)),
        KeyValue::new("gen_ai.request.seed", seed as i64),
    ];
    if sampling.top_k > 0 {
        attributes.push(KeyValue::new("gen_ai.request.top_k", i64::from(sampling.top_k)));
    }
    attributes
}

/// The number that a person wrote: 0.8, not 0.800000011920929.
fn plain(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

/// Which model answered, and how.
pub fn response(model: &ModelInfo, output: &Output) -> Vec<KeyValue> {
    let Usage { prompt, cached, generated, .. } = output.usage;
    // The engine of a worker that asks a server is called `longhand 0.1.0 with vllm`.
    let provider = model.engine.split_once(" with ").map_or("longhand", |(_, server)| server);
    let reason: StringValue = finish_reason(output.finish_reason).into();
    vec![
        KeyValue::new("gen_ai.provider.name", provider.to_owned()),
        KeyValue::new("gen_ai.request.model", model.name.clone()),
        KeyValue::new("gen_ai.response.model", model.name.clone()),
        KeyValue::new("gen_ai.response.finish_reasons", Value::Array(Array::String(vec![reason]))),
        KeyValue::new("gen_ai.usage.input_tokens", i64::from(prompt)),
        KeyValue::new("gen_ai.usage.cache_read.input_tokens", i64::from(cached)),
        KeyValue::new("gen_ai.usage.output_tokens", i64::from(generated)),
    ]
}

/// The convention's word, where it has one.
const fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Ceiling => "stop",
        FinishReason::Length => "length",
        FinishReason::Repetition => "repetition",
    }
}

/// The prompt and the text: only where they were asked for.
pub fn content(messages: &[Message], output: Option<&Output>) -> Vec<KeyValue> {
    let part = |text: &str| json!([{ "type": "text", "content": cut(text) }]);
    let asked: Vec<_> = messages.iter().map(|it| json!({ "role": it.role, "parts": part(&it.content) })).collect();
    let mut attributes = vec![KeyValue::new("gen_ai.input.messages", json!(asked).to_string())];
    if let Some(output) = output {
        let reason = finish_reason(output.finish_reason);
        let answer = json!([{ "role": "assistant", "parts": part(&output.text), "finish_reason": reason }]);
        attributes.push(KeyValue::new("gen_ai.output.messages", answer.to_string()));
    }
    attributes
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(CONTENT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} [{} more bytes]", &text[..end], text.len() - end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_as_the_recipe_has_them() {
        assert_eq!([0.8, 0.95, 1.0].map(plain), [0.8, 0.95, 1.0]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("short"), "short");
        let long = cut(&"长".repeat(CONTENT + 2));
        assert!(long.starts_with("长长") && long.ends_with("长 [6 more bytes]"), "{}", &long[long.len() - 40..]);
    }
}
