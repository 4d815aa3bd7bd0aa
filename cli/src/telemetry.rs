//! Log lines to stderr, and traces by OTLP where the environment asks for them.

use std::env;
use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, filter};

use crate::args::LogFormat;
use crate::spans::{self, LOSSES};

/// The default queue of 2,048 lost 97 % of a burst of 100,000 spans, and its flush said all was well.
const SPAN_QUEUE: usize = 65_536;
/// Most time that the end of the program waits for the last spans to leave.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Sends what is left of the traces when it is shut down.
#[derive(Debug)]
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up the process's one subscriber. Must run inside the runtime: the exporter's connection lives there.
    pub(crate) fn start(format: LogFormat) -> Result<Self, String> {
        let filter = EnvFilter::builder()
            // The progress display must stay readable: by default only what needs a person.
            .with_default_directive(LevelFilter::WARN.into())
            .from_env()
            .map_err(|e| format!("RUST_LOG: {e}; want a level (error, warn, info, debug, trace) or target=level"))?;
        // Spans of ours always pass: a line of a warning tells whose document it is about.
        let filter = filter.or(filter::filter_fn(ours));
        let lines = match format {
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && !is_set("NO_COLOR"))
                .with_filter(filter)
                .boxed(),
            LogFormat::Json => tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .with_writer(std::io::stderr)
                .with_filter(filter)
                .boxed(),
        };
        let traces = if wants_traces(|name| env::var(name).ok()) { Some(exporter()?) } else { None };
        let spans = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer().with_tracer(provider.tracer("longhand")).with_filter(filter::filter_fn(ours))
        });
        tracing_subscriber::registry().with(lines).with(spans).init();
        Ok(Self { traces })
    }

    /// Sends the spans that are left, for at most five seconds. Blocks.
    pub(crate) fn shutdown(self) {
        if let Some(traces) = self.traces
            && let Err(error) = traces.shutdown_with_timeout(SHUTDOWN)
        {
            tracing::warn!(%error, "traces: the last spans could not be sent");
        }
        let dropped = LOSSES.dropped();
        if dropped > 0 {
            tracing::warn!(dropped, "traces: spans were lost on their way to the collector");
        }
    }
}

/// Spans of this program: those of libraries (h2, tonic, hyper) are noise to somebody who looks at a document.
fn ours(meta: &tracing::Metadata<'_>) -> bool {
    meta.is_span() && meta.target().starts_with("longhand")
}

fn exporter() -> Result<SdkTracerProvider, String> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build().map_err(|e| {
        format!("OTEL_EXPORTER_OTLP_ENDPOINT: {e}; want a URL such as http://localhost:4317, or unset it")
    })?;
    let room = queue(env::var("OTEL_BSP_MAX_QUEUE_SIZE").ok());
    let batches = BatchConfigBuilder::default().with_max_queue_size(room).build();
    let processor = spans::counted(exporter, room, |exporter| {
        BatchSpanProcessor::builder(exporter).with_batch_config(batches).build()
    });
    let mut resource = Resource::builder();
    if !names_service(|name| env::var(name).ok()) {
        resource = resource.with_service_name("longhand");
    }
    // The sampler comes from OTEL_TRACES_SAMPLER, which the SDK reads itself.
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource.build()).build())
}

/// The environment's word wins over ours.
fn queue(variable: Option<String>) -> usize {
    variable.and_then(|text| text.parse().ok()).filter(|&size| size > 0).unwrap_or(SPAN_QUEUE)
}

fn wants_traces(variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name| variable(name).is_some_and(|value| !value.is_empty());
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
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
    fn no_exporter_is_built_unless_an_endpoint_is_named() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317");
        assert!(!wants_traces(with(&[])));
        assert!(!wants_traces(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])));
        assert!(wants_traces(with(&[endpoint])));
        assert!(wants_traces(with(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://localhost:4317")])));
        assert!(!wants_traces(with(&[endpoint, ("OTEL_SDK_DISABLED", "True")])));
        assert!(wants_traces(with(&[endpoint, ("OTEL_SDK_DISABLED", "false")])));
    }

    #[test]
    fn a_service_name_from_the_environment_is_kept() {
        assert!(!names_service(with(&[])));
        assert!(names_service(with(&[("OTEL_SERVICE_NAME", "mine")])));
        assert!(names_service(with(&[("OTEL_RESOURCE_ATTRIBUTES", "team=a, service.name=mine")])));
        assert!(!names_service(with(&[("OTEL_RESOURCE_ATTRIBUTES", "my.service.name=mine")])));
    }

    #[test]
    fn the_span_queue_holds_a_burst_unless_the_environment_says_otherwise() {
        assert_eq!(queue(None), SPAN_QUEUE);
        assert_eq!(queue(Some("128".into())), 128);
        assert_eq!(queue(Some("many".into())), SPAN_QUEUE);
    }
}
