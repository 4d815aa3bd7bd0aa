//! How many requests a server is sent at a time: the number is halved when the server says that it has no room, and
//! grows by one for each full round that went well.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use longhand_proto::rng;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Pause of all requests where a server that has no room does not say when to come again.
const PAUSE: Duration = Duration::from_millis(500);
/// A server that asks for more is asked again after this long anyway.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// The decisions, pure: times come from outside.
#[derive(Debug)]
struct Pace {
    most: u32,
    limit: f64,
    running: u32,
    closed_until: Option<Instant>,
    /// Requests sent before it share the fate for which the limit was halved.
    halved: Option<Instant>,
}

/// Why a request must wait.
#[derive(Debug, PartialEq)]
enum Wait {
    Until(Instant),
    ForRoom,
}

impl Pace {
    fn new(most: u32) -> Self {
        Self { most, limit: f64::from(most), running: 0, closed_until: None, halved: None }
    }

    fn limit(&self) -> u32 {
        (self.limit as u32).clamp(1, self.most)
    }

    fn enter(&mut self, now: Instant) -> Result<(), Wait> {
        if let Some(until) = self.closed_until.filter(|&until| until > now) {
            return Err(Wait::Until(until));
        }
        if self.running >= self.limit() {
            return Err(Wait::ForRoom);
        }
        self.running += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    fn well(&mut self) {
        self.limit = (self.limit + 1.0 / self.limit).min(f64::from(self.most));
    }

    fn busy(&mut self, sent: Instant, now: Instant, pause: Duration) {
        if self.halved.is_none_or(|halved| sent >= halved) {
            self.limit = (self.limit / 2.0).max(1.0);
            self.halved = Some(now);
        }
        let until = now + pause;
        self.closed_until = Some(self.closed_until.map_or(until, |earlier| earlier.max(until)));
    }
}

/// The pace of all requests to one server.
#[derive(Debug)]
pub(super) struct Gate {
    /// A lock, as every task asks for itself; held for a comparison of numbers.
    pace: Mutex<Pace>,
    room: Notify,
}

/// A request that was let in; leaving gives its place back.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    gate: &'a Gate,
    sent: Instant,
}

impl Gate {
    pub(super) fn new(most: u32) -> Self {
        Self { pace: Mutex::new(Pace::new(most)), room: Notify::new() }
    }

    pub(super) fn limit(&self) -> u32 {
        self.with(|pace| pace.limit())
    }

    pub(super) async fn enter(&self) -> Entry<'_> {
        loop {
            let room = self.room.notified();
            let now = Instant::now();
            match self.with(|pace| pace.enter(now)) {
                Ok(()) => return Entry { gate: self, sent: now },
                Err(Wait::Until(then)) => tokio::time::sleep_until(then).await,
                Err(Wait::ForRoom) => room.await,
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Pace) -> T) -> T {
        change(&mut self.pace.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry<'_> {
    pub(super) fn well(&self) {
        self.gate.with(Pace::well);
    }

    pub(super) fn busy(&self, retry_after: Option<Duration>) {
        let pause = retry_after.unwrap_or_else(|| rng::around(PAUSE)).min(LONGEST_PAUSE);
        self.gate.with(|pace| pace.busy(self.sent, Instant::now(), pause));
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.gate.with(Pace::leave);
        self.gate.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_server_without_room_is_sent_half_as_much_once_a_round_and_slowly_more_again() {
        let start = Instant::now();
        let mut pace = Pace::new(8);
        for _ in 0..8 {
            assert_eq!(pace.enter(start), Ok(()));
        }
        assert_eq!(pace.enter(start), Err(Wait::ForRoom));
        for _ in 0..8 {
            pace.busy(start, start + SECOND, SECOND);
            pace.leave();
        }
        assert_eq!(pace.limit(), 4, "eight refusals of one round are one sign");
        pace.busy(start + 2 * SECOND, start + 3 * SECOND, SECOND);
        pace.busy(start + 4 * SECOND, start + 5 * SECOND, SECOND);
        pace.busy(start + 6 * SECOND, start + 7 * SECOND, SECOND);
        assert_eq!(pace.limit(), 1, "never none");
        pace.well();
        assert_eq!(pace.limit(), 2, "a round of one");
        (0..3).for_each(|_| pace.well());
        assert_eq!(pace.limit(), 3, "a round of two, and a little of the next");
        (0..100).for_each(|_| pace.well());
        assert_eq!(pace.limit(), 8);
    }

    #[test]
    fn nobody_asks_before_the_server_said_to() {
        let start = Instant::now();
        let mut pace = Pace::new(8);
        pace.busy(start, start, 7 * SECOND);
        pace.busy(start, start, SECOND);
        assert_eq!(pace.enter(start + 6 * SECOND), Err(Wait::Until(start + 7 * SECOND)));
        assert_eq!(pace.enter(start + 7 * SECOND), Ok(()));
    }
}
