//! The engine's end of a generation. It never waits for the reader, and it always says how the task ended: dropped
//! without an end, it reports that the engine died.

use longhand_proto::task::{Failure, Output};
use tokio::sync::mpsc;

use super::{Event, Generation};

/// Events that may wait for a slow reader; tokens beyond them are joined into one event.
const EVENTS: usize = 16;

#[derive(Debug)]
pub(crate) struct Outlet {
    events: mpsc::Sender<Event>,
    /// Room kept for the last tokens and the end, so that neither ever waits; empty once used.
    kept: Vec<mpsc::OwnedPermit<Event>>,
    unsent: Vec<u32>,
}

impl Outlet {
    pub(crate) fn open() -> (Self, Generation) {
        let (events, receiver) = mpsc::channel(EVENTS);
        let kept = (0..2).filter_map(|_| events.clone().try_reserve_owned().ok()).collect();
        (Self { events, kept, unsent: Vec::new() }, Generation { events: receiver })
    }

    /// True if nobody reads any more.
    pub(crate) fn cancelled(&self) -> bool {
        self.events.is_closed()
    }

    pub(crate) fn tokens(&mut self, tokens: &[u32]) {
        self.unsent.extend_from_slice(tokens);
        if self.unsent.is_empty() {
            return;
        }
        match self.events.try_send(Event::Tokens(std::mem::take(&mut self.unsent))) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(Event::Tokens(back))) => self.unsent = back,
            // Cancelled: the sequence is dropped before the next step.
            Err(mpsc::error::TrySendError::Full(_) | mpsc::error::TrySendError::Closed(_)) => {}
        }
    }

    pub(crate) fn done(mut self, output: Output) {
        self.end(Event::Done(output));
    }

    pub(crate) fn failed(mut self, failure: Failure) {
        self.end(Event::Failed(failure));
    }

    fn end(&mut self, event: Event) {
        let (Some(last), Some(tokens)) = (self.kept.pop(), self.kept.pop()) else { return };
        if !self.unsent.is_empty() {
            tokens.send(Event::Tokens(std::mem::take(&mut self.unsent)));
        }
        last.send(event);
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.end(Event::Failed(engine_dead("the engine ended while this task was being written")));
    }
}

/// The failure of every task of an engine that can write no more.
pub(crate) fn engine_dead(message: &str) -> Failure {
    Failure { class: "engine_dead".into(), message: message.into(), permanent: false }
}
