//! Rate limit per caller: a token bucket (GCRA). A caller is a connection: workers behind one address do not share a
//! limit, and one that calls in a loop does not starve the others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Callers that are tracked before idle ones are evicted.
const MAX_CALLERS: usize = 4_096;
/// Burst, in seconds' worth of calls: for a worker that starts with hundreds of slots, or a long listing.
const BURST_SECONDS: u32 = 4;

#[derive(Debug)]
pub(super) struct RateLimiter {
    /// Time between two calls at the limit.
    interval: Duration,
    /// The theoretical arrival time of each caller's next call. A lock, as all calls pass here; held for one look-up.
    callers: Mutex<HashMap<SocketAddr, Instant>>,
}

impl RateLimiter {
    /// A limiter that admits this many calls per second and caller, on average.
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1) / calls_per_second.max(1), callers: Mutex::default() }
    }

    /// Counts a call, or returns how long to wait before the next one.
    pub(super) fn admit(&self, caller: SocketAddr, now: Instant) -> Result<(), Duration> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MAX_CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, arrival| *arrival > now);
        }
        let arrival = callers.entry(caller).or_insert(now);
        let next = (*arrival).max(now) + self.interval;
        let latest = now + Duration::from_secs(BURST_SECONDS.into());
        if next > latest {
            return Err(next - latest);
        }
        *arrival = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longhand_proto::clock;

    use super::*;

    fn caller(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], number))
    }

    #[test]
    fn a_caller_above_the_limit_is_told_how_long_to_wait_and_others_are_not() {
        let (limiter, begin) = (RateLimiter::new(10), clock::now());
        let admitted = (0..100).take_while(|_| limiter.admit(caller(1), begin).is_ok()).count();
        assert_eq!(admitted, 40, "a burst of four seconds");
        let wait = limiter.admit(caller(1), begin).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        limiter.admit(caller(2), begin).unwrap();
        limiter.admit(caller(1), begin + wait).unwrap();
        limiter.admit(caller(1), begin + wait).unwrap_err();
        let hour = begin + Duration::from_secs(3_600);
        assert_eq!(
            (0..100).take_while(|_| limiter.admit(caller(1), hour).is_ok()).count(),
            40,
            "a long pause does not increase the burst"
        );
    }

    #[test]
    fn idle_callers_are_evicted() {
        let (limiter, begin) = (RateLimiter::new(10), clock::now());
        for number in 0..20_000 {
            let now = begin + Duration::from_millis(200 * u64::from(number));
            limiter.admit(caller(number), now).unwrap();
        }
        assert!(limiter.callers.lock().unwrap().len() <= MAX_CALLERS);
    }
}
