//! Tokens that were rejected: counted by address, and logged without filling the log.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Opts};

/// Rejected tokens of an address in one window that are answered each for itself.
const MAX_REJECTED: u32 = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered.
const MAX_ADDRESSES: usize = 4_096;

static REJECTED: LazyLock<IntCounter> = LazyLock::new(|| {
    let options =
        Opts::new("longhand_rejected_tokens_total", "tokens that were rejected: unknown, expired, of another role");
    IntCounter::with_opts(options).expect("the name is valid")
});

/// The counter of this process.
pub(crate) fn gather() -> Vec<MetricFamily> {
    REJECTED.collect()
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    rejected: u32,
}

/// Rejected tokens by address.
#[derive(Debug, Default)]
pub(super) struct RejectedTokens {
    /// A lock, as calls of both ports pass here; held for one look-up.
    windows: Mutex<HashMap<IpAddr, Window>>,
}

impl RejectedTokens {
    /// Counts a rejected token; true if its address had too many.
    pub(super) fn record(&self, address: Option<IpAddr>, now: Instant) -> bool {
        REJECTED.inc();
        let Some(address) = address else { return false };
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MAX_ADDRESSES {
            windows.retain(|_, window| is_open(window, now));
            if windows.len() >= MAX_ADDRESSES
                && let Some(oldest) = windows.iter().min_by_key(|(_, window)| window.began).map(|(address, _)| *address)
            {
                windows.remove(&oldest);
            }
        }
        let window = windows.entry(network(address)).or_insert(Window { began: now, rejected: 0 });
        if !is_open(window, now) {
            *window = Window { began: now, rejected: 0 };
        }
        window.rejected = window.rejected.saturating_add(1);
        match window.rejected {
            1 => tracing::warn!(%address, "token rejected"),
            MAX_REJECTED => {
                tracing::warn!(%address, rejected = MAX_REJECTED, "more rejected tokens of this address are not logged for a minute");
            }
            _ => {}
        }
        window.rejected > MAX_REJECTED
    }
}

fn is_open(window: &Window, now: Instant) -> bool {
    now.duration_since(window.began) < WINDOW
}

/// One host has a whole network of IPv6 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use longhand_proto::clock;

    use super::*;

    #[test]
    fn an_address_that_guesses_is_known_for_a_minute_and_others_are_not() {
        let (rejected, now) = (RejectedTokens::default(), clock::now());
        let [guesser, neighbour, other] = ["2001:db8::1", "2001:db8::2", "10.0.0.1"].map(|text| text.parse().unwrap());
        for _ in 0..MAX_REJECTED {
            assert!(!rejected.record(Some(guesser), now));
        }
        assert!(rejected.record(Some(guesser), now) && rejected.record(Some(neighbour), now));
        assert!(!rejected.record(Some(other), now));
        assert!(!rejected.record(Some(guesser), now + WINDOW));
        for number in 0..10_000_u32 {
            rejected.record(Some(IpAddr::from(number.to_be_bytes())), now);
        }
        assert!(rejected.windows.lock().unwrap().len() <= MAX_ADDRESSES);
    }
}
