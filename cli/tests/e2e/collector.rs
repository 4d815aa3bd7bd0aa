//! Trace collectors: one in the test's own process, and a real one in front of it.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener as Port, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::program::cache;

/// Polls of a condition, 50 ms apart: a minute.
const MAX_POLLS: u32 = 1_200;

/// A collector that keeps all spans received over gRPC.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> (Self, SocketAddr) {
        let collector = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(collector.clone()).accept_compressed(CompressionEncoding::Gzip);
        let server = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        (collector, address)
    }

    pub(crate) fn spans(&self) -> Spans {
        Spans(self.spans.lock().unwrap().clone())
    }

    /// The spans, once the condition holds. Spans may arrive after the end of their process.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Spans) -> bool) -> Spans {
        for _ in 0..MAX_POLLS {
            let spans = self.spans();
            if wanted(&spans) {
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never: {what}; spans: {:#?}", self.spans().names());
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Spans(pub(crate) Vec<Span>);

impl Spans {
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.0.iter().map(|span| span.name.as_str()).collect()
    }

    /// The spans of a name; there must be some.
    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        let found: Vec<_> = self.0.iter().filter(|span| span.name == name).collect();
        assert!(!found.is_empty(), "no span `{name}` among {:?}", self.names());
        found
    }

    pub(crate) fn find(&self, id: &[u8]) -> Option<&Span> {
        self.0.iter().find(|span| span.span_id == id)
    }

    pub(crate) fn parent(&self, span: &Span) -> &Span {
        self.find(&span.parent_span_id).unwrap_or_else(|| panic!("no parent of {span:?}"))
    }

    pub(crate) fn below(&self, span: &Span) -> Vec<&Span> {
        self.0.iter().filter(|it| it.parent_span_id == span.span_id).collect()
    }
}

/// An attribute as text; numbers in digits.
pub(crate) fn value(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|it| it.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other @ (Value::BoolValue(_)
        | Value::ArrayValue(_)
        | Value::KvlistValue(_)
        | Value::BytesValue(_)
        | Value::StringValueStrindex(_)) => format!("{other:?}"),
    })
}

pub(crate) fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

/// rotel, an independent collector, which forwards the spans that it understands.
#[derive(Debug)]
pub(crate) struct Rotel {
    agent: Child,
    _folder: tempfile::TempDir,
    /// Of OTLP over gRPC.
    pub(crate) grpc: String,
    /// Of OTLP over HTTP with protobuf.
    pub(crate) http: String,
}

impl Rotel {
    pub(crate) fn before(next: SocketAddr) -> Self {
        let program = cache().join("bin").join("rotel-agent");
        assert!(program.exists(), "{} is missing: run `make test-deps`", program.display());
        let folder = tempfile::tempdir().unwrap();
        let (grpc, http) = (free(), free());
        let agent = Command::new(program)
            .args(["start", "--otlp-grpc-endpoint", &grpc.to_string(), "--otlp-http-endpoint", &http.to_string()])
            .args(["--exporter", "otlp", "--otlp-exporter-endpoint", &format!("http://{next}")])
            .args(["--batch-timeout", "50ms"])
            .arg("--pid-file")
            .arg(folder.path().join("pid"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for address in [grpc, http] {
            let up = (0..MAX_POLLS).any(|_| {
                let up = TcpStream::connect(address).is_ok();
                if !up {
                    std::thread::sleep(Duration::from_millis(50));
                }
                up
            });
            assert!(up, "rotel does not listen on {address}");
        }
        Self { agent, _folder: folder, grpc: format!("http://{grpc}"), http: format!("http://{http}") }
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        self.agent.kill().ok();
        self.agent.wait().ok();
    }
}

fn free() -> SocketAddr {
    Port::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
