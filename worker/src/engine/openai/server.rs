//! The server as it presents itself, and one request to it.

use std::time::Duration;

use longhand_proto::task::{Failure, ModelInfo, Output, Task};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::body::{self, Dialect};
use super::stream::Reader;
use crate::engine::Event;

const CONNECT: Duration = Duration::from_secs(10);
/// Time between two looks at a server that loads its model.
const LOADING: Duration = Duration::from_secs(1);
/// Time for the answer to what costs a server nothing.
const QUICK: Duration = Duration::from_secs(30);
/// Characters kept of what a server says about an error.
const MESSAGE: usize = 300;

/// Where the server is, and what is asked of it.
#[derive(Clone)]
pub struct OpenAiOptions {
    /// Up to and with `/v1`.
    pub base_url: String,
    /// None takes the only model of the server.
    pub model: Option<String>,
    pub api_key: Option<String>,
    /// Most requests at the same time.
    pub slots: u32,
    /// Time without any text after which a task, or the server itself, is given up.
    pub patience: Duration,
}

impl std::fmt::Debug for OpenAiOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { base_url, model, api_key, slots, patience } = self;
        f.debug_struct("OpenAiOptions")
            .field("base_url", base_url)
            .field("model", model)
            .field("api_key", &api_key.is_some())
            .field("slots", slots)
            .field("patience", patience)
            .finish()
    }
}

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    #[error("{0:?} is no address of a server: want http://HOST:PORT/v1 or https://HOST/v1")]
    Address(String),
    #[error("the API key holds characters that no header may: want one line without spaces at its ends")]
    Key,
    #[error("{url} does not answer: {reason}; check the address, and that the server runs")]
    Unreachable { url: String, reason: String },
    #[error("{url} refuses this key ({status}): {reason}; name the variable that holds the right one by --api-key-env")]
    Denied { url: String, status: StatusCode, reason: String },
    #[error("{url} does not speak the OpenAI protocol ({status}): {reason}; want the address up to and with /v1")]
    Foreign { url: String, status: StatusCode, reason: String },
    #[error("{url} has no model {wanted:?}, but {has}; name one of them by --model")]
    NoModel { url: String, wanted: String, has: String },
    #[error("{url} has more than one model: {has}; name one by --model")]
    ManyModels { url: String, has: String },
}

/// Why one request gave no text.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server will not write this, however often it is asked.
    Refused(Failure),
    /// The server will write nothing for us.
    Denied(String),
    /// No room now.
    Busy { retry_after: Option<Duration>, message: String },
    /// The server or the way to it broke.
    Cut(String),
}

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
        let OpenAiOptions { base_url, model, api_key, slots: _, patience } = options;
        let base = address(&base_url)?;
        let url = base.to_string();
        let client = client(api_key.as_deref(), patience)?;
        let unreachable = |error: reqwest::Error| OpenAiError::Unreachable { url: url.clone(), reason: chain(&error) };
        let loading = Instant::now();
        let (status, text) = loop {
            let answer = client.get(join(&base, "models")).timeout(QUICK).send().await.map_err(unreachable)?;
            let status = answer.status();
            let text = answer.text().await.map_err(unreachable)?;
            // What a server says while it loads its model.
            if status != StatusCode::SERVICE_UNAVAILABLE || loading.elapsed() > patience {
                break (status, text);
            }
            tracing::info!(url, reason = reason(&text), "the server is not ready yet");
            tokio::time::sleep(LOADING).await;
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(OpenAiError::Denied { url, status, reason: reason(&text) });
            }
            _ if status.is_success() => {}
            _ => return Err(OpenAiError::Foreign { url, status, reason: reason(&text) }),
        }
        let listed: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let Some(models) = listed["data"].as_array() else {
            return Err(OpenAiError::Foreign { url, status, reason: reason(&text) });
        };
        let entry = choose(models, model.as_deref(), &url)?;
        let dialect = Dialect::of(entry["owned_by"].as_str().unwrap_or_default());
        let name = entry["id"].as_str().unwrap_or_default().to_owned();
        let context = [&entry["max_model_len"], &entry["meta"]["n_ctx"], &entry["meta"]["n_ctx_train"]];
        let model = ModelInfo {
            // Nobody says which weights a server runs.
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

    /// One request; tells `heard` and `events` of each piece of its text. Dropping it tells the server to stop.
    pub(super) async fn ask(
        &self,
        task: &Task,
        events: &mpsc::Sender<Event>,
        mut heard: impl FnMut(usize),
    ) -> Result<Output, Trouble> {
        let body = body::of(task, self.dialect, &self.model.name).to_string();
        let request = self.client.post(self.chat.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let began = Instant::now();
        let mut answer = request.send().await.map_err(|error| Trouble::Cut(chain(&error)))?;
        if !answer.status().is_success() {
            return Err(refusal(answer).await);
        }
        let mut reader = Reader::new(task, began);
        while let Some(bytes) = answer.chunk().await.map_err(|error| Trouble::Cut(chain(&error)))? {
            let pieces = reader.read(&bytes)?;
            if pieces > 0 {
                heard(pieces);
                // What the tokens are is the server's secret; that there are new ones is progress. A closed channel
                // means that the task was cancelled, which ends this future.
                drop(events.send(Event::Tokens(vec![0; pieces])).await);
            }
            if reader.ended() {
                break;
            }
        }
        reader.finish()
    }
}

fn client(api_key: Option<&str>, patience: Duration) -> Result<Client, OpenAiError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = api_key {
        let mut value = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| OpenAiError::Key)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let agent = format!("longhand/{}", longhand_proto::VERSION);
    let client = Client::builder().default_headers(headers).user_agent(agent).connect_timeout(CONNECT);
    // A half-open connection ends by the silence on it.
    let client = client.read_timeout(patience).tcp_keepalive(CONNECT).tcp_nodelay(true).build();
    client.map_err(|error| OpenAiError::Unreachable { url: "the network".into(), reason: chain(&error) })
}

