//! The connection to a server: which models it has, and one request to it.

use std::time::Duration;

use longhand_proto::task::{ModelInfo, Output, Task};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::request_body::{self, Dialect};
use super::request_error::{RequestError, error_message, rejected};
use super::stream_reader::StreamReader;
use crate::engine::Event;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a server that loads its model is polled.
const LOAD_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the response to a request without generation.
const METADATA_TIMEOUT: Duration = Duration::from_secs(30);

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
    dialect: Dialect,
    model: ModelInfo,
}

impl Server {
    pub(super) async fn connect(options: OpenAiOptions) -> Result<Self, OpenAiError> {
        let OpenAiOptions { base_url, model, api_key, slots: _, idle_timeout } = options;
        let base = parse_base_url(&base_url)?;
        let url = base.to_string();
        let client = client(api_key.as_deref(), idle_timeout)?;
        let unreachable =
            |error: reqwest::Error| OpenAiError::Unreachable { url: url.clone(), reason: error_chain(&error) };
        let loading = Instant::now();
        let (status, text) = loop {
            let response =
                client.get(join(&base, "models")).timeout(METADATA_TIMEOUT).send().await.map_err(unreachable)?;
            let status = response.status();
            let text = response.text().await.map_err(unreachable)?;
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
        let context = [&entry["max_model_len"], &entry["meta"]["n_ctx"], &entry["meta"]["n_ctx_train"]];
        let model = ModelInfo {
            // A server does not report the hash of its weights.
            weights_hash: format!("{name} as served"),
            name,
            tokenizer_hash: String::new(),
            licence: String::new(),
            engine: format!("longhand {} with {}", longhand_proto::build(), dialect.name()),
            device: base.host_str().unwrap_or("server").to_owned(),
            context: context.iter().find_map(|value| value.as_u64()).unwrap_or(0).try_into().unwrap_or(u32::MAX),
        };
        Ok(Self { client, chat: join(&base, "chat/completions"), url, dialect, model })
    }

    pub(super) fn model(&self) -> &ModelInfo {
        &self.model
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// One request; `on_deltas` and `events` get the number of new deltas of its text. Dropping it cancels the request.
    pub(super) async fn complete(
        &self,
        task: &Task,
        events: &mpsc::Sender<Event>,
        mut on_deltas: impl FnMut(usize),
    ) -> Result<Output, RequestError> {
        let body = request_body::build(task, self.dialect, &self.model.name).to_string();
        let request = self.client.post(self.chat.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let started = Instant::now();
        let mut response = request.send().await.map_err(|error| RequestError::Interrupted(error_chain(&error)))?;
        if !response.status().is_success() {
            return Err(request_error(response).await);
        }
        let mut reader = StreamReader::new(task, started);
        while let Some(bytes) =
            response.chunk().await.map_err(|error| RequestError::Interrupted(error_chain(&error)))?
        {
            let deltas = reader.read(&bytes)?;
            if deltas > 0 {
                on_deltas(deltas);
                // The token ids are not known here; that there are new ones is progress. A closed channel means that the
                // task was cancelled, which ends this future.
                drop(events.send(Event::Tokens(vec![0; deltas])).await);
            }
            if reader.is_done() {
                break;
            }
        }
        reader.finish()
    }
}

fn client(api_key: Option<&str>, idle_timeout: Duration) -> Result<Client, OpenAiError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = api_key {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| OpenAiError::Key)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let agent = format!("longhand/{}", longhand_proto::VERSION);
    let client = Client::builder().default_headers(headers).user_agent(agent).connect_timeout(CONNECT_TIMEOUT);
    // A half-open connection ends by this timeout.
    let client = client.read_timeout(idle_timeout).tcp_keepalive(CONNECT_TIMEOUT).tcp_nodelay(true).build();
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
    let text = match response.text().await {
        Ok(text) => text,
        Err(error) => return RequestError::Interrupted(error_chain(&error)),
    };
    let message = format!("{status}: {}", error_message(&text));
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
            RequestError::Overloaded { retry_after, message }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYMENT_REQUIRED | StatusCode::NOT_FOUND => {
            RequestError::Denied(format!("the server rejects the requests of this worker: {message}"))
        }
        _ if status.is_server_error() => match retry_after {
            Some(_) => RequestError::Overloaded { retry_after, message },
            None => RequestError::Interrupted(message),
        },
        _ => RequestError::Rejected(rejected(message)),
    }
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
}
