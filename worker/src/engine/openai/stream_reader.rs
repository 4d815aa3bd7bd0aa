//! The response stream: server-sent events, each with a delta of the text.

use longhand_proto::task::{Failure, FinishReason, Output, Sampling, Task, Timings, Usage};
use serde::Deserialize;
use tokio::time::Instant;

use super::request_error::{RequestError, error_message, rejected};
use crate::engine::generation_state::{Bounds, GenerationState};

/// Most bytes of one event; a longer line is a protocol error.
const MAX_LINE_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<UsageCounts>,
    /// llama.cpp's own counts, in every event: `usage` comes only at the end.
    timings: Option<LlamaTimings>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct LlamaTimings {
    #[serde(default)]
    prompt_n: u32,
    #[serde(default)]
    cache_n: u32,
    #[serde(default)]
    predicted_n: u32,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<String>,
    /// Reasoning before the text: progress, but no part of it.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct UsageCounts {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<PromptTokenDetails>,
}

impl From<LlamaTimings> for UsageCounts {
    fn from(LlamaTimings { prompt_n, cache_n, predicted_n }: LlamaTimings) -> Self {
        let details = PromptTokenDetails { cached_tokens: Some(cache_n) };
        let prompt_tokens = prompt_n + cache_n;
        Self { prompt_tokens, completion_tokens: predicted_n, prompt_tokens_details: Some(details) }
    }
}

#[derive(Debug, Deserialize)]
struct PromptTokenDetails {
    cached_tokens: Option<u32>,
}

/// Makes a text of the response's bytes.
#[derive(Debug)]
pub(super) struct StreamReader {
    line: Vec<u8>,
    generation: GenerationState,
    deltas: u32,
    started: Instant,
    first: Option<Instant>,
    /// Why the text ends: from the server, or from length control or loop detection here.
    finish: Option<FinishReason>,
    /// No more events are needed.
    done: bool,
    usage: Option<UsageCounts>,
}

impl StreamReader {
    pub(super) fn new(task: &Task, started: Instant) -> Self {
        // The server enforces max_tokens; a delta is one token or more, so this ends only a text that it does not end.
        let bounds = Bounds { length: task.length, max_tokens: task.max_tokens as usize + 1 };
        let generation = GenerationState::new(bounds, &Sampling::default(), &[], true);
        Self { line: Vec::new(), generation, deltas: 0, started, first: None, finish: None, done: false, usage: None }
    }

    /// Reads bytes of the response; returns the number of deltas in them.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, RequestError> {
        let before = self.deltas;
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > MAX_LINE_BYTES {
                return Err(RequestError::Interrupted("the server sent an event line longer than 1 MiB".into()));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.on_line(&String::from_utf8_lossy(&line))?;
            }
        }
        Ok((self.deltas - before) as usize)
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    fn on_line(&mut self, line: &str) -> Result<(), RequestError> {
        let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim) else { return Ok(()) };
        if self.done {
            return Ok(());
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|error| RequestError::Interrupted(format!("the server sent an invalid event: {error}")))?;
        if let Some(error) = chunk.error {
            let message = error_message(data);
            let client_error = error["code"].as_u64().is_some_and(|code| (400..500).contains(&code) && code != 429);
            return Err(if client_error {
                RequestError::Rejected(rejected(message))
            } else {
                RequestError::Interrupted(message)
            });
        }
        self.usage = chunk.usage.or(chunk.timings.map(UsageCounts::from)).or(self.usage.take());
        for choice in chunk.choices {
            self.on_delta(&choice.delta);
            if self.finish.is_none()
                && let Some(reason) = choice.finish_reason
            {
                self.finish = Some(finish_reason(&reason)?);
            }
        }
        Ok(())
    }

    fn on_delta(&mut self, delta: &Delta) {
        let new = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !new(&delta.content) && !new(&delta.reasoning_content) {
            return;
        }
        self.deltas += 1;
        self.first.get_or_insert_with(Instant::now);
        if let Some(text) = delta.content.as_deref().filter(|text| !text.is_empty())
            && let Some(end) = self.generation.push(token_of(text), text.as_bytes())
        {
            self.finish = Some(end);
            self.done = true;
        }
    }

    /// The text, if the server or a limit has ended it.
    pub(super) fn finish(self) -> Result<Output, RequestError> {
        let Some(finish_reason) = self.finish else {
            return Err(RequestError::Interrupted("the response ended before the text was complete".into()));
        };
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let (prompt, generated, cached) = match self.usage {
            Some(usage) => {
                let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
                (usage.prompt_tokens, usage.completion_tokens, cached)
            }
            // Stopped here, or a server without usage counts: a delta is a token, as a rule.
            None => (0, self.deltas, 0),
        };
        Ok(Output {
            text: self.generation.into_text(),
            finish_reason,
            usage: Usage { prompt, cached, reusable: cached, generated, resumed: 0 },
            timings: Timings {
                queue_ms: 0,
                prefill_ms: first.duration_since(self.started).as_millis() as u64,
                decode_ms: now.duration_since(first).as_millis() as u64,
            },
        })
    }
}

fn finish_reason(text: &str) -> Result<FinishReason, RequestError> {
    match text {
        "stop" | "eos" | "stop_sequence" => Ok(FinishReason::Stop),
        "length" => Ok(FinishReason::Length),
        "content_filter" => Err(rejected_as("content_filter", "the server's content filter stopped the text".into())),
        "abort" | "cancelled" => Err(RequestError::Interrupted("the server aborted the request".into())),
        other => Err(rejected_as(
            "server_finish",
            format!("invalid finish reason {other:?} from the server: expected stop or length"),
        )),
    }
}

fn rejected_as(class: &str, message: String) -> RequestError {
    RequestError::Rejected(Failure { class: class.into(), message, permanent: false })
}

/// A number for a delta, by which loop detection recognises it.
fn token_of(text: &str) -> u32 {
    let hash = blake3::hash(text.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