/// The address up to and with `/v1`, which people leave out.
fn address(text: &str) -> Result<Url, OpenAiError> {
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

fn choose<'a>(models: &'a [Value], wanted: Option<&str>, url: &str) -> Result<&'a Value, OpenAiError> {
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

/// What an answer means that is no text.
async fn refusal(answer: Response) -> Trouble {
    let status = answer.status();
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(seconds);
    let text = match answer.text().await {
        Ok(text) => text,
        Err(error) => return Trouble::Cut(chain(&error)),
    };
    let message = format!("{status}: {}", reason(&text));
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
            Trouble::Busy { retry_after, message }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYMENT_REQUIRED | StatusCode::NOT_FOUND => {
            Trouble::Denied(format!("the server will not write for this worker: {message}"))
        }
        _ if status.is_server_error() => match retry_after {
            Some(_) => Trouble::Busy { retry_after, message },
            None => Trouble::Cut(message),
        },
        _ => Trouble::Refused(refused(message)),
    }
}

/// A refusal that another try cannot mend.
pub(super) fn refused(message: String) -> Failure {
    let lower = message.to_lowercase();
    let class = if lower.contains("context") && (lower.contains("length") || lower.contains("size")) {
        "context_too_small"
    } else {
        "server_refused"
    };
    Failure { class: class.into(), message, permanent: true }
}

/// The form in seconds; a date is taken as none, and the usual pause made.
fn seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.trim().parse().ok()?).ok()
}

/// What a server says about an error, in few words.
pub(super) fn reason(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let said = [&value["error"]["message"], &value["message"], &value["detail"], &value["error"]];
    let said = said.iter().find_map(|value| value.as_str()).unwrap_or(text).trim();
    if said.is_empty() { "no reason given".to_owned() } else { said.chars().take(MESSAGE).collect() }
}

/// An error with its causes: the outermost alone says next to nothing.
fn chain(error: &reqwest::Error) -> String {
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
    fn an_address_is_taken_with_and_without_its_path() {
        for (text, models) in [
            ("http://box:8000", "http://box:8000/v1/models"),
            ("http://box:8000/", "http://box:8000/v1/models"),
            ("http://box:8000/v1/", "http://box:8000/v1/models"),
            ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1/models"),
        ] {
            assert_eq!(join(&address(text).unwrap(), "models").as_str(), models);
        }
        for text in ["box:8000", "ftp://box/v1", "", "http://user@box/v1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_servers_say_about_an_error_is_found() {
        for (text, said) in [
            (r#"{"error":{"message":"no","type":"x"}}"#, "no"),
            (r#"{"object":"error","message":"no"}"#, "no"),
            (r#"{"detail":"no"}"#, "no"),
            (r#"{"error":"no"}"#, "no"),
            ("bad gateway", "bad gateway"),
            ("", "no reason given"),
        ] {
            assert_eq!(reason(text), said);
        }
        let long = "This model's maximum context length is 8192 tokens.".to_owned();
        assert_eq!(refused(long).class, "context_too_small");
    }
}
