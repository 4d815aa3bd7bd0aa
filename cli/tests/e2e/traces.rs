//! Traces: what a collector receives, how a killed worker is shown, and that tracing is off by default.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::time::Duration;

use longhand_proto::trace::Context;
use longhand_proto::{LeaseId, clock};
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::collector::{Collector, Rotel, Spans, is_error, value};
use crate::fleet::{Fleet, Process};
use crate::program::{Ended, longhand, model};

/// Words of the prompt that no span may hold.
const SECRET: &str = "marmalade";
/// What every span says.
const PLACE: [&str; 4] = ["longhand.run", "longhand.document", "longhand.section", "longhand.attempt"];

/// Runs one document of `words` with the collector named in the environment.
async fn run(words: u32, address: SocketAddr, args: &[&OsStr], environment: &[(&str, &str)]) -> Ended {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.jsonl");
    let row = format!("{{\"id\": \"one\", \"prompt\": \"Write about {SECRET}.\", \"length\": {words}}}");
    std::fs::write(&input, row).unwrap();
    let mut command = longhand();
    command.arg("run").arg(&input).arg("-o").arg(dir.path().join("out")).arg("--quiet").args(args);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")).envs(environment.iter().copied());
    let ended = spawn_blocking(move || command.output().unwrap()).await.unwrap();
    drop(dir);
    ended.into()
}

async fn mock(words: u32, address: SocketAddr, more: &[&str], environment: &[(&str, &str)]) -> Ended {
    let args: Vec<&OsStr> = ["--engine", "mock"].iter().chain(more).map(OsStr::new).collect();
    run(words, address, &args, environment).await
}

/// All spans are of one trace, name their place, and hang together.
fn check_tree(spans: &Spans) {
    let roots: Vec<_> = spans.0.iter().filter(|span| span.parent_span_id.is_empty()).collect();
    assert_eq!(roots.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["submit"]);
    for span in &spans.0 {
        assert_eq!(span.trace_id, roots[0].trace_id, "{} is in another trace", span.name);
        for key in PLACE {
            assert!(value(span, key).is_some(), "{} has no {key}: {span:?}", span.name);
        }
        let parent = if span.parent_span_id.is_empty() { "" } else { spans.parent(span).name.as_str() };
        let wanted: &[&str] = match span.name.as_str() {
            "submit" => &[""],
            "plan" | "section" | "judge" | "requeued" | "cancelled" => &["submit"],
            "filter" => &["commit"],
            _ => &["plan", "section", "judge"],
        };
        assert!(wanted.contains(&parent), "{} hangs below {parent:?}", span.name);
    }
    let ids: BTreeSet<_> = spans.0.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.0.len(), "a span was sent twice");
}

