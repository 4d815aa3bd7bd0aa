//! Signals: the first asks for an orderly end, the second ends at once.

use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Code, Failure, Result};

/// Time in which further signals are taken for the first one.
const TOGETHER: Duration = Duration::from_millis(500);

/// Ctrl-C and SIGTERM, which mean the same here.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
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

    /// Ends the process at the next signal, whatever it does by then. Nothing is lost by it: the store is always whole.
    /// Signals that come together are one: a batch system sends its own to us and to the script that hands it on.
    pub(crate) fn end_at_next(mut self) {
        drop(tokio::spawn(async move {
            tokio::time::sleep(TOGETHER).await;
            while self.next().now_or_never().is_some() {}
            self.next().await;
            std::process::exit(Code::Interrupted as i32);
        }));
    }
}
