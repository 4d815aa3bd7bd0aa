//! The figures of a run as its coordinator computes them.

use longhand_command::exit::{Failure, Result};
use longhand_command::output::{duration, grouped, plural};
use longhand_coordinator::control::wire;
use longhand_proto::{RunId, clock, v1};
use serde_json::Value;

use super::client::{OperatorClient, grpc};

/// Throughput, tokens, cost and causes of failure.
pub(super) async fn figures(client: &OperatorClient, run: &RunId) -> Result<Value> {
    let get = |wire| {
        let request = v1::GetRunRequest { run: run.to_string() };
        async move { grpc(wire).get_figures(request).await }
    };
    wire::figures_from_wire(&client.call("watch", get).await?).map_err(|e| {
        Failure::refused(format!(
            "cannot parse the coordinator's response: {e}; use the same version of longhand as the coordinator"
        ))
    })
}

/// True once the figures include every document.
pub(super) fn is_complete(figures: &Value) -> bool {
    // Older coordinators always say so.
    figures["complete"].as_bool().unwrap_or(true)
}

/// What the figures are, where they do not include every document yet. `documents` is how many there are.
pub(super) fn counting(figures: &Value, documents: u64) -> Option<String> {
    if is_complete(figures) {
        return None;
    }
    let read = figures["listed"].as_u64().unwrap_or(0);
    let mut text = format!("counting: {} of {} read", grouped(read), plural(documents, "document"));
    text.push_str(&match figures["counted_ms"].as_u64() {
        Some(ms) => {
            format!("; the totals are those of {} ago", duration(clock::unix_ms().saturating_sub(ms) / 1_000))
        }
        None => "; the totals are not complete".to_owned(),
    });
    Some(text)
}

/// The cost of the run so far; none without prices.
pub(super) fn cost(figures: &Value) -> Option<String> {
    let number = |name: &str| figures["cost"][name].as_f64();
    let mut text = format!("{:.2}, {:.2} of it for dropped documents", number("total")?, number("dropped")?);
    if let (Some(document), Some(words)) = (number("per_document"), number("per_million_words")) {
        text.push_str(&format!("; {document:.4} per accepted document, {words:.2} per million accepted words"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_that_are_not_complete_say_so() {
        assert_eq!(counting(&json!({ "complete": true }), 9), None);
        let partial = json!({ "complete": false, "listed": 1_200 });
        assert_eq!(
            counting(&partial, 20_000).unwrap(),
            "counting: 1,200 of 20,000 documents read; the totals are not complete"
        );
        let earlier = json!({ "complete": false, "listed": 0, "counted_ms": clock::unix_ms() - 65_000 });
        assert!(counting(&earlier, 1).unwrap().ends_with("the totals are those of 1 min 05 s ago"));
    }
}
