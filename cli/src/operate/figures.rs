//! The figures of a run as its coordinator computes them.

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::control::wire;
use longhand_proto::{RunId, v1};
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

/// The cost of the run so far; none without prices.
pub(super) fn cost(figures: &Value) -> Option<String> {
    let number = |name: &str| figures["cost"][name].as_f64();
    let mut text = format!("{:.2}, {:.2} of it for dropped documents", number("total")?, number("dropped")?);
    if let (Some(document), Some(words)) = (number("per_document"), number("per_million_words")) {
        text.push_str(&format!("; {document:.4} per accepted document, {words:.2} per million accepted words"));
    }
    Some(text)
}
