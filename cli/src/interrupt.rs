//! Signals: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Code, Failure, Result};

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
    pub(crate) fn end_at_next(mut self) {
        drop(tokio::spawn(async move {
            self.next().await;
            std::process::exit(Code::Interrupted as i32);
        }));
    }
}
