//! Calls of somebody who has a token, or stole one: whatever they hold, the coordinator goes on, and others are not harmed.

use std::net::IpAddr;
use std::time::Duration;

use longhand_proto::MAX_MESSAGE_BYTES;
use longhand_proto::task::{FinishReason, Output};
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::v1::operator_client::OperatorClient;
use longhand_proto::{LeaseId, clock, v1};
use longhand_worker::engine::mock::MockOptions;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Harness, RawClient, WorkerHandle, mock, within, write};

fn operator(harness: &Harness) -> OperatorClient<Channel> {
    OperatorClient::new(harness.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

/// A worker that has written some sections, so that there is something to compare with.
async fn good_worker(harness: &Harness) -> WorkerHandle {
    let slow = MockOptions { slots: 4, tokens_per_second: 4_000.0, ..MockOptions::default() };
    let worker = harness.worker(mock(slow));
    harness
        .until(|records| {
            records.iter().filter_map(|record| record.document().ok()).map(|it| it.sections().len()).sum::<usize>() > 8
        })
        .await;
    worker
}

async fn create_run(harness: &Harness, template: &str) -> Result<(), Status> {
    let recipe = format!("[templates]\nsection_en = '''{template}\n'''\n");
    let request = v1::CreateRunRequest { run: "hostile".into(), recipe, seed: 1, terms: None };
    within(operator(harness).create_run(request)).await.map(drop)
}

#[tokio::test]
async fn a_template_overflows_neither_the_stack_nor_the_memory() {
    let harness = Harness::start(1).await;
    let doubled = |first: &str, twice: &str, last: &str| format!("{first}{}{last}", twice.repeat(34));
    let begun = clock::now();
    for (what, template) in [
        ("a chain of filters", format!("{{{{ instruction{} }}}}", "|upper".repeat(25_000))),
        ("a chain within bounds", format!("{{{{ instruction{} }}}} {{{{ no_such_name }}}}", "|upper".repeat(250))),
        ("a chain of operators", format!("{{{{ instruction{} }}}}", " ~ 'x'".repeat(25_000))),
        ("a chain of attributes", format!("{{{{ instruction{} }}}}", ".a".repeat(25_000))),
        ("brackets", format!("{{{{ {}1{} }}}}", "[".repeat(10_000), "]".repeat(10_000))),
        ("blocks", format!("{}{}", "{% if 1 %}".repeat(10_000), "{% endif %}".repeat(10_000))),
        ("branches", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000))),
        ("a doubled list", doubled("{% set a = [1] %}", "{% set a = a + a %}", "{% for x in a %}x{% endfor %}")),
        ("a doubled tuple", doubled("{% set a = (1,) %}", "{% set a = a + a %}", "{{ a|length }}")),
        ("a doubled list in a loop", "{% for x in range(40) %}{% set a = a + a|list %}{% endfor %}".to_owned()),
        ("a doubled text", doubled("{% set a = 'x' %}", "{% set a = a ~ a %}", "{{ a }}")),
        (
            "a squared text",
            format!("{{% set a = 'x' * 1000 %}}{}{{{{ a }}}}", "{% set a = a|replace('x', a) %}".repeat(9)),
        ),
        ("a long number", "{{ 10 ** 10 ** 10 }}{{ no_such_name }}".to_owned()),
        ("a long list", "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned()),
    ] {
        let refused = create_run(&harness, &template).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {}", refused.message());
        assert!(refused.message().chars().count() < 2_000, "{what}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let worker = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    worker.stop().await;
}

async fn renew(harness: &Harness, change: impl FnOnce(&mut v1::Vitals)) -> Result<(), Status> {
    let mut vitals = v1::Vitals { model: Some(v1::ModelInfo::default()), ..v1::Vitals::default() };
    change(&mut vitals);
    let request = v1::RenewRequest { worker: "thief".into(), renewals: Vec::new(), vitals: Some(vitals) };
    within(CoordinatorClient::new(harness.channel()).renew(request)).await.map(drop)
}

#[tokio::test]
async fn what_a_worker_says_is_finite_and_short() {
    let harness = Harness::start(1).await;
    renew(&harness, |vitals| vitals.tokens_per_second = 12.5).await.unwrap();
    let long = "x".repeat(1 << 20);
    for change in [
        (|vitals, _| vitals.tokens_per_second = f64::NAN) as fn(&mut v1::Vitals, &str),
        |vitals, _| vitals.tokens_per_second = f64::INFINITY,
        |vitals, long| vitals.version = long.into(),
        |vitals, long| vitals.model.as_mut().unwrap().name = long.into(),
        |vitals, long| vitals.model.as_mut().unwrap().device = long.into(),
    ] {
        let refused = renew(&harness, |vitals| change(vitals, &long)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    }
    renew(&harness, |vitals| vitals.problem = long.clone()).await.unwrap();
    renew(&harness, |vitals| vitals.kinds = vec![1; 1 << 20]).await.unwrap();
    let workers = harness.store.workers().await.unwrap();
    assert!(workers.iter().all(|worker| worker.report.problem.len() <= 500 && worker.report.kinds.len() <= 1));
    assert!(workers.iter().all(|worker| worker.report.tokens_per_second.is_finite()), "{workers:?}");

    let raw = RawClient::of(&harness);
    let lease = raw.take().await;
    let text = "word ".repeat(3 << 20);
    let output =
        Output { text, finish_reason: FinishReason::Stop, usage: Default::default(), timings: Default::default() };
    let request = v1::CompleteRequest {
        worker: "thief".into(),
        lease_id: lease.id.to_string(),
        result: Some(v1::complete_request::Result::Output(output.into())),
        model: Some(v1::ModelInfo::default()),
        ..v1::CompleteRequest::default()
    };
    let refused = within(raw.client.clone().complete(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    harness.expire().await;
    let worker = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_fails_everything_does_not_fail_every_document() {
    let harness = Harness::start(0).await;
    harness.submit_short(40).await;
    let worker = good_worker(&harness).await;
    let raw = RawClient::of(&harness);
    // Texts for leases that never were do not speak for it.
    let first = raw.lease("first", 1, Duration::from_millis(10)).await.remove(0);
    let output = write(first.task).await;
    for _ in 0..100 {
        assert_eq!(raw.complete(LeaseId::mint(), output.clone()).await.0, v1::Outcome::Stale);
    }
    raw.fail(first.id).await;
    let mut failed = 1;
    for number in 0..60 {
        let leases = raw.lease(&format!("request-{number}"), 8, Duration::from_millis(10)).await;
        for lease in &leases {
            raw.fail(lease.id).await;
            failed += 1;
        }
    }
    assert!(failed > 8, "{failed}");
    harness.finished().await;
    worker.stop().await;
    let counts = harness.counts().await;
    assert!(counts.failed <= 8 && counts.accepted + counts.rejected >= 30, "{counts:?}");
}

#[tokio::test]
async fn a_worker_that_fails_everything_fails_no_more_under_many_names_and_addresses() {
    let harness = Harness::start(0).await;
    harness.submit_short(80).await;
    let worker = good_worker(&harness).await;
    let mut failed = 0;
    for number in 2..14 {
        let raw = RawClient::at(&harness, IpAddr::from([127, 0, 0, number]));
        // One plan speaks for each name.
        let first = raw.take().await;
        let (outcome, next) = raw.complete(first.id, write(first.task).await).await;
        assert_eq!(outcome, v1::Outcome::Recorded);
        let leases = raw.lease(&format!("request-{number}"), 8, Duration::from_millis(10)).await;
        for lease in next.iter().chain(&leases) {
            raw.fail(lease.id).await;
            failed += 1;
        }
    }
    assert!(failed > 40, "{failed}");
    harness.finished().await;
    worker.stop().await;
    let counts = harness.counts().await;
    assert!(counts.failed <= 8 && counts.accepted + counts.rejected >= 70, "{counts:?}");
}
