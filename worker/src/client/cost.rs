//! What tasks cost: an hour of the machine has a price, which the tasks under way share equally; or tokens have one.

use tokio::time::Instant;

/// What this worker costs, in the operator's currency.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Price {
    /// An hour of the worker: of its GPUs, or of its machine.
    pub per_hour: f64,
    /// A million tokens of prompts and texts, as a server charges them.
    pub per_million_tokens: f64,
}

/// Divides the price of the time among tasks. Time in which no task is under way belongs to none.
#[derive(Debug)]
pub(super) struct CostMeter {
    price: Price,
    /// Tasks under way.
    running: u32,
    /// What a task that was under way from the beginning would have cost until `at`.
    share: f64,
    at: Instant,
}

impl CostMeter {
    pub(super) fn new(price: Price) -> Self {
        Self { price, running: 0, share: 0.0, at: Instant::now() }
    }

    fn advance(&mut self, now: Instant) {
        if self.running > 0 {
            let hours = now.saturating_duration_since(self.at).as_secs_f64() / 3_600.0;
            self.share += self.price.per_hour * hours / f64::from(self.running);
        }
        self.at = now;
    }

    /// A task begins; the return value is for [`CostMeter::end`].
    pub(super) fn begin(&mut self, now: Instant) -> f64 {
        self.advance(now);
        self.running += 1;
        self.share
    }

    /// What the task cost that began at this share and used so many tokens.
    pub(super) fn end(&mut self, begun: f64, tokens: u64, now: Instant) -> f64 {
        self.advance(now);
        self.running = self.running.saturating_sub(1);
        self.share - begun + self.price.per_million_tokens * tokens as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn tasks_share_the_time_in_which_they_are_under_way() {
        let start = Instant::now();
        let mut meter = CostMeter { at: start, ..CostMeter::new(Price { per_hour: 60.0, per_million_tokens: 0.0 }) };
        // Idle time costs nobody.
        let first = meter.begin(start + 10 * MINUTE);
        let second = meter.begin(start + 12 * MINUTE);
        let costs = [meter.end(first, 500, start + 16 * MINUTE), meter.end(second, 500, start + 17 * MINUTE)];
        assert!((costs[0] - 4.0).abs() < 1e-9, "two minutes alone and four shared: {costs:?}");
        assert!((costs[1] - 3.0).abs() < 1e-9, "four shared and one alone: {costs:?}");
    }

    #[test]
    fn tokens_have_a_price_of_their_own() {
        let start = Instant::now();
        let mut meter = CostMeter::new(Price { per_hour: 0.0, per_million_tokens: 2.0 });
        let begun = meter.begin(start);
        assert!((meter.end(begun, 250_000, start + MINUTE) - 0.5).abs() < 1e-9);
    }
}
