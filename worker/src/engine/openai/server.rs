//! The connection to a server: which models it has, and one request to it.

use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use longhand_proto::task::{Message, ModelInfo, Output, RecommendedSampling, Task};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::request_body::{self, Dialect};
use super::stream_reader::StreamReader;
use super::trouble::{self, RequestError, error_message};
use crate::engine::Event;
use crate::http_body::{self, BodyError, MAX_METADATA_BYTES};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a server that loads its model is polled.
const LOAD_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the response to a request without generation.
const METADATA_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the token counts that come behind a whole text.
const COUNTS_TIMEOUT: Duration = Duration::from_secs(2);
/// Redirects of one request that are followed.
const MAX_REDIRECTS: usize = 4;

/// The server, and how it is used.
#[derive(Clone)]
pub struct OpenAiOptions {
    /// The address, up to and including `/v1`.
    pub base_url: String,
    /// None takes the only model of the server.
    pub model: Option<String>,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
    /// Most requests at the same time.
    pub slots: u32,
    /// Time without any text after which a task fails, or the engine, if no task gets text.
    pub idle_timeout: Duration,
}

impl std::fmt::Debug for OpenAiOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { base_url, model, api_key, slots, idle_timeout } = self;
        f.debug_struct("OpenAiOptions")
            .field("base_url", base_url)
            .field("model", model)
            .field("api_key", &api_key.is_some())
            .field("slots", slots)
            .field("idle_timeout", idle_timeout)
            .finish()
    }
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// The base URL is invalid.
    #[error("invalid server address {0:?}: expected http://HOST:PORT/v1 or https://HOST/v1")]
    Address(String),
    /// The key cannot be sent in a header.
    #[error("invalid API key: expected one line of printable characters without surrounding spaces")]
    Key,
    /// There was no response.
    #[error("no response from {url}: {reason}; check the address and that the server is running")]
    Unreachable { url: String, reason: String },
    /// The proxy of the environment does not lead to it.
    #[error(
        "no response from {url} through the proxy {proxy}: {reason}; check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or list the \
         server's host in NO_PROXY"
    )]
    Proxy { url: String, proxy: String, reason: String },
    /// The server redirects to another address.
    #[error("{url} has moved: give the address {to}")]
    Moved { url: String, to: Url },
    /// The server rejects the key.
    #[error(
        "API key rejected by {url} ({status}): {reason}; name the variable that holds a valid key with --api-key-env"
    )]
    Denied { url: String, status: StatusCode, reason: String },
    /// The response is not one of an OpenAI-compatible server.
    #[error("{url} is not an OpenAI-compatible API ({status}): {reason}; give the address up to and including /v1")]
    Foreign { url: String, status: StatusCode, reason: String },
    /// The server does not have the model.
    #[error("no model {wanted:?} at {url}: available are {has}; choose one with --model")]
    NoModel { url: String, wanted: String, has: String },
    /// The server has several models, and none was chosen.
    #[error("several models at {url}: {has}; choose one with --model")]
    ManyModels { url: String, has: String },
}

/// A server and the model that it runs.
#[derive(Debug)]
pub(super) struct Server {
    client: Client,
    chat: Url,
    url: String,
    /// The proxy that requests go through.
    proxy: Option<String>,
    /// Time without any text after which a request is given up.
    idle_timeout: Duration,
    dialect: Dialect,
    model: ModelInfo,
}

