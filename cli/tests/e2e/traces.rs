//! Traces: what a receiver gets from a run, and that nothing is sent unless asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::program::{Ended, longhand, model};

/// Words of the prompt that no span may hold.
const SECRET: &str = "marmalade";

#[derive(Debug, Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Receiver {
    async fn start() -> (Self, SocketAddr) {
        let receiver = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(receiver.clone());
        let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        (receiver, address)
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }
}

/// Runs one document of `words` with the receiver named in the environment.
async fn run(words: u32, address: SocketAddr, args: &[&OsStr], environment: &[(&str, &str)]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    let row = format!("{{\"id\": \"one\", \"prompt\": \"Write about {SECRET}.\", \"length\": {words}}}");
    std::fs::write(&input, row).unwrap();
    let mut command = longhand();
    command.arg("run").arg(&input).arg("-o").arg(dir.path().join("out")).arg("--quiet").args(args);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")).envs(environment.iter().copied());
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    drop(dir);
    ended.into()
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    span.attributes.iter().map(|it| (it.key.as_str(), format!("{:?}", it.value))).collect()
}

/// The spans of a name.
fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let names: BTreeSet<_> = spans.iter().map(|span| &span.name).collect();
    assert!(!found.is_empty(), "no span `{name}` among {names:?}");
    found
}

fn parent<'a>(spans: &'a [Span], span: &Span) -> &'a Span {
    spans.iter().find(|it| it.span_id == span.parent_span_id).unwrap_or_else(|| panic!("no parent of {span:?}"))
}

#[tokio::test]
async fn a_document_is_one_trace_from_its_submission_to_its_verdict() {
    let (receiver, address) = Receiver::start().await;
    let ended = run(1_000, address, &["--engine".as_ref(), "mock".as_ref()], &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let spans = receiver.spans();

    let root = named(&spans, "submit")[0];
    for name in ["plan", "section", "complete", "assemble", "filter"] {
        for span in named(&spans, name) {
            assert_eq!(span.trace_id, root.trace_id, "{name} is in another trace");
            let attributes = attributes(span);
            assert!(
                attributes.contains_key("longhand.run") && attributes.contains_key("longhand.document"),
                "{span:?}"
            );
        }
    }
    for name in ["plan", "section"] {
        for span in named(&spans, name) {
            assert_eq!(parent(&spans, span).name, "submit");
            let attributes = attributes(span);
            for key in ["longhand.attempt", "longhand.finish_reason", "longhand.tokens.generated"] {
                assert!(attributes.contains_key(key), "{name} has no {key}: {attributes:?}");
            }
        }
    }
    // What the coordinator makes of a text hangs below the attempt that wrote it.
    assert_eq!(parent(&spans, named(&spans, "assemble")[0]).name, "complete");
    let completes: BTreeSet<_> =
        named(&spans, "complete").into_iter().map(|span| parent(&spans, span).name.clone()).collect();
    assert_eq!(completes, BTreeSet::from(["plan".to_owned(), "section".to_owned()]));
    assert!(!format!("{spans:?}").contains(SECRET), "a span holds the prompt");
}

#[tokio::test]
async fn the_engine_shows_prefill_and_decode_below_each_attempt() {
    let (receiver, address) = Receiver::start().await;
    let model = model();
    let ended = run(400, address, &["--model".as_ref(), model.as_os_str()], &[]).await;
    // A small model may fail the filters; the spans are the same.
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    let spans = receiver.spans();
    for name in ["prefill", "decode"] {
        let parents: BTreeSet<_> =
            named(&spans, name).into_iter().map(|span| parent(&spans, span).name.clone()).collect();
        assert_eq!(parents, BTreeSet::from(["plan".to_owned(), "section".to_owned()]), "{name}");
    }
    assert!(!format!("{spans:?}").contains(SECRET), "a span holds the prompt");
}

#[tokio::test]
async fn nothing_is_sent_where_tracing_is_off() {
    let (receiver, address) = Receiver::start().await;
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")] {
        let ended = run(1_000, address, &["--engine".as_ref(), "mock".as_ref()], &[off]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert!(receiver.spans().is_empty());
}
