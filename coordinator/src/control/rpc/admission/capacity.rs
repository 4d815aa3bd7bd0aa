//! How much a coordinator takes on at a time. What is beyond is rejected with retry-after, before it costs memory.

use std::sync::Arc;
use std::time::Duration;

use longhand_proto::{MAX_MESSAGE_BYTES, RETRY_HEADER};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::net::Peer;

/// Requests for work that may wait at the same time; each costs some kilobytes.
const MAX_WAITING: usize = 16_384;
/// Calls that may wait for each one that is processed.
const QUEUED_PER_CALL: usize = 4;
/// Of this many calls that are processed, one may be an operator's: their answers are large, and workers go first.
const CALLS_PER_OPERATOR_CALL: usize = 8;
/// Health watches at the same time; no part of this program makes any.
const MAX_WATCHES: usize = 64;
/// Bytes of messages that each processed call may have on average.
const BYTES_PER_CALL: usize = 1 << 20;
/// What a call costs at least, in bytes: its stream and its headers.
const MIN_COST: usize = 4 << 10;
/// Messages up to this size, such as renewals, have a budget of their own: large ones do not delay them.
const SMALL: usize = 64 << 10;
const SMALL_BYTES: usize = 64 << 20;

/// When to retry if there are too many calls: long enough for some to end.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A rejection because of too many calls.
fn retry_after_capacity() -> Status {
    retry_after("too many calls in progress; retry after the time in the metadata", RETRY_AFTER)
}

/// A rejection that says in its metadata when to retry.
pub(super) fn retry_after(why: &str, wait: Duration) -> Status {
    let mut status = Status::resource_exhausted(why);
    status.metadata_mut().insert(RETRY_HEADER, (wait.as_millis() as u64).max(1).into());
    status
}

/// Permits for everything that calls cost.
#[derive(Debug)]
pub(super) struct Capacity {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Requests for work, which wait long and cost little.
    waiting: Arc<Semaphore>,
    workers: Lane,
    operators: Lane,
    watches: Arc<Semaphore>,
}

/// Calls that are processed, and those that wait for it.
#[derive(Debug)]
struct Lane {
    queued: Arc<Semaphore>,
    processed: Arc<Semaphore>,
}

impl Lane {
    fn new(calls: usize) -> Self {
        let calls = calls.max(1);
        Self {
            queued: Arc::new(Semaphore::new(calls * (1 + QUEUED_PER_CALL))),
            processed: Arc::new(Semaphore::new(calls)),
        }
    }
}

/// Held by a call as long as its message is in memory.
#[derive(Debug)]
pub(super) struct Reserved {
    _connection: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

/// Held by a call while it is processed.
#[derive(Debug)]
pub(super) struct Admitted {
    _queued: OwnedSemaphorePermit,
    _processed: Option<OwnedSemaphorePermit>,
}

/// Who makes a call, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A worker's request for work.
    Lease,
    /// Any other call of a worker.
    Worker,
    /// A call of an operator.
    Operator,
}

impl Capacity {
    /// For so many calls that are processed at the same time.
    pub(super) fn new(max_calls: usize) -> Self {
        let large = (max_calls * BYTES_PER_CALL).max(4 * MAX_MESSAGE_BYTES);
        Self {
            small: Arc::new(Semaphore::new(SMALL_BYTES)),
            large: Arc::new(Semaphore::new(large)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            workers: Lane::new(max_calls),
            operators: Lane::new(max_calls / CALLS_PER_OPERATOR_CALL),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
        }
    }

    /// Memory for a message of so many bytes.
    pub(super) fn reserve(&self, peer: Option<&Peer>, bytes: usize) -> Result<Reserved, Status> {
        let cost = bytes.max(MIN_COST);
        let pool = if cost <= SMALL { &self.small } else { &self.large };
        // Without a connection of its own, the port's bound is the only one.
        let connection = peer.map_or(pool, Peer::message_bytes);
        Ok(Reserved { _connection: acquire(connection, cost)?, _total: acquire(pool, cost)? })
    }

    /// Admits a call whose message was read, and waits until it may be processed.
    pub(super) async fn admit(&self, kind: CallKind) -> Result<Admitted, Status> {
        let lane = match kind {
            CallKind::Lease => return Ok(Admitted { _queued: acquire(&self.waiting, 1)?, _processed: None }),
            CallKind::Worker => &self.workers,
            CallKind::Operator => &self.operators,
        };
        let queued = acquire(&lane.queued, 1)?;
        let processed = Arc::clone(&lane.processed).acquire_owned().await;
        let processed = processed.map_err(|_| Status::unavailable("the coordinator is stopping"))?;
        Ok(Admitted { _queued: queued, _processed: Some(processed) })
    }

    /// A permit to watch the health of a service.
    pub(super) fn watch(&self) -> Result<OwnedSemaphorePermit, Status> {
        acquire(&self.watches, 1)
    }
}

/// Permits that are free now.
pub(super) fn acquire(permits: &Arc<Semaphore>, count: usize) -> Result<OwnedSemaphorePermit, Status> {
    let count = u32::try_from(count).map_err(|_| retry_after_capacity())?;
    Arc::clone(permits).try_acquire_many_owned(count).map_err(|_| retry_after_capacity())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use longhand_proto::RETRY_HEADER;
    use tonic::Code;

    use super::*;
    use crate::net::{Connections, Limits};

    fn admit(capacity: &Capacity, kind: CallKind) -> Option<Result<Admitted, Status>> {
        capacity.admit(kind).now_or_never()
    }

    #[test]
    fn a_call_too_many_is_rejected_with_retry_after_and_requests_for_work_do_not_count() {
        let capacity = Capacity::new(1);
        let first = admit(&capacity, CallKind::Worker).unwrap().unwrap();
        let mut queued: Vec<_> = (0..4).map(|_| Box::pin(capacity.admit(CallKind::Worker))).collect();
        assert!(queued.iter_mut().all(|call| call.now_or_never().is_none()), "four wait");
        let refused = admit(&capacity, CallKind::Worker).unwrap().unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("too many calls in progress; retry"), "{}", refused.message());
        assert_eq!(refused.metadata().get(RETRY_HEADER).unwrap(), "100");
        let _waits = admit(&capacity, CallKind::Lease).unwrap().unwrap();
        let _operator = admit(&capacity, CallKind::Operator).unwrap().unwrap();
        drop((first, queued));
        let _second = admit(&capacity, CallKind::Worker).unwrap().unwrap();
    }

    #[test]
    fn messages_are_bounded_in_all_and_on_each_connection_and_small_ones_get_through() {
        let capacity = Capacity::new(256);
        let connections = Connections::new(Limits::default());
        let peer = connections.admit(None).unwrap();
        let reserve = |peer| {
            let taken = std::iter::from_fn(|| capacity.reserve(peer, MAX_MESSAGE_BYTES).ok());
            taken.take(1_280).collect::<Vec<_>>()
        };
        let mine = reserve(Some(&peer));
        assert_eq!(mine.len(), 4, "a share of one connection");
        let others = reserve(None);
        assert!(others.len() <= 12, "{} x 16 MiB of 256 MiB", others.len());
        let other = connections.admit(None).unwrap();
        let _small: Vec<_> = (0..1_000).map(|_| capacity.reserve(Some(&other), 10_000).unwrap()).collect();
        drop((mine, others));
        capacity.reserve(Some(&peer), MAX_MESSAGE_BYTES).unwrap();
    }
}