impl Server {
    pub(super) async fn connect(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        let OpenAiOptions { base_url, model, api_key, slots: _, idle_timeout } = options;
        let base = parse_base_url(&base_url)?;
        let url = base.to_string();
        let client = client(api_key.as_deref())?;
        let proxy = proxy_of(&base, &Matcher::from_env());
        let unreachable = |error: reqwest::Error| {
            let (url, reason) = (url.clone(), error_chain(&error));
            match proxy.clone() {
                Some(proxy) => OpenAiError::Proxy { url, proxy, reason },
                None => OpenAiError::Unreachable { url, reason },
            }
        };
        let loading = Instant::now();
        let (status, text) = loop {
            let response =
                client.get(join(&base, "models")).timeout(METADATA_TIMEOUT).send().await.map_err(unreachable)?;
            let status = response.status();
            if let Some(to) = redirect(&response) {
                return Err(OpenAiError::Moved { url, to: base_of(&to, "models") });
            }
            let text =
                http_body::text(response, MAX_METADATA_BYTES, METADATA_TIMEOUT).await.map_err(|error| match error {
                    BodyError::Connection(error) => unreachable(error),
                    error @ (BodyError::TooLarge(_) | BodyError::TooSlow(_)) => {
                        OpenAiError::Foreign { url: url.clone(), status, reason: error.to_string() }
                    }
                })?;
            // The status of a server that loads its model.
            if status != StatusCode::SERVICE_UNAVAILABLE || loading.elapsed() > idle_timeout {
                break (status, text);
            }
            tracing::info!(url, reason = error_message(&text), "the server is not ready yet");
            tokio::time::sleep(LOAD_POLL_INTERVAL).await;
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(OpenAiError::Denied { url, status, reason: error_message(&text) });
            }
            _ if status.is_success() => {}
            _ => return Err(OpenAiError::Foreign { url, status, reason: error_message(&text) }),
        }
        let listed: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let Some(models) = listed["data"].as_array() else {
            return Err(OpenAiError::Foreign { url, status, reason: error_message(&text) });
        };
        let entry = select_model(models, model.as_deref(), &url)?;
        let dialect = Dialect::of(entry["owned_by"].as_str().unwrap_or_default());
        let name = entry["id"].as_str().unwrap_or_default().to_owned();
        let context =
            ["max_model_len", "context_length", "max_context_length", "context_window"].map(|key| &entry[key]);
        let context = context.into_iter().chain([&entry["meta"]["n_ctx"], &entry["meta"]["n_ctx_train"]]);
        let model = ModelInfo {
            // A server does not report the hash of its weights.
            weights_hash: format!("{name} as served"),
            name,
            tokenizer_hash: String::new(),
            licence: String::new(),
            engine: format!("longhand {} with {}", longhand_proto::build(), dialect.name()),
            device: base.host_str().unwrap_or("server").to_owned(),
            context: context.into_iter().find_map(positive).unwrap_or(0).try_into().unwrap_or(u32::MAX),
            // A server applies it without saying so.
            sampling: RecommendedSampling::default(),
        };
        Ok(Self { client, chat: join(&base, "chat/completions"), url, proxy, idle_timeout, dialect, model })
    }

    pub(super) fn model(&self) -> &ModelInfo {
        &self.model
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Tokens that a task may have: what it asks for, unless the context is smaller.
    pub(super) fn max_tokens(&self, task: &Task) -> u32 {
        request_body::max_tokens(task, self.model.context)
    }

    /// One request for at most `max_tokens` tokens; `on_deltas` and `events` get the number of new deltas of its text.
    /// Dropping it cancels the request.
    pub(super) async fn complete(
        &self,
        task: &Task,
        max_tokens: u32,
        events: &mpsc::Sender<Event>,
        mut on_deltas: impl FnMut(usize),
    ) -> Result<Output, RequestError> {
        let body = request_body::build(task, max_tokens, self.dialect, &self.model.name).to_string();
        let started = Instant::now();
        let mut response = self.post(&body).await?;
        if !response.status().is_success() {
            return Err(request_error(response).await);
        }
        let mut reader = StreamReader::new(task, max_tokens, started);
        // Time of the last delta, or of the end: comments between the events keep a connection alive, but are no text.
        let mut heard = Instant::now();
        let mut room = stream_bytes(max_tokens);
        while !reader.is_done() {
            let ended = reader.has_finish();
            let limit = if ended { COUNTS_TIMEOUT } else { self.idle_timeout };
            let bytes = match timeout_at(heard + limit, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => break,
                // The text is whole.
                Ok(Err(_)) | Err(_) if ended => break,
                Ok(Err(error)) => return Err(RequestError::Interrupted(self.explain(&error))),
                Err(_) => return Err(self.silent()),
            };
            room = room.checked_sub(bytes.len()).ok_or_else(|| {
                RequestError::Interrupted(format!("the server sent far more than {max_tokens} tokens"))
            })?;
            let deltas = reader.read(&bytes)?;
            if deltas > 0 || ended != reader.has_finish() {
                heard = Instant::now();
            }
            if deltas > 0 {
                on_deltas(deltas);
                // The token ids are not known here; that there are new ones is progress. A closed channel means that the
                // task was cancelled, which ends this future.
                drop(events.send(Event::Tokens(vec![0; deltas].into())).await);
            }
        }
        reader.finish()
    }

    /// Whether the server answers the same request with a prompt that nobody can object to; none if it did not say.
    pub(super) async fn answers_others(&self, task: &Task) -> Option<bool> {
        let question = Message { role: "user".into(), content: "Write one word.".into() };
        let task = Task { messages: vec![question], length: None, ..task.clone() };
        // Nobody reads the progress of a question.
        let (events, _) = mpsc::channel(1);
        match self.complete(&task, 1, &events, drop).await {
            Ok(_) | Err(RequestError::Document(_)) => Some(true),
            Err(RequestError::Refused(_) | RequestError::Denied(_)) => Some(false),
            Err(RequestError::TooLong(_) | RequestError::Overloaded { .. } | RequestError::Interrupted(_)) => None,
        }
    }

    /// Sends a request; a redirect is followed with the same method and body, on the same host only, as the key goes along.
    async fn post(&self, body: &str) -> Result<Response, RequestError> {
        let mut url = self.chat.clone();
        for _ in 0..=MAX_REDIRECTS {
            let request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body.to_owned());
            let response = match timeout(self.idle_timeout, request.send()).await {
                Ok(response) => response.map_err(|error| RequestError::Interrupted(self.explain(&error)))?,
                Err(_) => return Err(self.silent()),
            };
            let Some(next) = redirect(&response) else { return Ok(response) };
            let downgrade = url.scheme() == "https" && next.scheme() != "https";
            if next.host_str() != url.host_str() || downgrade {
                let address = base_of(&next, "chat/completions");
                return Err(RequestError::Denied(format!("{url} has moved: give the address {address}")));
            }
            url = next;
        }
        Err(RequestError::Denied(format!("{} redirects in a circle: check the address", self.chat)))
    }

    fn silent(&self) -> RequestError {
        RequestError::Interrupted(format!("the server sent no text for {} s", self.idle_timeout.as_secs()))
    }

    /// An error of the connection, with the proxy that it goes through.
    fn explain(&self, error: &reqwest::Error) -> String {
        match &self.proxy {
            Some(proxy) => format!("{} (through the proxy {proxy})", error_chain(error)),
            None => error_chain(error),
        }
    }
}

