//! Requests that wait for work, one queue for each kind of work: workers of the same model that support the same tasks can
//! take the same documents, so one of them asks the store for all. Those of another kind, such as a judge, wait for other
//! documents: in the same queue one that finds nothing would stand before one that would.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use longhand_proto::task::TaskKind;
use tokio::sync::Notify;

use crate::store::LeaseQuery;

/// Most queues that ask the store, each for itself. Requests for more kinds of work share one more: a worker in it is served when
/// it is first in the queue, and whenever it asks anew.
const MAX_QUEUES: usize = 64;

/// What decides which documents a worker can take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Work {
    model: String,
    weights_hash: String,
    kinds: Vec<TaskKind>,
}

/// Requests that wait for the same work.
#[derive(Debug, Default)]
pub(super) struct WaitingQueue {
    /// Held by the one request that polls the store, so that a thousand idle workers cost one query.
    pub(super) poll_lock: tokio::sync::Mutex<()>,
    /// Wakes that request.
    pub(super) ready: Notify,
}

/// All queues in which a request waits. The lock is held for one look-up.
#[derive(Debug, Default)]
pub(super) struct WaitingQueues(Mutex<HashMap<Work, Arc<WaitingQueue>>>);

impl WaitingQueues {
    /// The queue of requests like this one.
    pub(super) fn queue(&self, query: &LeaseQuery, kinds: &[TaskKind]) -> Arc<WaitingQueue> {
        let LeaseQuery { model, weights_hash, .. } = query.clone();
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those in which nobody waits any more.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1);
        let mut work = Work { model, weights_hash, kinds: kinds.to_vec() };
        if queues.len() >= MAX_QUEUES && !queues.contains_key(&work) {
            work = Work::default();
        }
        Arc::clone(queues.entry(work).or_default())
    }

    /// Documents became ready: one request of each queue asks the store, and passes its turn on when it is served.
    pub(super) fn wake(&self) {
        for queue in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            queue.ready.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn query(model: &str) -> LeaseQuery {
        LeaseQuery {
            worker: "here-1".parse().unwrap(),
            request_id: "one".into(),
            slots: 1,
            ttl_ms: 1_000,
            model: model.into(),
            weights_hash: String::new(),
            except: Vec::new(),
        }
    }

    #[test]
    fn a_judge_does_not_wait_behind_writers_and_each_kind_is_woken() {
        let (queues, kinds) = (WaitingQueues::default(), [TaskKind::Plan, TaskKind::Section]);
        let writers = queues.queue(&query("writer"), &kinds);
        let polling = writers.poll_lock.try_lock().unwrap();
        assert!(queues.queue(&query("writer"), &kinds).poll_lock.try_lock().is_err(), "one asks for all writers");
        let judges = queues.queue(&query("judge"), &kinds);
        assert!(judges.poll_lock.try_lock().is_ok());
        assert!(queues.queue(&query("writer"), &[TaskKind::Judge]).poll_lock.try_lock().is_ok());
        queues.wake();
        for queue in [&writers, &judges] {
            assert!(queue.ready.notified().now_or_never().is_some());
        }
        drop(polling);
    }

    #[test]
    fn a_queue_ends_with_its_last_request() {
        let queues = WaitingQueues::default();
        for number in 0..1_000 {
            drop(queues.queue(&query(&number.to_string()), &[]));
        }
        assert_eq!(queues.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn however_many_models_are_named_few_requests_ask_the_store() {
        let queues = WaitingQueues::default();
        let waiting: Vec<_> = (0..1_000).map(|number| queues.queue(&query(&number.to_string()), &[])).collect();
        assert_eq!(queues.0.lock().unwrap().len(), MAX_QUEUES + 1);
        assert!(Arc::ptr_eq(&waiting[3], &queues.queue(&query("3"), &[])));
    }
}
