//! The remote engine, against a server that interrupts, rejects and is overloaded, as scripted. The end-to-end tests use a
//! real server.

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

/// How the server responds to the next request for a text.
enum Action {
    /// Responds with this status, headers and body.
    Answer(&'static str, &'static str, String),
    /// Streams these lines of data, then closes the connection.
    Stream(Vec<String>),
    /// Streams these lines of data, then nothing, on an open connection.
    Hang(Vec<String>),
    /// Streams comments without end.
    Pings,
    /// Streams words without end.
    Endless,
}

struct ScriptedServer {
    base_url: String,
    requests: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl ScriptedServer {
    /// Takes the actions in their order; after the last one every connection is closed.
    async fn start(actions: impl IntoIterator<Item = Action>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (actions, requests) = (Arc::new(Mutex::new(actions.into_iter().collect::<VecDeque<_>>())), Arc::default());
        let log = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(socket, Arc::clone(&actions), Arc::clone(&log)));
            }
        });
        Self { base_url, requests }
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

    fn requests(&self) -> Vec<(Instant, Value)> {
        self.requests.lock().unwrap().clone()
    }
}

async fn answer(mut socket: TcpStream, actions: Arc<Mutex<VecDeque<Action>>>, log: Arc<Mutex<Vec<(Instant, Value)>>>) {
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
    let action = actions.lock().unwrap().pop_front();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    match action {
        None => {}
        Some(Action::Answer(status, headers, body)) => {
            socket.write_all(plain(status, headers, &body).as_bytes()).await.unwrap();
        }
        Some(Action::Stream(lines)) => {
            socket.write_all(head.as_bytes()).await.unwrap();
            for line in lines {
                socket.write_all(format!("data: {line}\n\n").as_bytes()).await.unwrap();
            }
        }
        Some(Action::Hang(lines)) => {
            socket.write_all(head.as_bytes()).await.unwrap();
            for line in lines {
                socket.write_all(format!("data: {line}\n\n").as_bytes()).await.unwrap();
            }
            // Ends when the client disconnects.
            drop(socket.read(&mut [0]).await);
        }
        Some(Action::Pings) => {
            socket.write_all(head.as_bytes()).await.unwrap();
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while socket.write_all(b": ping\n\n").await.is_ok() {
                tick.tick().await;
            }
        }
        Some(Action::Endless) => {
            socket.write_all(head.as_bytes()).await.unwrap();
            for number in 0.. {
                // Ends when the client disconnects. Letters alone: a full stop after a number ends no sentence.
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

fn whole(reason: &str) -> Action {
    let usage = json!({ "choices": [], "usage": {
        "prompt_tokens": 90, "completion_tokens": 3, "prompt_tokens_details": { "cached_tokens": 40 } } });
    Action::Stream(vec![piece("The "), piece("har"), piece("bour."), end(reason), usage.to_string(), "[DONE]".into()])
}

fn refused(status: &'static str, message: &str) -> Action {
    Action::Answer(status, "", json!({ "error": { "message": message } }).to_string())
}

#[tokio::test]
async fn a_text_comes_with_its_end_and_its_token_counts() {
    let server = ScriptedServer::start([whole("stop")]).await;
    let engine = server.engine().await;
    assert_eq!((engine.model().name.as_str(), engine.model().context), ("small", 4096));
    let seen = read(engine.start(task(1, "About harbours."), None)).await;
    let output = seen.output();
    assert_eq!((output.text.as_str(), output.finish_reason), ("The harbour.", FinishReason::Stop));
    let usage = output.usage;
    assert_eq!((usage.prompt, usage.cached, usage.generated, usage.resumed), (90, 40, 3, 0));
    assert_eq!(engine.stats().generated_tokens, 3);
    let body = &server.requests()[0].1;
    assert_eq!(body["messages"][0]["content"], "About harbours.");
}

#[tokio::test]
async fn a_truncated_text_is_never_taken_for_a_complete_one() {
    let server = ScriptedServer::start([whole("length")]).await;
    let seen = read(server.engine().await.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Length);

    // The connection breaks in the middle, the server fails, and then it succeeds: the text appears once.
    let server = ScriptedServer::start([
        Action::Stream(vec![piece("The "), piece("old ")]),
        refused("500 Internal Server Error", "out of memory"),
        Action::Stream(vec![piece("The "), json!({ "error": { "message": "crash", "code": 500 } }).to_string()]),
        whole("stop"),
    ])
    .await;
    let seen = read(server.engine().await.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn an_unknown_finish_reason_is_a_failure() {
    for (reason, class) in [("content_filter", "content_filter"), ("tool_calls", "server_finish")] {
        let server = ScriptedServer::start([whole(reason)]).await;
        let seen = read(server.engine().await.start(task(1, "x"), None)).await;
        let failure = seen.failure();
        assert_eq!((failure.class.as_str(), failure.permanent), (class, false));
    }
}

#[tokio::test]
async fn an_overloaded_server_gets_no_retry_before_its_retry_after() {
    let busy = Action::Answer("429 Too Many Requests", "retry-after: 1\r\n", "{}".into());
    let server = ScriptedServer::start([busy, whole("stop")]).await;
    let engine = server.engine().await;
    assert_eq!(engine.slots(), 8);
    let seen = read(engine.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    let requests = server.requests();
    assert!(requests[1].0 - requests[0].0 >= Duration::from_secs(1), "{:?}", requests[1].0 - requests[0].0);
    assert_eq!(engine.slots(), 4, "it offers fewer slots for a while");
}

#[tokio::test]
async fn a_rejected_request_fails_permanently_with_the_servers_message() {
    // A server that answers another prompt refused this one; one that finds a text too long is asked for a shorter one.
    let long = || refused("400 Bad Request", "This model's maximum context length is 4096 tokens");
    for (actions, message, class) in [
        (vec![long(), long()], "maximum context length is 4096", "context_too_small"),
        (
            vec![refused("422 Unprocessable Entity", "messages: odd"), whole("length")],
            "messages: odd",
            "server_refused",
        ),
    ] {
        let server = ScriptedServer::start(actions).await;
        let seen = read(server.engine().await.start(task(1, "x"), None)).await;
        let failure = seen.failure();
        assert_eq!((failure.class.as_str(), failure.permanent), (class, true));
        assert!(failure.message.contains(message), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_text_is_asked_for_that_fits_into_the_context() {
    let mut long = task(1, &"about harbours ".repeat(200));
    long.max_tokens = 9000;
    let too_long = refused("400 Bad Request", "maximum context length is 2048 tokens");
    let server = ScriptedServer::start([too_long, whole("stop")]).await;
    let seen = read(server.engine().await.start(long, None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    let asked: Vec<u64> = server.requests().iter().map(|(_, body)| body["max_tokens"].as_u64().unwrap()).collect();
    assert_eq!(asked, [3072, 1536], "4096 less 3000 letters and the template, then half of it");
}

#[tokio::test]
async fn one_refused_prompt_fails_its_document_and_a_server_that_refuses_all_is_a_dead_engine() {
    for status in ["401 Unauthorized", "403 Forbidden", "404 Not Found"] {
        let server = ScriptedServer::start([refused(status, "not this one"), whole("length"), whole("stop")]).await;
        let engine = server.engine().await;
        let seen = read(engine.start(task(1, "x"), None)).await;
        assert_eq!((seen.failure().class.as_str(), seen.failure().permanent), ("server_refused", false));
        assert!(seen.failure().message.contains("not this one"));
        assert_eq!(server.requests()[1].1["max_tokens"], 1, "asked whether it answers others");
        assert!(read(engine.start(task(2, "y"), None)).await.end.is_ok());
        assert!(engine.dead().now_or_never().is_none());

        let server = ScriptedServer::start([refused(status, "key expired"), refused(status, "key expired")]).await;
        let engine = server.engine().await;
        assert!(engine.dead().now_or_never().is_none());
        let seen = read(engine.start(task(1, "x"), None)).await;
        assert_eq!(seen.failure().class, "engine_dead");
        assert!(engine.dead().await.contains("key expired"));
    }
    let server = ScriptedServer::start([
        refused("400 Bad Request", "seed: unknown"),
        refused("400 Bad Request", "seed: unknown"),
    ])
    .await;
    let engine = server.engine().await;
    assert_eq!(read(engine.start(task(1, "x"), None)).await.failure().class, "engine_dead", "no document is to blame");
}

#[tokio::test]
async fn documents_wait_while_a_server_fails_and_none_is_charged() {
    let fail = |n: u32| match n % 3 {
        0 => refused("500 Internal Server Error", "crash"),
        1 => refused("502 Bad Gateway", "no server"),
        _ => Action::Stream(vec![piece("The ")]),
    };
    let server = ScriptedServer::start((0..6).map(fail).chain([whole("stop")])).await;
    let seen = read(server.engine().await.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().text, "The harbour.");

    // Gone for good.
    let server = ScriptedServer::start([]).await;
    let engine = server.engine_with_timeout(Duration::from_millis(300)).await;
    let seen = read(engine.start(task(1, "x"), None)).await;
    assert_eq!(seen.failure().class, "engine_dead");
    assert!(engine.dead().await.contains("no text from"));
}

#[tokio::test]
async fn a_server_that_sends_only_comments_is_given_up() {
    let server = ScriptedServer::start([Action::Pings, Action::Pings]).await;
    let engine = server.engine_with_timeout(Duration::from_millis(300)).await;
    let started = Instant::now();
    assert_eq!(read(engine.start(task(1, "x"), None)).await.failure().class, "engine_dead");
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(engine.dead().await.contains("no text"));
}

#[tokio::test]
async fn a_whole_text_is_kept_although_its_connection_stays_open() {
    let server = ScriptedServer::start([Action::Hang(vec![piece("The harbour."), end("stop")])]).await;
    let engine = server.engine().await;
    let started = Instant::now();
    let seen = read(engine.start(task(1, "x"), None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_read_and_its_error_shown() {
    let answer = json!({ "choices": [{ "message": { "content": "The harbour." }, "finish_reason": "stop" }] });
    let error = json!({ "error": { "message": "unknown field", "code": 400 } });
    let ok = |body: &Value| Action::Answer("200 OK", "content-type: application/json\r\n", body.to_string());
    let server = ScriptedServer::start([ok(&answer), ok(&error), whole("stop")]).await;
    let engine = server.engine().await;
    assert_eq!(read(engine.start(task(1, "x"), None)).await.output().text, "The harbour.");
    let seen = read(engine.start(task(2, "x"), None)).await;
    assert_eq!((seen.failure().class.as_str(), seen.failure().message.as_str()), ("server_refused", "unknown field"));
}

#[tokio::test]
async fn a_redirect_is_followed_as_it_was_sent_or_the_address_to_give_is_named() {
    let moved = |to: &'static str| Action::Answer("301 Moved Permanently", to, String::new());
    let server = ScriptedServer::start([moved("location: /v1/chat/completions\r\n"), whole("stop")]).await;
    let seen = read(server.engine().await.start(task(1, "About harbours."), None)).await;
    assert_eq!(seen.output().text, "The harbour.");
    assert_eq!(server.requests()[1].1["messages"][0]["content"], "About harbours.", "the body goes along");

    let server = ScriptedServer::start([moved("location: https://elsewhere.example/v1/chat/completions\r\n")]).await;
    let engine = server.engine().await;
    assert_eq!(read(engine.start(task(1, "x"), None)).await.failure().class, "engine_dead");
    assert!(engine.dead().await.contains("https://elsewhere.example/v1"));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        request(&mut socket).await;
        let answer =
            "HTTP/1.1 301 Moved Permanently\r\nlocation: https://box.example/v1/models\r\ncontent-length: 0\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
    });
    let idle_timeout = Duration::from_secs(60);
    let options = OpenAiOptions { base_url, model: None, api_key: None, slots: 8, idle_timeout };
    let error = OpenAiEngine::connect(options).await.unwrap_err().to_string();
    assert!(error.contains("give the address https://box.example/v1"), "{error}");
}

#[tokio::test]
async fn length_control_stops_a_server_that_would_continue() {
    let server = ScriptedServer::start([Action::Endless]).await;
    let mut task = task(1, "x");
    task.length = Some(length(100));
    task.max_tokens = 1000;
    task.constraint = Some(Constraint::Lark("start: \"a\" REST\nREST: /[b-z]+/\n".into()));
    let seen = read(server.engine().await.start(task, None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Ceiling);
    assert!(seen.output().text.ends_with('.'));
    let mut task = crate::tasks::task(2, "x");
    task.max_tokens = 50;
    let server_two = ScriptedServer::start([Action::Endless]).await;
    let seen = read(server_two.engine().await.start(task, None)).await;
    assert_eq!(seen.output().finish_reason, FinishReason::Length, "a server that ignores max_tokens");
    assert_eq!(server.requests()[0].1["grammar"], "root ::= \"a\" rest\nrest ::= [b-z]+\n");
}

#[tokio::test]
async fn an_unusable_server_is_named_with_a_remedy() {
    let server = ScriptedServer::start([]).await;
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