/// Most bytes of a response with so many tokens, each in an event with its wrapping; thoughts may come besides.
fn stream_bytes(max_tokens: u32) -> usize {
    (4 << 20) + max_tokens as usize * (4 << 10)
}

/// The proxy that the environment names for an address.
fn proxy_of(url: &Url, environment: &Matcher) -> Option<String> {
    let proxy = environment.intercept(&url.as_str().parse().ok()?)?;
    let uri = proxy.uri();
    // Without a name and password, if it has them.
    Some(format!("{}://{}", uri.scheme_str()?, uri.authority()?.as_str().rsplit('@').next()?))
}

/// Where a response sends the request.
fn redirect(response: &Response) -> Option<Url> {
    // 303 asks for a GET, which gives no text.
    if !matches!(response.status().as_u16(), 301 | 302 | 307 | 308) {
        return None;
    }
    response.url().join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// The address to give for a server that has `url` for `path`.
fn base_of(url: &Url, path: &str) -> Url {
    let mut base = url.clone();
    base.set_path(url.path().trim_end_matches('/').trim_end_matches(path).trim_end_matches('/'));
    base.set_query(None);
    base
}

fn client(api_key: Option<&str>) -> Result<Client, OpenAiError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = api_key {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| OpenAiError::Key)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let agent = format!("longhand/{}", longhand_proto::VERSION);
    let client = Client::builder().default_headers(headers).user_agent(agent).connect_timeout(CONNECT_TIMEOUT);
    // Redirects are followed here: the library would make a GET of a POST.
    let client = client.redirect(Policy::none()).tcp_keepalive(CONNECT_TIMEOUT).tcp_nodelay(true).build();
    client.map_err(|error| OpenAiError::Unreachable { url: "the network".into(), reason: error_chain(&error) })
}

