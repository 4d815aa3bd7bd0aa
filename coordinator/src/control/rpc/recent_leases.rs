//! Documents that this process leased recently, so that their completion need not read them from the store.
//!
//! An entry is never stale in effect: while a lease is live its document does not change, and a commit under a lease that
//! is not live changes nothing. Another replica, or one that evicted the entry, reads the store.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use longhand_proto::LeaseId;

use crate::store::Record;

/// Bytes of documents in each of the two generations.
const GENERATION_BYTES: usize = 32 << 20;
/// Approximate bytes of an entry without its body.
const ENVELOPE_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct RecentLeases {
    /// A lock, as all calls pass here; held for one look-up.
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<LeaseId, Record>,
    young_bytes: usize,
    old: HashMap<LeaseId, Record>,
}

impl RecentLeases {
    /// Remembers a record under its lease.
    pub(super) fn insert(&self, record: &Record) {
        let Some(grant) = &record.lease else { return };
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young_bytes >= GENERATION_BYTES {
            generations.old = std::mem::take(&mut generations.young);
            generations.young_bytes = 0;
        }
        generations.young_bytes += record.body.len() + ENVELOPE_BYTES;
        // Only the start of a task needs the checkpoint.
        generations.young.insert(grant.id, Record { checkpoint: None, ..record.clone() });
    }

    /// Removes and returns the record of a lease.
    pub(super) fn take(&self, lease: LeaseId) -> Option<Record> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        match generations.young.remove(&lease) {
            Some(record) => {
                generations.young_bytes -= record.body.len() + ENVELOPE_BYTES;
                Some(record)
            }
            None => generations.old.remove(&lease),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::state::State;
    use crate::store::{Counters, LeaseGrant};

    fn record(number: usize, bytes: usize) -> Record {
        let id = |kind: u8| {
            let mut id = (number as u128).to_le_bytes();
            id[15] = kind;
            id
        };
        let grant = LeaseGrant {
            id: LeaseId::from_bytes(id(1)),
            worker: "w".parse().unwrap(),
            granted_ms: 0,
            expires_ms: 0,
            progress: 0,
            progress_ms: 0,
        };
        Record {
            id: longhand_proto::DocumentId::from_bytes(id(2)),
            run: "r".parse().unwrap(),
            state: State::Leased,
            reason: String::new(),
            version: 1,
            seq: 0,
            change_seq: 1,
            changed_ms: 0,
            open: true,
            judge: false,
            due_ms: 0,
            counters: Counters::default(),
            lease: Some(grant),
            checkpoint: None,
            body: "x".repeat(bytes),
            flushed: false,
        }
    }

    #[test]
    fn the_latest_are_returned_once_and_memory_is_bounded() {
        let leases = RecentLeases::default();
        let lease = |number| record(number, 0).lease.unwrap().id;
        for number in 0..1_000 {
            leases.insert(&record(number, 1 << 20));
        }
        assert_eq!(leases.take(lease(999)).map(|it| it.body.len()), Some(1 << 20));
        assert_eq!(leases.take(lease(999)), None);
        assert!(leases.take(lease(960)).is_some());
        assert_eq!(leases.take(lease(0)), None);
        let generations = leases.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 66);
        assert!(generations.young_bytes <= GENERATION_BYTES + (2 << 20));
    }
}
