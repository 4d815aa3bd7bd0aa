//! Cancelling a large run: how fast it stops, and what remains of it.
//!
//! With 20,000 documents: `LONGHAND_CANCEL_DOCUMENTS=20000 cargo test -p longhand --test e2e cancel:: -- --nocapture`

use std::time::Duration;

use longhand_tests::server::{Kind, Server};
use serde_json::Value;

use crate::fleet::Fleet;

/// Time after the call in which a document may still be accepted.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

fn documents() -> u64 {
    std::env::var("LONGHAND_CANCEL_DOCUMENTS").map_or(1_000, |number| number.parse().unwrap())
}

#[test]
fn a_large_run_stops_at_once_and_is_taken_up_again() {
    let server = Server::start(Kind::Valkey);
    // Debug builds of six processes on two cores: a lease must survive that.
    let fleet = Fleet::over(&server.url(), tempfile::tempdir().unwrap(), &["--lease-seconds", "30"], &[]);
    let documents = documents();
    fleet.submit("ships", documents as usize);
    // A debug build applies some results a second.
    let pace = ["--mock-tokens-per-second", "400", "--max-sequences", "8"];
    let _workers = [fleet.worker(&pace), fleet.worker(&pace)];
    // Of all runs: without figures, which take long to count.
    let status = || fleet.ask(&["status"]).remove(0);
    let accepted = |status: &Value| status["counts"]["accepted"].as_u64().unwrap();
    while accepted(&status()) < 10 {
        std::thread::sleep(Duration::from_millis(100));
    }

    let called = longhand_proto::clock::now();
    let reply = fleet.ask(&["cancel", "ships"]).remove(0);
    let answered = called.elapsed();
    let (mut last, mut risen) = (0, Duration::ZERO);
    let done = loop {
        let now = status();
        if accepted(&now) > last {
            (last, risen) = (accepted(&now), called.elapsed());
        }
        if now["cancelling"] == false {
            break now;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    println!(
        "{documents} documents, 2 workers: cancel answered after {:.2} s, the last accepted document was seen {:.2} s after the \
         call, all had ended after {:.1} s ({last} accepted)",
        answered.as_secs_f64(),
        risen.as_secs_f64(),
        called.elapsed().as_secs_f64()
    );
    assert!(risen <= STOPS_WITHIN, "a document was accepted {risen:?} after the call");
    assert!(answered <= Duration::from_secs(1), "the call took {answered:?}");
    let count = |state: &str| done["counts"][state].as_u64().unwrap();
    assert!(reply["cancelled"].as_u64().unwrap() <= count("cancelled"));
    assert_eq!(count("accepted") + count("cancelled") + count("rejected") + count("failed"), documents);
    let figures = fleet.ask(&["watch", "ships"]).pop().unwrap()["figures"].clone();
    assert!(figures["discarded"]["cancelled"].as_u64().unwrap() > 0, "what was decoded is wasted: {figures}");

    // Some of it is taken up again: those that had begun have their sections.
    let requeued = fleet.ask(&["requeue", "ships", "--cancelled", "--dry-run"]).remove(0);
    assert_eq!(requeued["documents"].as_u64().unwrap(), count("cancelled"));
    assert_eq!(requeued["sections_redone"], 0);
}
