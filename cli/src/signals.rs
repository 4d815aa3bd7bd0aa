//! Signals: the first one asks for an orderly stop, the second one ends the process at once.

use std::time::Duration;

use futures::FutureExt;
use longhand_command::exit::{Code, Failure, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time in which further signals count as part of the first one.
const DEBOUNCE: Duration = Duration::from_millis(500);

/// SIGINT and SIGTERM, which are treated alike.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// Hang-ups, which no longer end the process from now on.
pub(crate) fn hang_ups() -> Result<Signal> {
    signal(SignalKind::hangup()).map_err(|e| Failure::refused(format!("signals cannot be received: {e}")))
}

impl Signals {
    /// From now on a signal does not end the process by itself.
    pub(crate) fn listen() -> Result<Self> {
        let on = |kind| signal(kind).map_err(|e| Failure::refused(format!("signals cannot be received: {e}")));
        Ok(Self { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? })
    }

    /// Resolves at the next signal.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Ends the process at the next signal, whatever it is doing. The store is consistent at any moment.
    /// Signals that come together are one: a batch system sends its own to this process and to the script that forwards it.
    pub(crate) fn exit_on_next(mut self) {
        drop(tokio::spawn(async move {
            tokio::time::sleep(DEBOUNCE).await;
            while self.next().now_or_never().is_some() {}
            self.next().await;
            std::process::exit(Code::Interrupted as i32);
        }));
    }
}