#[tokio::test]
async fn a_document_is_one_trace_from_its_submission_to_its_verdict() {
    let (collector, address) = Collector::start().await;
    let ended = mock(1_000, address, &[], &[]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let spans = collector.spans();
    check_tree(&spans);
    let attempts = [spans.named("plan"), spans.named("section")].concat();
    for span in &attempts {
        let below: BTreeSet<_> = spans.below(span).iter().map(|it| it.name.as_str()).collect();
        assert_eq!(below, BTreeSet::from(["queue", "prefill", "decode", "commit"]));
        assert!(!is_error(span) && value(span, "longhand.end").unwrap() == "completed");
        for key in ["operation.name", "provider.name", "request.model", "request.temperature", "response.model"] {
            assert!(value(span, &format!("gen_ai.{key}")).is_some(), "no gen_ai.{key} in {span:?}");
        }
        assert!(value(span, "gen_ai.response.finish_reasons").unwrap().contains("stop"));
        assert!(value(span, "gen_ai.usage.output_tokens").unwrap().parse::<u32>().unwrap() > 10);
        assert!(value(span, "gen_ai.usage.input_tokens").unwrap().parse::<u32>().unwrap() > 10);
    }
    let filter = spans.named("filter");
    assert_eq!(value(filter[0], "longhand.state").unwrap(), "accepted");
    assert!(!format!("{spans:?}").contains(SECRET), "a span holds the prompt");

    let (collector, address) = Collector::start().await;
    mock(1_000, address, &["--trace-content"], &[]).await;
    for span in collector.spans().named("plan") {
        assert!(value(span, "gen_ai.input.messages").unwrap().contains(SECRET), "it was asked for");
        assert!(value(span, "gen_ai.output.messages").unwrap().contains("Paragraph"), "{span:?}");
    }
}

#[tokio::test]
async fn the_engine_shows_where_the_time_of_an_attempt_went() {
    let (collector, address) = Collector::start().await;
    let model = model();
    let ended = run(400, address, &["--model".as_ref(), model.as_os_str()], &[]).await;
    // A small model may fail the filters; the spans are the same.
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    let spans = collector.spans();
    check_tree(&spans);
    for name in ["queue", "prefill", "decode"] {
        let parents: BTreeSet<_> = spans.named(name).into_iter().map(|it| spans.parent(it).name.as_str()).collect();
        assert_eq!(parents, BTreeSet::from(["plan", "section"]), "{name}");
    }
    assert_eq!(spans.parent(spans.named("grammar")[0]).name, "plan");
    for attempt in spans.named("section") {
        let sum: u32 = (spans.below(attempt).into_iter().filter(|it| it.name == "decode"))
            .map(|piece| value(piece, "longhand.tokens.generated").unwrap().parse::<u32>().unwrap())
            .sum();
        let tokens = |key: &str| value(attempt, key).unwrap().parse::<u32>().unwrap();
        assert_eq!(sum, tokens("gen_ai.usage.output_tokens") + tokens("longhand.tokens.discarded"));
    }
    assert!(!format!("{spans:?}").contains(SECRET), "a span holds the prompt");
}

/// The spans go through a collector that others wrote: the coordinator's by gRPC, the workers' by HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_of_a_killed_worker_is_lost_and_the_next_one_links_to_it() {
    let (collector, address) = Collector::start().await;
    let rotel = spawn_blocking(move || Rotel::before(address)).await.unwrap();
    let often = ("OTEL_BSP_SCHEDULE_DELAY", "100");
    let by_grpc = [("OTEL_EXPORTER_OTLP_ENDPOINT", rotel.grpc.as_str()), often];
    let by_http =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", rotel.http.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), often];
    let fleet = Fleet::start_in(&["--lease-seconds", "1"], &by_grpc);
    fleet.submit("ships", 1);
    let worker = |speed: &str| {
        let args = ["worker", "--engine", "mock", "--coordinator", &fleet.url, "--mock-tokens-per-second", speed];
        Process::start_in(&args, &by_http)
    };
    // Slow enough to be killed in its first section, after it has reported spans.
    let mut killed = worker("100");
    let told = |spans: &Spans| {
        let planned = spans.0.iter().any(|span| span.name == "plan");
        let prefills = spans.0.iter().filter(|span| span.name == "prefill");
        planned && prefills.into_iter().any(|span| spans.find(&span.parent_span_id).is_none())
    };
    collector.until("the prefill of an unfinished section", told).await;
    killed.kill();
    let _second = worker("0");
    fleet.ask(&["watch", "ships"]);

    let id = fleet.ask(&["documents", "ships"])[0]["document"].as_str().unwrap().to_owned();
    let shown = fleet.ask(&["show", "ships", &id]).remove(0);
    let attempts: Vec<Value> = shown["attempts"].as_array().unwrap().clone();
    let document = Context::parse(shown["body"]["traceparent"].as_str().unwrap()).unwrap();
    let span_of = |attempt: &Value| {
        let lease: LeaseId = attempt["lease"].as_str().unwrap().parse().unwrap();
        document.attempt(lease).span.to_bytes().to_vec()
    };
    let complete = |spans: &Spans| {
        attempts.iter().all(|attempt| {
            let span = spans.find(&span_of(attempt));
            span.is_some_and(|span| attempt["end"] == "lost" || spans.below(span).iter().any(|it| it.name == "decode"))
        })
    };
    let spans = collector.until("each attempt has a span, and each that ended well its pieces", complete).await;
    check_tree(&spans);
    for attempt in &attempts {
        let span = spans.find(&span_of(attempt)).unwrap();
        assert_eq!(value(span, "longhand.end").unwrap(), attempt["end"].as_str().unwrap());
        assert_eq!(value(span, "longhand.worker").unwrap(), attempt["worker"].as_str().unwrap());
        assert_eq!(value(span, "longhand.document").unwrap(), id);
    }
    let lost = attempts.iter().position(|attempt| attempt["end"] == "lost").expect("the killed worker's attempt");
    let span = spans.find(&span_of(&attempts[lost])).unwrap();
    assert!(is_error(span) && span.end_time_unix_nano - span.start_time_unix_nano > 500_000_000, "{span:?}");
    let below = spans.below(span);
    let expired = below.iter().find(|it| it.name == "lease expired").expect("why it ended");
    assert_eq!(expired.start_time_unix_nano, expired.end_time_unix_nano);
    assert!(below.iter().any(|it| it.name == "prefill"), "the spans that the killed worker had reported");
    let next = spans.find(&span_of(&attempts[lost + 1])).unwrap();
    assert_eq!((&next.links[0].span_id, &next.links[0].trace_id), (&span.span_id, &span.trace_id));
    assert_eq!((value(next, PLACE[2]), value(next, PLACE[3])), (value(span, PLACE[2]), Some("2".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_unsampled_documents_are_sent() {
    let (collector, address) = Collector::start().await;
    let endpoint = format!("http://{address}");
    let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_TRACES_SAMPLER", "always_off")];
    let mut fleet = Fleet::start_in(&[], &environment);
    let input = fleet.dir.path().join("mixed.jsonl");
    // A good row, one that is none, and one that no plan can reach.
    let rows = r#"{"prompt": "Describe a ship.", "length": 500}
{"prompt": 7}
{"prompt": "Describe all ships.", "length": 90000}"#;
    std::fs::write(&input, rows).unwrap();
    fleet.ask(&["submit", input.to_str().unwrap(), "--run-id", "ships"]);
    let worker = Process::start_in(&["worker", "--engine", "mock", "--coordinator", &fleet.url], &environment);
    worker.event("started");
    fleet.ask(&["watch", "ships"]);
    fleet.coordinator.signal("TERM");
    fleet.coordinator.wait();

    let spans = collector.spans();
    let kinds: BTreeSet<_> = spans.0.iter().filter_map(|span| value(span, "error.type")).collect();
    assert_eq!(kinds, BTreeSet::from(["bad_row".to_owned(), "length_unreachable".to_owned()]));
    let failed = spans.named("plan")[0];
    assert!(is_error(failed) && value(failed, "longhand.state").unwrap() == "failed");
    assert_eq!(spans.parent(failed).name, "submit");
    let traces: BTreeSet<_> = spans.0.iter().map(|span| &span.trace_id).collect();
    assert_eq!(traces.len(), 2, "the good document sends nothing: {:?}", spans.names());
}

#[tokio::test]
async fn a_hanging_collector_delays_the_exit_by_a_bounded_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for protocol in ["grpc", "http/protobuf"] {
        let environment = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let begun = clock::now();
        let ended = mock(1_000, silent.local_addr().unwrap(), &[], &environment).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains("spans were dropped"), "{}", ended.stderr);
        assert!(begun.elapsed() < Duration::from_secs(30), "its last call alone would take it ten seconds and more");
    }
}

#[tokio::test]
async fn nothing_is_sent_if_tracing_is_off_and_an_invalid_setting_is_rejected() {
    let (collector, address) = Collector::start().await;
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")] {
        let ended = mock(1_000, address, &[], &[off]).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    assert!(collector.spans().0.is_empty());
    let ended = mock(1_000, address, &[], &[("OTEL_TRACES_SAMPLER", "sometimes")]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("OTEL_TRACES_SAMPLER") && ended.stderr.contains("always_on"), "{}", ended.stderr);
}
