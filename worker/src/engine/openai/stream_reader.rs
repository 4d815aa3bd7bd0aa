//! The response stream: server-sent events, each with a delta of the text.

use longhand_proto::task::{Failure, FinishReason, Output, Task, Timings, Usage};
use serde_json::Value;
use tokio::time::Instant;

use super::event::{End, Event, UsageCounts};
use super::thinking::{Filtered, ThoughtFilter};
use super::trouble::{self, RequestError};
use crate::engine::generation_state::{Bounds, GenerationState, Outcome, TextRules};

/// Most bytes of one line, and of an answer that is no stream; more are a protocol error.
const MAX_BYTES: usize = 4 << 20;
/// Characters shown of an answer that is neither a stream nor JSON.
const MAX_SHOWN_CHARS: usize = 200;

/// Makes a text of the response's bytes.
#[derive(Debug)]
pub(super) struct StreamReader {
    line: Vec<u8>,
    /// Data lines of an event that is not complete yet.
    data: String,
    /// Lines that belong to no event: an answer that is no stream.
    plain: String,
    events: u32,
    bounds: Bounds,
    generation: GenerationState,
    thoughts: ThoughtFilter,
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
    pub(super) fn new(task: &Task, max_tokens: u32, started: Instant) -> Self {
        // The server enforces max_tokens; a delta is one token or more, so this ends only a text that it does not end.
        let bounds = Bounds { length: task.length, max_tokens: max_tokens as usize + 1 };
        Self {
            line: Vec::new(),
            data: String::new(),
            plain: String::new(),
            events: 0,
            bounds,
            generation: new_generation(bounds),
            thoughts: ThoughtFilter::default(),
            deltas: 0,
            started,
            first: None,
            finish: None,
            done: false,
            usage: None,
        }
    }

    /// Reads bytes of the response; returns the number of deltas in them.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, RequestError> {
        let before = self.deltas;
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() + self.plain.len() > MAX_BYTES {
                return Err(RequestError::Interrupted("the server sent an event longer than 4 MiB".into()));
            }
            if part.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok((self.deltas - before) as usize)
    }

    /// True if no more events are needed.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// True if the text is whole; at most counts come after it.
    pub(super) fn has_finish(&self) -> bool {
        self.finish.is_some()
    }

    fn end_line(&mut self) -> Result<(), RequestError> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_start_matches('\u{feff}').trim_end();
        if self.done {
            return Ok(());
        }
        if let Some(data) = line.strip_prefix("data:") {
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            self.data.push('\n');
            return self.on_data(false);
        }
        if line.is_empty() {
            return self.on_data(true);
        }
        // A colon begins a comment; the other fields say nothing that the data does not.
        if ![":", "event:", "id:", "retry:"].iter().any(|field| line.starts_with(field)) {
            self.plain.push_str(line);
            self.plain.push('\n');
        }
        Ok(())
    }

    /// Handles the data lines if they are complete, as they must be where the event ends.
    fn on_data(&mut self, ends: bool) -> Result<(), RequestError> {
        match self.data.trim() {
            "" => {}
            "[DONE]" => self.done = true,
            data => match serde_json::from_str(data) {
                Ok(value) => {
                    self.data.clear();
                    self.events += 1;
                    return self.on_event(&value);
                }
                // The text is whole; what comes behind it does not matter.
                Err(_) if self.has_finish() => self.done = ends,
                Err(_) if !ends => return Ok(()),
                Err(error) => {
                    let message = format!("the server sent an invalid event: {error}: {}", shown(data));
                    return Err(RequestError::Interrupted(message));
                }
            },
        }
        if ends || self.done {
            self.data.clear();
        }
        Ok(())
    }

    fn on_event(&mut self, value: &Value) -> Result<(), RequestError> {
        if trouble::is_error(value) {
            if self.has_finish() {
                self.done = true;
                return Ok(());
            }
            return Err(trouble::of_error(value));
        }
        let event = Event::read(value);
        self.usage = event.usage.or(self.usage);
        if self.has_finish() {
            // Counts are the last that is needed.
            self.done = event.usage.is_some();
            return Ok(());
        }
        if !event.text.is_empty() || event.reasoning {
            self.deltas += 1;
            self.first.get_or_insert_with(Instant::now);
        }
        if !event.text.is_empty() {
            match self.thoughts.push(&event.text) {
                Filtered::Text(text) => self.push(&text),
                Filtered::Restart(text) => {
                    self.generation = new_generation(self.bounds);
                    self.push(&text);
                }
                Filtered::Misplaced(mark) => return Err(misplaced(mark)),
            }
        }
        match event.end {
            Some(_) if self.done => {}
            None => {}
            Some(End::Finished(reason)) => self.finish = Some(reason),
            Some(End::Filtered) => {
                return Err(failed("content_filter", "the server's content filter stopped the text".into()));
            }
            Some(End::Aborted) => {
                return Err(RequestError::Interrupted("the server aborted the request".into()));
            }
            Some(End::Unknown(other)) => {
                let message = format!("invalid finish reason {other:?} from the server: expected stop or length");
                return Err(failed("server_finish", message));
            }
        }
        Ok(())
    }

    fn push(&mut self, text: &str) {
        if !text.is_empty()
            && let Outcome::Ends(end) = self.generation.push(token_of(text), text.as_bytes())
        {
            self.finish = Some(end);
            self.done = true;
        }
    }

    /// The text, if the server or a limit has ended it.
    pub(super) fn finish(mut self) -> Result<Output, RequestError> {
        if !self.done {
            // The last line may lack its end, and the last event the empty line behind it.
            self.end_line()?;
            self.on_data(true)?;
        }
        if self.events == 0 && self.deltas == 0 && !self.plain.trim().is_empty() {
            // A server that does not stream, or an error that is called a success.
            let value = serde_json::from_str(&self.plain).map_err(|_| {
                RequestError::Interrupted(format!("the server sent no event stream: {}", shown(&self.plain)))
            })?;
            self.on_event(&value)?;
        }
        let Some(finish_reason) = self.finish else {
            return Err(RequestError::Interrupted("the response ended before the text was complete".into()));
        };
        match self.thoughts.finish() {
            Ok(held) if !held.is_empty() => {
                // The server has ended the text already.
                self.generation.push(token_of(&held), held.as_bytes());
            }
            Ok(_) => {}
            Err(mark) => return Err(misplaced(mark)),
        }
        let now = Instant::now();
        let first = self.first.unwrap_or(now);
        // Stopped here, or a server without counts: a delta is a token, as a rule.
        let usage = self.usage.unwrap_or_default();
        let generated = usage.generated.unwrap_or(self.deltas);
        Ok(Output {
            text: self.generation.into_text(),
            finish_reason,
            usage: Usage {
                prompt: usage.prompt,
                cached: usage.cached,
                reusable: usage.cached,
                generated,
                ..Usage::default()
            },
            timings: Timings {
                queue_ms: 0,
                prefill_ms: first.duration_since(self.started).as_millis() as u64,
                decode_ms: now.duration_since(first).as_millis() as u64,
            },
        })
    }
}

