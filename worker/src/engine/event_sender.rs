//! The sending half of a generation. It never blocks on the reader, and it always sends a last event: dropped without
//! one, it reports that the engine died.

use longhand_proto::task::{Backtrack, Failure, Output};
use tokio::sync::mpsc;

use super::{Delta, Event, Generation};

/// Events that may be queued for a slow reader; tokens beyond them are joined into one event.
const CHANNEL_CAPACITY: usize = 16;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct EventSender {
    events: mpsc::Sender<Event>,
    /// Capacity for the last tokens and the last event, so that neither ever blocks; empty once used.
    reserved: Vec<mpsc::OwnedPermit<Event>>,
    unsent: Delta,
    /// Tokens that the reader has once it has applied the unsent backtracks.
    kept: usize,
}

impl EventSender {
    pub(crate) fn open() -> (Self, Generation) {
        let (events, receiver) = mpsc::channel(CHANNEL_CAPACITY);
        let reserved = (0..2).filter_map(|_| events.clone().try_reserve_owned().ok()).collect();
        (Self { events, reserved, unsent: Delta::default(), kept: 0 }, Generation { events: receiver })
    }

    /// True if the receiver is gone.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.events.is_closed()
    }

    /// The text was taken back to before a token of the text sent so far.
    pub(crate) fn backtrack(&mut self, backtrack: Backtrack) {
        let position = backtrack.position as usize;
        self.unsent.tokens.truncate(position.saturating_sub(self.kept));
        self.kept = self.kept.min(position);
        self.unsent.backtracks.push(backtrack);
        self.send();
    }

    pub(crate) fn tokens(&mut self, tokens: &[u32]) {
        self.unsent.tokens.extend_from_slice(tokens);
        self.send();
    }

    /// The first event of a text that continues a checkpoint.
    pub(crate) fn resumed(&mut self, backtracks: &[Backtrack], tokens: &[u32]) {
        self.unsent.backtracks.extend_from_slice(backtracks);
        self.tokens(tokens);
    }

    fn send(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        let tokens = self.unsent.tokens.len();
        match self.events.try_send(Event::Tokens(std::mem::take(&mut self.unsent))) {
            Ok(()) => self.kept += tokens,
            Err(mpsc::error::TrySendError::Full(Event::Tokens(back))) => self.unsent = back,
            // Cancelled: the sequence is dropped before the next step.
            Err(mpsc::error::TrySendError::Full(_) | mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    pub(crate) fn done(mut self, output: Output) {
        self.finish(Event::Done(output));
    }

    pub(crate) fn failed(mut self, failure: Failure) {
        self.finish(Event::Failed(failure));
    }

    fn finish(&mut self, event: Event) {
        let (Some(last), Some(tokens)) = (self.reserved.pop(), self.reserved.pop()) else { return };
        if !self.unsent.is_empty() {
            tokens.send(Event::Tokens(std::mem::take(&mut self.unsent)));
        }
        last.send(event);
    }
}

impl Drop for EventSender {
    fn drop(&mut self) {
        self.finish(Event::Failed(engine_dead("the engine stopped while this task was running")));
    }
}

/// The failure of every task of an engine that has stopped.
pub(crate) fn engine_dead(message: &str) -> Failure {
    Failure { class: "engine_dead".into(), message: message.into(), permanent: false }
}
