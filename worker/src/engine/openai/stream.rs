//! The answer as it comes: server-sent events, each with a piece of the text.

use longhand_proto::task::{Failure, FinishReason, Output, Sampling, Task, Timings, Usage};
use serde::Deserialize;
use tokio::time::Instant;

use super::server::{Trouble, reason, refused};
use crate::engine::draft::{Bounds, Draft};

/// Bytes of one event; a server that sends more without a line's end is broken.
const LINE: usize = 1 << 20;

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Counted>,
    /// llama.cpp's own count, in every event: the other comes only at the end.
    timings: Option<Timed>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Timed {
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
    /// What a model thinks before it writes: progress, but no text.
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<Details>,
}

impl From<Timed> for Counted {
    fn from(Timed { prompt_n, cache_n, predicted_n }: Timed) -> Self {
        let details = Details { cached_tokens: Some(cache_n) };
        let prompt_tokens = prompt_n + cache_n;
        Self { prompt_tokens, completion_tokens: predicted_n, prompt_tokens_details: Some(details) }
    }
}

#[derive(Debug, Deserialize)]
struct Details {
    cached_tokens: Option<u32>,
}

/// Takes the answer's bytes and makes a text of them.
#[derive(Debug)]
pub(super) struct Reader {
    line: Vec<u8>,
    draft: Draft,
    pieces: u32,
    began: Instant,
    first: Option<Instant>,
    /// Why the text ends: said by the server, or by its length or a loop here.
    finish: Option<FinishReason>,
    /// Nothing more is wanted from the server.
    over: bool,
    usage: Option<Counted>,
}

impl Reader {
    pub(super) fn new(task: &Task, began: Instant) -> Self {
        // The server counts its tokens; a piece is one or more, so this ends only a text that it does not end itself.
        let bounds = Bounds { length: task.length, max_tokens: task.max_tokens as usize + 1 };
        let draft = Draft::new(bounds, &Sampling::default(), &[], true);
        Self { line: Vec::new(), draft, pieces: 0, began, first: None, finish: None, over: false, usage: None }
    }

    /// The number of pieces in these bytes.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let before = self.pieces;
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() > LINE {
                return Err(Trouble::Cut("the server sends a line without an end".into()));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.event(&String::from_utf8_lossy(&line))?;
            }
        }
        Ok((self.pieces - before) as usize)
    }

    pub(super) fn ended(&self) -> bool {
        self.over
    }

    fn event(&mut self, line: &str) -> Result<(), Trouble> {
        let Some(data) = line.trim_end().strip_prefix("data:").map(str::trim) else { return Ok(()) };
        if self.over {
            return Ok(());
        }
        if data == "[DONE]" {
            self.over = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|error| Trouble::Cut(format!("the server sends what is no answer: {error}")))?;
        if let Some(error) = chunk.error {
            let message = reason(data);
            let own = error["code"].as_u64().is_some_and(|code| (400..500).contains(&code) && code != 429);
            return Err(if own { Trouble::Refused(refused(message)) } else { Trouble::Cut(message) });
        }
        self.usage = chunk.usage.or(chunk.timings.map(Counted::from)).or(self.usage.take());
        for choice in chunk.choices {
            self.piece(&choice.delta);
            if self.finish.is_none()
                && let Some(reason) = choice.finish_reason
            {
                self.finish = Some(finish_reason(&reason)?);
            }
        }
        Ok(())
    }

    fn piece(&mut self, delta: &Delta) {
        let new = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !new(&delta.content) && !new(&delta.reasoning_content) {
            return;
        }
        self.pieces += 1;
        self.first.get_or_insert_with(Instant::now);
        if let Some(text) = delta.content.as_deref().filter(|text| !text.is_empty())
            && let Some(end) = self.draft.push(name(text), text.as_bytes())
        {
            self.finish = Some(end);
            self.over = true;
        }
    }

    /// The text, once the server has said that it is one.
    pub(super) fn finish(self) -> Result<Output, Trouble> {
        let Some(finish_reason) = self.finish else {
            return Err(Trouble::Cut("the server's answer broke off".into()));
        };
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        let (prompt, generated, cached) = match self.usage {
            Some(usage) => {
                let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
                (usage.prompt_tokens, usage.completion_tokens, cached)
            }
            // Stopped from here, or a server that does not count: a piece is a token, as a rule.
            None => (0, self.pieces, 0),
        };
        Ok(Output {
            text: self.draft.into_text(),
            finish_reason,
            usage: Usage { prompt, cached, reusable: cached, generated, resumed: 0 },
            timings: Timings {
                queue_ms: 0,
                prefill_ms: first.duration_since(self.began).as_millis() as u64,
                decode_ms: now.duration_since(first).as_millis() as u64,
            },
        })
    }
}

fn finish_reason(text: &str) -> Result<FinishReason, Trouble> {
    match text {
        "stop" | "eos" | "stop_sequence" => Ok(FinishReason::Stop),
        "length" => Ok(FinishReason::Length),
        "content_filter" => Err(failed("content_filter", "the server's content filter stopped the text".into())),
        "abort" | "cancelled" => Err(Trouble::Cut("the server aborted the request".into())),
        other => Err(failed("server_finish", format!("the server ended the text with {other:?}, which is no end"))),
    }
}

fn failed(class: &str, message: String) -> Trouble {
    Trouble::Refused(Failure { class: class.into(), message, permanent: false })
}

/// A number for a piece of text, by which the loop stop knows it again.
fn name(text: &str) -> u32 {
    let hash = blake3::hash(text.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
