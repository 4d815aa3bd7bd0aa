//! Control of a simulated process: it can be stopped, frozen (SIGSTOP), or cut off from its store.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;
use longhand_proto::rng;
use longhand_worker::engine::mock::MockEngine;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Handle of the process of one host, across restarts.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) name: String,
    frozen: AtomicBool,
    waker: AtomicWaker,
    thawed: Notify,
    /// Percentage of calls to the store that lose their request or reply.
    store_loss_percent: AtomicU64,
    /// Handles of the running instance.
    current: Mutex<Current>,
}

#[derive(Debug, Default, Clone)]
struct Current {
    stop: CancellationToken,
    engine: Option<Arc<MockEngine>>,
}

/// Which message of a call is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostMessage {
    Nothing,
    Request,
    Reply,
}

impl Process {
    pub(crate) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), ..Self::default() })
    }

    /// A new instance starts; the token stops it.
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

    pub(crate) fn set_store_loss(&self, percent: u64) {
        self.store_loss_percent.store(percent, Ordering::Relaxed);
    }

    /// Runs `work`, except while frozen.
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

    /// Random delay of one message between this process and its store.
    pub(crate) async fn network_delay(&self) {
        tokio::time::sleep(rng::up_to(Duration::from_millis(20))).await;
        self.awake().await;
    }

    pub(crate) fn draw_loss(&self) -> LostMessage {
        let store_loss_percent = self.store_loss_percent.load(Ordering::Relaxed);
        match rng::below(100) {
            drawn if drawn >= store_loss_percent => LostMessage::Nothing,
            drawn if drawn % 2 == 0 => LostMessage::Request,
            _ => LostMessage::Reply,
        }
    }
}
