//! The engine that asks a server, against a server that breaks off, refuses and has no room, as told. A real server is
//! asked in the tests of the program.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use longhand_proto::task::{Constraint, FinishReason};
use longhand_worker::engine::Engine;
use longhand_worker::engine::openai::{OpenAiEngine, OpenAiError, OpenAiOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::tasks::{length, read, task};

/// What the server does with the next request for a text.
enum Act {
    /// Answers with this status, headers and body.
    Answer(&'static str, &'static str, String),
    /// Streams these lines of data, then closes the connection.
    Stream(Vec<String>),
    /// Streams words for ever.
    Babble,
}

struct Scripted {
    base_url: String,
    asked: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Scripted {
    /// The acts in their order; then the connection is closed at every request.
    async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (acts, asked) = (Arc::new(Mutex::new(acts.into_iter().collect::<VecDeque<_>>())), Arc::default());
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(socket, Arc::clone(&acts), Arc::clone(&log)));
            }
        });
        Self { base_url, asked }
    }

    async fn engine(&self) -> OpenAiEngine {
        self.engine_with_timeout(Duration::from_secs(60)).await
    }

    async fn engine_with_timeout(&self, idle_timeout: Duration) -> OpenAiEngine {
        let base_url = self.base_url.clone();
        OpenAiEngine::connect(OpenAiOptions { base_url, model: None, api_key: None, slots: 8, idle_timeout })
            .await
            .unwrap()
    }

    fn asked(&self) -> Vec<(Instant, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(mut socket: TcpStream, acts: Arc<Mutex<VecDeque<Act>>>, log: Arc<Mutex<Vec<(Instant, Value)>>>) {
    let (path, body) = request(&mut socket).await;
    let plain = |status: &str, headers: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    };
    if path == "/v1/models" {
        let models = json!({ "data": [{ "id": "small", "owned_by": "llamacpp", "meta": { "n_ctx": 4096 } }] });
        socket.write_all(plain("200 OK", "", &models.to_string()).as_bytes()).await.unwrap();
        return;
    }
    assert_eq!(path, "/v1/chat/completions");
    log.lock().unwrap().push((Instant::now(), serde_json::from_slice(&body).unwrap()));
    let act = acts.lock().unwrap().pop_front();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    match act {
        None => {}
        Some(Act::Answer(status, headers, body)) => {
            socket.write_all(plain(status, headers, &body).as_bytes()).await.unwrap();
        }
        Some(Act::Stream(lines)) => {
            socket.write_all(head.as_bytes()).await.unwrap();
            for line in lines {
                socket.write_all(format!("data: {line}\n\n").as_bytes()).await.unwrap();
            }
        }
        Some(Act::Babble) => {
            socket.write_all(head.as_bytes()).await.unwrap();
            for number in 0.. {
                // Ends when the other side has had enough. Letters alone: a number's stop ends no sentence.
                let word: String =
                    format!("{number}").chars().map(|digit| (digit as u8 - b'0' + b'a') as char).collect();
                let line = format!("data: {}\n\n", piece(&format!(" very{word}.")));
                if socket.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
        }
    }
}

async fn request(socket: &mut TcpStream) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let head = loop {
        socket.read_buf(&mut bytes).await.unwrap();
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let length = text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let length: usize = length.map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head + 4 + length {
        socket.read_buf(&mut bytes).await.unwrap();
    }
    (text.split(' ').nth(1).unwrap().to_owned(), bytes[head + 4..].to_vec())
}

fn piece(text: &str) -> String {
    json!({ "choices": [{ "delta": { "content": text }, "finish_reason": null }] }).to_string()
}

fn end(reason: &str) -> String {
    json!({ "choices": [{ "delta": {}, "finish_reason": reason }] }).to_string()
}

fn whole(reason: &str) -> Act {
    let usage = json!({ "choices": [], "usage": {
        "prompt_tokens": 90, "completion_tokens": 3, "prompt_tokens_details": { "cached_tokens": 40 } } });
    Act::Stream(vec![piece("The "), piece("har"), piece("bour."), end(reason), usage.to_string(), "[DONE]".into()])
}

fn refused(status: &'static str, message: &str) -> Act {
    Act::Answer(status, "", json!({ "error": { "message": message } }).to_string())
}

#[tokio::test]
async fn a_text_comes_with_its_end_and_its_token_counts() {
    let server = Scripted::start([whole("stop")]).await;
    let engine = server.engine().await;
    assert_eq!((engine.model().name.as_str(), engine.model().context), ("small", 4096));
    let seen = read(engine.start(task(1, "About harbours."), None)).await;
    let output = seen.output();
    assert_eq!((output.text.as_str(), output.finish_reason), ("The harbour.", FinishReason::Stop));
    let usage = output.usage;
    assert_eq!((usage.prompt, usage.cached, usage.generated, usage.resumed), (90, 40, 3, 0));
    assert_eq!(engine.stats().generated_tokens, 3);
    let body = &server.asked()[0].1;
    assert_eq!(body["messages"][0]["content"], "About harbours.");
}

#[tokio::test]
async fn a_cut_text_is_never_taken_for_a_whole_one() {
    let server = Scripted::start([whole("length")]).await;
    let seen = read(server.engine().await.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Length);

    // The connection breaks in the middle, the server fails, and then it writes: the text stands there once.
    let server = Scripted::start([
        Act::Stream(vec![piece("The "), piece("old ")]),
        refused("500 Internal Server Error", "out of memory"),
        Act::Stream(vec![piece("The "), json!({ "error": { "message": "crash", "code": 500 } }).to_string()]),
        whole("stop"),
    ])
    .await;
    let seen = read(server.engine().await.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn what_is_no_end_is_a_failure_and_no_text() {
    for (reason, class) in [("content_filter", "content_filter"), ("tool_calls", "server_finish")] {
        let server = Scripted::start([whole(reason)]).await;
        let seen = read(server.engine().await.start(task(1, "x"), None)).await;
        let failure = seen.failure();
        assert_eq!((failure.class.as_str(), failure.permanent), (class, false));
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_no_sooner_than_it_said() {
    let busy = Act::Answer("429 Too Many Requests", "retry-after: 1\r\n", "{}".into());
    let server = Scripted::start([busy, whole("stop")]).await;
    let engine = server.engine().await;
    assert_eq!(engine.slots(), 8);
    let seen = read(engine.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    let asked = server.asked();
    assert!(asked[1].0 - asked[0].0 >= Duration::from_secs(1), "{:?}", asked[1].0 - asked[0].0);
    assert_eq!(engine.slots(), 4, "it takes fewer documents for a while");
}

#[tokio::test]
async fn a_request_that_cannot_be_met_fails_for_good_with_the_servers_words() {
    for (status, message, class) in [
        ("400 Bad Request", "This model's maximum context length is 4096 tokens", "context_too_small"),
        ("422 Unprocessable Entity", "messages: field required", "server_refused"),
    ] {
        let server = Scripted::start([refused(status, message)]).await;
        let seen = read(server.engine().await.start(task(1, "x"), None)).await;
        let failure = seen.failure();
        assert_eq!((failure.class.as_str(), failure.permanent), (class, true));
        assert!(failure.message.contains(message), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_server_that_writes_no_more_is_a_dead_engine() {
    let server = Scripted::start([refused("401 Unauthorized", "key expired")]).await;
    let engine = server.engine().await;
    assert!(engine.dead().now_or_never().is_none());
    let seen = read(engine.start(task(1, "x"), None)).await;
    assert_eq!(seen.failure().class, "engine_dead");
    assert!(engine.dead().await.contains("key expired"));

    // Gone, and back for nobody.
    let server = Scripted::start([]).await;
    let engine = server.engine_with_timeout(Duration::from_millis(300)).await;
    let seen = read(engine.start(task(1, "x"), None)).await;
    assert_eq!(seen.failure().class, "engine_dead");
    assert!(engine.dead().await.contains("no text from"));
}

#[tokio::test]
async fn length_control_stops_a_server_that_would_go_on() {
    let server = Scripted::start([Act::Babble]).await;
    let mut task = task(1, "x");
    task.length = Some(length(100));
    task.max_tokens = 1000;
    task.constraint = Some(Constraint::Lark("start: \"a\" REST\nREST: /[b-z]+/\n".into()));
    let seen = read(server.engine().await.start(task, None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Ceiling);
    assert!(seen.output().text.ends_with('.'));
    let mut task = crate::tasks::task(2, "x");
    task.max_tokens = 50;
    let server_two = Scripted::start([Act::Babble]).await;
    let seen = read(server_two.engine().await.start(task, None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Length, "a server that does not keep to max_tokens");
    assert_eq!(server.asked()[0].1["grammar"], "root ::= \"a\" rest\nrest ::= [b-z]+\n");
}

#[tokio::test]
async fn a_server_of_no_use_is_named_with_a_remedy() {
    let server = Scripted::start([]).await;
    let connect = async |base_url: &str, model: Option<&str>| {
        let (base_url, model) = (base_url.to_owned(), model.map(str::to_owned));
        let idle_timeout = Duration::from_secs(60);
        OpenAiEngine::connect(OpenAiOptions { base_url, model, api_key: None, slots: 8, idle_timeout })
            .await
            .unwrap_err()
    };
    assert!(matches!(connect("nowhere", None).await, OpenAiError::Address(_)));
    let error = connect(&server.base_url, Some("large")).await.to_string();
    assert!(error.contains("no model \"large\" at"), "{error}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = connect(&format!("http://{gone}/v1"), None).await.to_string();
    assert!(error.contains("check the address"), "{error}");
}
