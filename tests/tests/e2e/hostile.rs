//! Calls of somebody who has a token, or stole one: whatever they hold, the coordinator goes on, and others are not harmed.

use std::time::{Duration, Instant};

use longhand_proto::MAX_MESSAGE_BYTES;
use longhand_proto::v1;
use longhand_proto::v1::operator_client::OperatorClient;
use longhand_worker::engine::mock::MockOptions;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{Harness, mock, within};

fn operator(harness: &Harness) -> OperatorClient<Channel> {
    OperatorClient::new(harness.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES)
}

async fn create_run(harness: &Harness, template: &str) -> Result<(), Status> {
    let recipe = format!("[templates]\nsection_en = '''{template}'''\n");
    let request = v1::CreateRunRequest { run: "hostile".into(), recipe, seed: 1, terms: None };
    within(operator(harness).create_run(request)).await.map(drop)
}

#[tokio::test]
async fn a_template_overflows_neither_the_stack_nor_the_memory() {
    let harness = Harness::start(1).await;
    let doubled = |first: &str, twice: &str, last: &str| format!("{first}{}{last}", twice.repeat(34));
    let begun = Instant::now();
    for (what, template) in [
        ("a chain of filters", format!("{{{{ instruction{} }}}}", "|upper".repeat(25_000))),
        ("a chain within bounds", format!("{{{{ instruction{} }}}} {{{{ none }}}}", "|upper".repeat(250))),
        ("a chain of operators", format!("{{{{ instruction{} }}}}", " ~ 'x'".repeat(25_000))),
        ("a chain of attributes", format!("{{{{ instruction{} }}}}", ".a".repeat(25_000))),
        ("brackets", format!("{{{{ {}1{} }}}}", "[".repeat(10_000), "]".repeat(10_000))),
        ("blocks", format!("{}{}", "{% if 1 %}".repeat(10_000), "{% endif %}".repeat(10_000))),
        ("branches", format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000))),
        ("a doubled list", doubled("{% set a = [1] %}", "{% set a = a + a %}", "{% for x in a %}x{% endfor %}")),
        ("a doubled text", doubled("{% set a = 'x' %}", "{% set a = a ~ a %}", "{{ a }}")),
        (
            "a squared text",
            format!("{{% set a = 'x' * 1000 %}}{}{{{{ a }}}}", "{% set a = a|replace('x', a) %}".repeat(9)),
        ),
        ("a long number", "{{ 10 ** 10 ** 10 }}{{ none }}".to_owned()),
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
