//! Log lines to stderr, and traces by OTLP if the environment configures them.

mod otlp;
pub(crate) mod span_queue;

use std::env;
use std::io::IsTerminal;
use std::time::Duration;

use longhand_proto::trace;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::args::log_format::LogFormat;
use otlp::Settings;
use span_queue::{DROP_COUNTERS, SpanQueue};

/// The SDK's default of 2,048 lost 97 % of a burst of 100,000 spans, and its flush reported success.
const SPAN_QUEUE: usize = 65_536;
/// How long the program waits at its end for the last spans to be sent.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Logs and traces of the process; sends the remaining spans when it is shut down.
#[derive(Debug)]
pub(crate) struct Telemetry {
    spans: Option<SpanQueue>,
}

impl Telemetry {
    /// Sets up the process's log lines and traces, under the name of `service` unless the environment names another.
    /// Must run inside the runtime: the exporter's connection lives there.
    pub(crate) fn start(format: LogFormat, service: &'static str) -> Result<Self, String> {
        let filter = EnvFilter::builder()
            // By default warnings only, so that the progress display stays readable.
            .with_default_directive(LevelFilter::WARN.into())
            .from_env()
            .map_err(|e| {
                format!("invalid RUST_LOG: {e}; expected a level (error, warn, info, debug, trace) or target=level")
            })?;
        let lines = match format {
            LogFormat::Text => tracing_subscriber::fmt::layer()
                // It would report them on stderr, and panic: stderr is what failed.
                .log_internal_errors(false)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && !is_set("NO_COLOR"))
                .with_filter(filter)
                .boxed(),
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .log_internal_errors(false)
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(std::io::stderr)
                .with_filter(filter)
                .boxed(),
        };
        tracing_subscriber::registry().with(lines).init();
        let Some(settings) = Settings::read(|name| env::var(name).ok())? else { return Ok(Self { spans: None }) };
        let room = queue(env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok());
        let spans = SpanQueue::new(settings.exporter()?, settings.sampler, room, &resource(service));
        trace::install(spans.clone());
        Ok(Self { spans: Some(spans) })
    }

    /// Sends the spans that are left, for at most five seconds. Blocks.
    pub(crate) fn shutdown(self) {
        let unsent = self.spans.map_or(0, |spans| spans.close(SHUTDOWN));
        let dropped = DROP_COUNTERS.dropped() + unsent;
        if dropped > 0 {
            tracing::warn!(dropped, "spans were dropped before they reached the collector");
        }
    }
}

fn resource(service: &'static str) -> Resource {
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", longhand_proto::VERSION));
    if !names_service(|name| env::var(name).ok()) {
        resource = resource.with_service_name(service);
    }
    resource.build()
}

/// The size given by the environment, or the default.
fn queue(variable: Option<String>) -> usize {
    variable.and_then(|text| text.parse().ok()).filter(|&size| size > 0).unwrap_or(SPAN_QUEUE)
}

fn names_service(variable: impl Fn(&str) -> Option<String>) -> bool {
    let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    variable("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty())
        || attributes.split(',').any(|pair| pair.trim_start().starts_with("service.name="))
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_service_name_from_the_environment_is_kept() {
        assert!(!names_service(with(&[])));
        assert!(names_service(with(&[("OTEL_SERVICE_NAME", "mine")])));
        assert!(names_service(with(&[("OTEL_RESOURCE_ATTRIBUTES", "team=a, service.name=mine")])));
        assert!(!names_service(with(&[("OTEL_RESOURCE_ATTRIBUTES", "my.service.name=mine")])));
    }

    #[test]
    fn the_span_queue_has_a_large_default_size() {
        assert_eq!(queue(None), SPAN_QUEUE);
        assert_eq!(queue(Some("128".into())), 128);
        assert_eq!(queue(Some("many".into())), SPAN_QUEUE);
    }
}