fn new_generation(bounds: Bounds) -> GenerationState {
    GenerationState::new(TextRules::fixed(bounds), &[])
}

fn misplaced(mark: &str) -> RequestError {
    failed(
        "thinking_in_text",
        format!(
            "the model's thinking is in its text ({mark} where none belongs, or none where one does): switch thinking off on \
             the server, or start the server with a reasoning parser"
        ),
    )
}

fn failed(class: &str, message: String) -> RequestError {
    RequestError::Document(Failure { class: class.into(), message, permanent: false })
}

fn shown(text: &str) -> String {
    text.trim().chars().take(MAX_SHOWN_CHARS).collect()
}

/// A number for a delta, by which loop detection recognises it.
fn token_of(text: &str) -> u32 {
    let hash = blake3::hash(text.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use longhand_proto::DocumentId;
    use longhand_proto::task::{Letters, Message, Sampling, TaskKind};

    use super::*;

    fn task() -> Task {
        Task {
            run: "test".parse().unwrap(),
            document: DocumentId::from_bytes([2; 16]),
            kind: TaskKind::Section,
            section: 0,
            attempt: 1,
            messages: vec![Message { role: "user".into(), content: "x".into() }],
            sampling: Sampling::default(),
            length: None,
            constraint: None,
            ban: Vec::new(),
            letters: Letters::Any,
            words_left: 0,
            names: Vec::new(),
            max_tokens: 1000,
            seed: 1,
            traceparent: String::new(),
        }
    }

    /// The text of a response that comes in pieces of `size` bytes.
    fn text(response: &str, size: usize) -> Result<String, RequestError> {
        let mut reader = StreamReader::new(&task(), 1000, Instant::now());
        for bytes in response.as_bytes().chunks(size) {
            reader.read(bytes)?;
            if reader.is_done() {
                break;
            }
        }
        Ok(reader.finish()?.text)
    }

    const DELTA: &str = r#"{"choices":[{"delta":{"content":"The 港."}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn a_text_that_was_ended_is_whole_whatever_comes_behind_it() {
        for response in [
            format!("data: {DELTA}\n\ndata: {STOP}\n\ndata: [DONE]\n\n"),
            format!("data:{DELTA}\r\n\r\ndata:{STOP}\r\n\r\n"),
            format!(": ping\n\ndata: {DELTA}\n\n: ping\n\ndata: {STOP}\n"),
            format!("data: {DELTA}\ndata: {STOP}"),
            format!("data: {DELTA}\n\ndata: {STOP}\n\ndata: {{\"choices\":[],\"usa"),
            format!("data: {DELTA}\n\ndata: {STOP}\n\ndata: {{\"error\":{{\"message\":\"late\"}}}}\n\n"),
            format!("event: message\nid: 1\ndata: {DELTA}\n\nevent: message\ndata: {STOP}\n\nretry: 5\n"),
            "data: {\"choices\":[{\ndata: \"delta\":{\"content\":\"The 港.\"},\"finish_reason\":\"stop\"}]}\n\n"
                .to_owned(),
            r#"{"choices":[{"message":{"content":"The 港."},"finish_reason":"stop"}]}"#.to_owned(),
            "{\n \"choices\": [\n  {\"message\": {\"content\": \"The 港.\"}, \"finish_reason\": \"stop\"}\n ]\n}\n"
                .to_owned(),
        ] {
            for size in [1, 7, 100_000] {
                assert_eq!(text(&response, size).unwrap(), "The 港.", "{response}");
            }
        }
    }

    #[test]
    fn a_text_that_was_not_ended_is_none_and_the_servers_own_words_are_shown() {
        for (response, shown) in [
            (format!("data: {DELTA}\n\n"), "before the text was complete"),
            (format!("data: {DELTA}\n\ndata: [DONE]\n\n"), "before the text was complete"),
            (format!("data: {DELTA}\n\ndata: {{\"choi"), "invalid event"),
            ("data: {\"object\":\"error\",\"message\":\"no memory\"}\n\n".to_owned(), "no memory"),
            ("event: error\ndata: {\"message\":\"no memory\"}\n\n".to_owned(), "no memory"),
            (r#"{"error":{"message":"no memory"}}"#.to_owned(), "no memory"),
            (r#"{"object":"error","message":"no memory","code":500}"#.to_owned(), "no memory"),
            ("<html>Sign in</html>".to_owned(), "<html>Sign in</html>"),
            (String::new(), "before the text was complete"),
        ] {
            match text(&response, 9) {
                Err(RequestError::Interrupted(message)) => assert!(message.contains(shown), "{message}"),
                other => panic!("{response}: {other:?}"),
            }
        }
    }

    /// Nothing that a server sends is a panic, and into which pieces the network cuts it changes nothing.
    #[test]
    fn no_stream_panics_and_each_is_read_alike_in_any_pieces() {
        use longhand_tests::spoil::{seeds, spoiled};

        const PIECES: &[&str] = &[
            "data:",
            "data: ",
            "\n\n",
            "\r\n",
            "[DONE]",
            "event: error\n",
            ": ping\n",
            "null",
            "1e999",
            "-1",
            "\\ud83d",
            "\u{feff}",
            "\"delta\":null",
            "\"choices\":[",
            "\"usage\":{\"prompt_tokens\":1e30}",
            "<think>",
            "</think>",
            "\"finish_reason\":\"length\"",
            "{\"error\":{\"code\":429}}",
            "\"content\":[{\"text\":\"x\"}]",
        ];
        let good = format!(
            ": ping\n\ndata: {DELTA}\n\nevent: message\ndata: {DELTA}\n\ndata: {STOP}\n\n\
             data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":3}}}}\n\ndata: [DONE]\n\n"
        );
        for seed in seeds(2_000) {
            longhand_proto::rng::seed(seed);
            let stream = spoiled(good.as_bytes(), PIECES);
            let read = |size: usize| {
                let mut reader = StreamReader::new(&task(), 1000, Instant::now());
                for bytes in stream.chunks(size) {
                    reader.read(bytes).map_err(|error| format!("{error:?}"))?;
                    if reader.is_done() {
                        break;
                    }
                }
                reader.finish().map(|output| output.text).map_err(|error| format!("{error:?}"))
            };
            let whole = read(usize::MAX);
            for size in [1, 7] {
                let pieces = read(size);
                assert_eq!(pieces.is_ok(), whole.is_ok(), "seed {seed}: {}", String::from_utf8_lossy(&stream));
                assert_eq!(pieces.ok(), whole.clone().ok(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_field_that_comes_twice_in_one_event_is_read_once() {
        let twice =
            r#"{"choices":[{"delta":{"reasoning":"Hm","reasoning":"Hm","content":"The 港.","content":"The 港."}}]}"#;
        assert_eq!(text(&format!("data: {twice}\n\ndata: {STOP}\n\n"), 9).unwrap(), "The 港.");
    }

    #[test]
    fn thoughts_before_the_text_do_not_count_and_others_are_the_documents_error() {
        let response = |parts: &[&str]| {
            let events = parts.iter().map(|part| {
                let event = serde_json::json!({ "choices": [{ "delta": { "content": part } }] });
                format!("data: {event}\n\n")
            });
            format!("{}data: {STOP}\n\n", events.collect::<String>())
        };
        assert_eq!(text(&response(&["<th", "ink>Hm.", "</think>\n", "\nThe 港."]), 50).unwrap(), "The 港.");
        assert_eq!(text(&response(&["Hm.", "</think>", "The 港."]), 50).unwrap(), "The 港.");
        for parts in [&["The 港.", "<think>"][..], &["<think>", "on and on"]] {
            match text(&response(parts), 50) {
                Err(RequestError::Document(failure)) => assert_eq!(failure.class, "thinking_in_text"),
                other => panic!("{other:?}"),
            }
        }
    }
}
