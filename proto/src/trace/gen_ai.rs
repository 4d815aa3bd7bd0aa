//! Attributes of OpenTelemetry's semantic conventions for generative AI. They change between versions, so all names are
//! kept in this file.

use opentelemetry::{Array, KeyValue, StringValue, Value};
use serde_json::json;

use crate::task::{FinishReason, Message, ModelInfo, Output, Sampling, Usage};

/// Version of the conventions; sent with every span.
pub const SCHEMA: &str = "https://opentelemetry.io/schemas/1.41.0";

/// Most characters of a prompt or a text in a span: collectors reject messages beyond 4 MiB, and a batch has many
/// spans.
const MAX_CONTENT_CHARS: usize = 16_384;

/// Attributes of a request to a model.
pub fn request(sampling: &Sampling, seed: u64) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.request.temperature", shortest_f64(sampling.temperature)),
        KeyValue::new("gen_ai.request.top_p", shortest_f64(sampling.top_p)),
        KeyValue::new("gen_ai.request.seed", seed as i64),
    ];
    if sampling.top_k > 0 {
        attributes.push(KeyValue::new("gen_ai.request.top_k", i64::from(sampling.top_k)));
    }
    attributes
}

/// The shortest decimal that reads back as `number`: 0.8, not 0.800000011920929.
fn shortest_f64(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

/// Attributes of a model's response.
pub fn response(model: &ModelInfo, output: &Output) -> Vec<KeyValue> {
    let Usage { prompt, cached, generated, .. } = output.usage;
    // A worker that uses a server names its engine `longhand 0.1.0 with vllm`.
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

/// The convention's value, where it has one.
const fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Ceiling => "stop",
        FinishReason::Length => "length",
        FinishReason::Repetition => "repetition",
    }
}

/// Prompt and text, for content tracing.
pub fn content(messages: &[Message], output: Option<&Output>) -> Vec<KeyValue> {
    let part = |text: &str| json!([{ "type": "text", "content": truncate(text) }]);
    let input: Vec<_> = messages.iter().map(|it| json!({ "role": it.role, "parts": part(&it.content) })).collect();
    let mut attributes = vec![KeyValue::new("gen_ai.input.messages", json!(input).to_string())];
    if let Some(output) = output {
        let reason = finish_reason(output.finish_reason);
        let answer = json!([{ "role": "assistant", "parts": part(&output.text), "finish_reason": reason }]);
        attributes.push(KeyValue::new("gen_ai.output.messages", answer.to_string()));
    }
    attributes
}

fn truncate(text: &str) -> String {
    match text.char_indices().nth(MAX_CONTENT_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} [{} more bytes]", &text[..end], text.len() - end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_in_the_recipe() {
        assert_eq!([0.8, 0.95, 1.0].map(shortest_f64), [0.8, 0.95, 1.0]);
    }

    #[test]
    fn a_long_text_is_truncated_at_a_character_and_says_so() {
        assert_eq!(truncate("short"), "short");
        let long = truncate(&"长".repeat(MAX_CONTENT_CHARS + 2));
        assert!(long.starts_with("长长") && long.ends_with("长 [6 more bytes]"), "{}", &long[long.len() - 40..]);
    }
}