/// The address up to and including `/v1`, which is added if there is no path.
fn parse_base_url(text: &str) -> Result<Url, OpenAiError> {
    let wrong = || OpenAiError::Address(text.to_owned());
    let mut url = Url::parse(text.trim()).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !url.username().is_empty() {
        return Err(wrong());
    }
    if url.path().trim_matches('/').is_empty() {
        url.set_path("/v1");
    }
    url.set_query(None);
    Ok(url)
}

fn positive(value: &Value) -> Option<u64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number >= 1.0).then_some(number as u64)
}

fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn select_model<'a>(models: &'a [Value], wanted: Option<&str>, url: &str) -> Result<&'a Value, OpenAiError> {
    let ids = models.iter().filter_map(|model| model["id"].as_str()).collect::<Vec<_>>();
    let has = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    match (wanted, models) {
        (None, [only]) => Ok(only),
        (None, _) => Err(OpenAiError::ManyModels { url: url.to_owned(), has }),
        (Some(wanted), _) => {
            let named = models.iter().find(|model| model["id"] == wanted);
            named.ok_or_else(|| OpenAiError::NoModel { url: url.to_owned(), wanted: wanted.to_owned(), has })
        }
    }
}

/// The error that a response without text stands for.
async fn request_error(response: Response) -> RequestError {
    let status = response.status();
    let retry_after =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(parse_retry_after);
    let text = http_body::error_text(response).await;
    trouble::of_status(status.as_u16(), retry_after, format!("{status}: {}", error_message(&text)))
}

/// Retry-After in seconds; a date is ignored, and the default pause used.
fn parse_retry_after(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.trim().parse().ok()?).ok()
}

/// An error with its causes: the outermost alone says too little.
fn error_chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_accepted_with_and_without_its_path() {
        for (text, models) in [
            ("http://box:8000", "http://box:8000/v1/models"),
            ("http://box:8000/", "http://box:8000/v1/models"),
            ("http://box:8000/v1/", "http://box:8000/v1/models"),
            ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1/models"),
        ] {
            assert_eq!(join(&parse_base_url(text).unwrap(), "models").as_str(), models);
        }
        for text in ["box:8000", "ftp://box/v1", "", "http://user@box/v1"] {
            assert!(parse_base_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_proxy_of_the_environment_is_named_without_its_password() {
        let environment = Matcher::builder().all("http://me:secret@gate:3128").no("box,10.0.0.0/8").build();
        let proxy = |url: &str| proxy_of(&parse_base_url(url).unwrap(), &environment);
        assert_eq!(proxy("http://far:8000").as_deref(), Some("http://gate:3128"));
        assert_eq!(proxy("https://far/v1").as_deref(), Some("http://gate:3128"));
        assert_eq!(proxy("http://box:8000"), None);
        assert_eq!(proxy("http://10.1.2.3:8000"), None);
        let error = OpenAiError::Proxy {
            url: "http://far/v1".into(),
            proxy: "http://gate:3128".into(),
            reason: "refused".into(),
        };
        let error = error.to_string();
        assert!(error.contains("proxy http://gate:3128") && error.contains("NO_PROXY"), "{error}");
    }

    #[test]
    fn the_address_to_give_is_that_of_the_api() {
        for (moved, path, address) in [
            ("https://box/v1/models", "models", "https://box/v1"),
            ("https://box/v1/models/", "models", "https://box/v1"),
            ("https://box/api/v1/chat/completions?a=b", "chat/completions", "https://box/api/v1"),
        ] {
            assert_eq!(base_of(&Url::parse(moved).unwrap(), path).as_str(), address);
        }
    }
}
