//! A simulated process as whoever runs it sees it: it can be stopped, frozen as by SIGSTOP, or lose what its store says.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use longhand_proto::chance;
use longhand_worker::engine::mock::MockEngine;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The handle of one host's process, whichever incarnation of it is running.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) name: String,
    frozen: AtomicBool,
    waker: AtomicWaker,
    thawed: Notify,
    /// Of a hundred calls to the store this many lose their request or their reply.
    unlucky: AtomicU64,
    /// What the running incarnation hands out.
    current: Mutex<Current>,
}

#[derive(Debug, Default, Clone)]
struct Current {
    stop: CancellationToken,
    engine: Option<Arc<MockEngine>>,
}

/// What is lost of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    Nothing,
    Request,
    Reply,
}

impl Process {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), ..Self::default() })
    }

    /// A new incarnation begins; asked to stop by the token.
    pub(crate) fn begin(&self, engine: Option<Arc<MockEngine>>) -> CancellationToken {
        let stop = CancellationToken::new();
        *self.current.lock().unwrap() = Current { stop: stop.clone(), engine };
        stop
    }

    pub(crate) fn stop(&self) {
        self.current.lock().unwrap().stop.cancel();
    }

    pub(crate) fn kill_engine(&self) {
        if let Some(engine) = &self.current.lock().unwrap().engine {
            engine.kill();
        }
    }

    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
        if !frozen {
            self.waker.wake();
            self.thawed.notify_waiters();
        }
    }

    pub(crate) fn unlucky(&self, percent: u64) {
        self.unlucky.store(percent, Ordering::Relaxed);
    }

    /// Runs `work`, but not while frozen.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.frozen.load(Ordering::Relaxed) { Poll::Pending } else { work.as_mut().poll(context) }
        })
        .await
    }

    /// Waits until the process is not frozen.
    pub(crate) async fn awake(&self) {
        loop {
            let thawed = self.thawed.notified();
            if !self.frozen.load(Ordering::Relaxed) {
                return;
            }
            thawed.await;
        }
    }

    /// One way between this process and its store; the time it takes is drawn.
    pub(crate) async fn travel(&self) {
        tokio::time::sleep(chance::up_to(Duration::from_millis(20))).await;
        self.awake().await;
    }

    pub(crate) fn lost(&self) -> Lost {
        let unlucky = self.unlucky.load(Ordering::Relaxed);
        match chance::below(100) {
            drawn if drawn >= unlucky => Lost::Nothing,
            drawn if drawn % 2 == 0 => Lost::Request,
            _ => Lost::Reply,
        }
    }
}
