//! The exporter of traces, configured by OpenTelemetry's environment variables.

use std::time::Duration;

use async_trait::async_trait;
use longhand_worker::http_body;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::trace::Sampler;
use tokio::runtime::Handle;

/// Default time-out of one batch, as OpenTelemetry defines it.
const TIMEOUT_MS: u64 = 10_000;

/// The settings in the environment.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    http: bool,
    pub(crate) sampler: Sampler,
    timeout: Duration,
}

impl Settings {
    /// None if traces are off.
    ///
    /// # Errors
    /// A variable has an invalid value: its name, and what is expected.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let get = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let either = |part: &str| {
            get(&format!("OTEL_EXPORTER_OTLP_TRACES_{part}")).or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{part}")))
        };
        let disabled = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let none = get("OTEL_TRACES_EXPORTER").is_some_and(|value| value.eq_ignore_ascii_case("none"));
        let Some(endpoint) = either("ENDPOINT").filter(|_| !disabled && !none) else { return Ok(None) };
        let http = match either("PROTOCOL").as_deref() {
            Some("grpc") => false,
            Some("http/protobuf") => true,
            Some(other) => {
                return Err(format!("invalid OTEL_EXPORTER_OTLP_PROTOCOL {other:?}: expected grpc or http/protobuf"));
            }
            // Each protocol has its own standard port.
            None => endpoint.trim_end_matches('/').ends_with(":4318"),
        };
        let timeout = match either("TIMEOUT") {
            Some(text) => text
                .parse()
                .map_err(|e| format!("invalid OTEL_EXPORTER_OTLP_TIMEOUT {text:?}: {e}; expected milliseconds"))?,
            None => TIMEOUT_MS,
        };
        Ok(Some(Self { http, sampler: sampler(&get)?, timeout: Duration::from_millis(timeout) }))
    }

    /// The exporter. Must be called inside the runtime, which drives its connections.
    pub(crate) fn exporter(&self) -> Result<SpanExporter, String> {
        let built = if self.http {
            let client = reqwest::Client::builder().timeout(self.timeout).build();
            let client =
                client.map_err(|e| format!("OTEL_EXPORTER_OTLP_ENDPOINT: the HTTP client cannot be created: {e}"))?;
            let http = RuntimeHttpClient { client, runtime: Handle::current() };
            SpanExporter::builder().with_http().with_http_client(http).with_protocol(Protocol::HttpBinary).build()
        } else {
            SpanExporter::builder().with_tonic().build()
        };
        built.map_err(|e| {
            format!("invalid OTEL_EXPORTER_OTLP_ENDPOINT: {e}; expected a URL such as http://localhost:4317")
        })
    }
}

/// A trace starts when a document is submitted, so there is no parent to follow.
fn sampler(get: &impl Fn(&str) -> Option<String>) -> Result<Sampler, String> {
    let word = get("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "always_on".into());
    match word.strip_prefix("parentbased_").unwrap_or(&word) {
        "always_on" => Ok(Sampler::AlwaysOn),
        "always_off" => Ok(Sampler::AlwaysOff),
        "traceidratio" => {
            let text = get("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1.0".into());
            match text.parse() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Sampler::TraceIdRatioBased(ratio)),
                _ => Err(format!("invalid OTEL_TRACES_SAMPLER_ARG {text:?}: expected a number from 0 to 1")),
            }
        }
        _ => Err(format!("invalid OTEL_TRACES_SAMPLER {word:?}: expected always_on, always_off or traceidratio")),
    }
}

/// Sends on the program's runtime, as the batch thread has no reactor of its own.
#[derive(Debug)]
struct RuntimeHttpClient {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for RuntimeHttpClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            // A short message says which spans were rejected; the client has a time-out.
            let text = http_body::error_text(answer).await;
            let mut response = Response::new(Bytes::from(text.into_bytes()));
            (*response.status_mut(), *response.headers_mut()) = (status, headers);
            Ok::<_, reqwest::Error>(response)
        });
        Ok(sent.await??)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        Settings::read(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");

    #[test]
    fn nothing_is_sent_unless_an_endpoint_is_set() {
        let sends = |variables: &[_]| read(variables).unwrap().is_some();
        assert!(!sends(&[]));
        assert!(!sends(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(sends(&[ENDPOINT]));
        assert!(sends(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4317")]));
        assert!(!sends(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]));
        assert!(!sends(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]));
        assert!(sends(&[ENDPOINT, ("OTEL_SDK_DISABLED", "false")]));
    }

    #[test]
    fn the_protocol_is_the_one_set_or_that_of_the_port() {
        let http = |variables: &[_]| read(variables).unwrap().unwrap().http;
        let port = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/");
        assert!(!http(&[ENDPOINT]));
        assert!(http(&[port]));
        assert!(!http(&[port, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]));
        assert!(http(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")]));
        let error = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).unwrap_err();
        assert!(error.contains("http/json") && error.contains("http/protobuf"), "{error}");
    }

    #[test]
    fn an_invalid_sampler_is_rejected() {
        for (sampler, share) in [("always_on", ""), ("always_off", ""), ("parentbased_traceidratio", "0.25")] {
            let variables = [ENDPOINT, ("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", share)];
            assert!(read(&variables).is_ok(), "{sampler}");
        }
        for (sampler, share, said) in
            [("sometimes", "", "sometimes"), ("traceidratio", "half", "half"), ("traceidratio", "2", "from 0 to 1")]
        {
            let variables = [ENDPOINT, ("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", share)];
            let error = read(&variables).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
