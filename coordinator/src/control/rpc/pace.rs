//! How often one caller may call: so many calls a second, with some in hand for a start. A caller is a connection: workers
//! behind one address must not wait for each other, and one that calls in a loop must not crowd out the rest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Callers remembered at least; those that have been silent are forgotten when there are more.
const CALLERS: usize = 4_096;
/// Seconds' worth of calls that a caller may make at once: a worker that starts with hundreds of slots, a long listing.
const IN_HAND: u32 = 4;

#[derive(Debug)]
pub(super) struct Pace {
    /// Time that one call takes up.
    each: Duration,
    /// A lock, as all calls pass here; held for one look-up. The time by which a caller has used up what it called.
    callers: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Pace {
    pub(super) fn new(calls_per_second: u32) -> Self {
        Self { each: Duration::from_secs(1) / calls_per_second.max(1), callers: Mutex::default() }
    }

    /// Counts a call, or says how long to wait before the next.
    pub(super) fn admit(&self, caller: SocketAddr, now: Instant) -> Result<(), Duration> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, used| *used > now);
        }
        let used = callers.entry(caller).or_insert(now);
        let ahead = (*used).max(now) + self.each;
        let most = now + Duration::from_secs(IN_HAND.into());
        if ahead > most {
            return Err(ahead - most);
        }
        *used = ahead;
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
    fn who_calls_in_a_loop_is_told_how_long_to_wait_and_others_are_not() {
        let (pace, begin) = (Pace::new(10), clock::now());
        let admitted = (0..100).take_while(|_| pace.admit(caller(1), begin).is_ok()).count();
        assert_eq!(admitted, 40, "four seconds' worth at once");
        let wait = pace.admit(caller(1), begin).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        pace.admit(caller(2), begin).unwrap();
        pace.admit(caller(1), begin + wait).unwrap();
        pace.admit(caller(1), begin + wait).unwrap_err();
        let hour = begin + Duration::from_secs(3_600);
        assert_eq!((0..100).take_while(|_| pace.admit(caller(1), hour).is_ok()).count(), 40, "and no more for waiting");
    }

    #[test]
    fn silent_callers_are_forgotten() {
        let (pace, begin) = (Pace::new(10), clock::now());
        for number in 0..20_000 {
            let now = begin + Duration::from_millis(200 * u64::from(number));
            pace.admit(caller(number), now).unwrap();
        }
        assert!(pace.callers.lock().unwrap().len() <= CALLERS);
    }
}
