//! What the documents of a run cost.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::state::State;
use crate::store::Attempt;

/// Costs of a run so far, in the currency of the workers' prices. Every attempt counts that told its worker's cost, also before a
/// restart; leases that were lost told none.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Of all attempts.
    pub total: f64,
    /// Of the documents that were accepted.
    pub accepted: f64,
    /// Of the documents that were rejected, failed or cancelled.
    pub dropped: f64,
    /// The total for each accepted document; none before the first one.
    pub per_document: Option<f64>,
    /// The total for a million words of accepted documents.
    pub per_million_words: Option<f64>,
}

impl Cost {
    /// Adds a document in this state.
    pub(crate) fn add(&mut self, state: State, cost: f64) {
        self.total += cost;
        match state {
            State::Accepted => self.accepted += cost,
            State::Rejected | State::Failed | State::Cancelled => self.dropped += cost,
            State::Ready | State::Leased | State::Delayed => {}
        }
    }

    /// With the figures for so many accepted documents and words; none if nothing had a price.
    pub(crate) fn of(mut self, documents: u64, words: u64) -> Option<Self> {
        self.per_document = (documents > 0).then(|| self.total / documents as f64);
        self.per_million_words = (words > 0).then(|| self.total / words as f64 * 1e6);
        (self.total > 0.0).then_some(self)
    }
}

/// What these attempts cost.
pub(crate) fn cost_of(attempts: &[Attempt]) -> f64 {
    // An empty sum of floats is -0.
    attempts
        .iter()
        .filter_map(|attempt| attempt.detail.get("cost").and_then(Value::as_f64))
        .fold(0.0, |sum, one| sum + one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_stands_beside_the_cost_of_what_is_left() {
        let mut cost = Cost::default();
        assert_eq!(cost.of(2, 9), None, "without a price nothing is said");
        for (state, one) in [(State::Accepted, 3.0), (State::Rejected, 1.0), (State::Failed, 0.5), (State::Ready, 0.5)]
        {
            cost.add(state, one);
        }
        let cost = cost.of(2, 1_000).unwrap();
        assert_eq!((cost.total, cost.accepted, cost.dropped), (5.0, 3.0, 1.5));
        assert_eq!((cost.per_document, cost.per_million_words), (Some(2.5), Some(5_000.0)));
    }
}
