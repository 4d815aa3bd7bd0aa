//! Which run a document or a lease belongs to.
//!
//! Calls name a lease or a document, keys begin with the run. An id is looked up in every run (one round trip), and its
//! run is cached: it never changes, so no entry is ever wrong.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longhand_proto::RunId;

/// Ids cached in each of two generations: more than the leases of a large cluster, about 2 MB.
const GENERATION: usize = 8192;

/// Ids of documents and leases alike: both are 128 random bits.
#[derive(Debug, Default)]
pub(super) struct RunCache {
    /// Locked for the time of a lookup, never across an await.
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<[u8; 16], RunId>,
    old: HashMap<[u8; 16], RunId>,
}

impl RunCache {
    pub(super) fn get(&self, id: &[u8; 16]) -> Option<RunId> {
        let generations = self.lock();
        generations.young.get(id).or_else(|| generations.old.get(id)).cloned()
    }

    pub(super) fn insert(&self, id: &[u8; 16], run: &RunId) {
        let mut generations = self.lock();
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(*id, run.clone());
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // A panic leaves whole entries behind.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_entries_are_kept_and_memory_is_bounded() {
        let cache = RunCache::default();
        let run: RunId = "run".parse().unwrap();
        let id = |number: usize| (number as u128).to_le_bytes();
        for number in 0..5 * GENERATION {
            cache.insert(&id(number), &run);
        }
        assert_eq!(cache.get(&id(5 * GENERATION - 1)), Some(run.clone()));
        assert_eq!(cache.get(&id(4 * GENERATION)), Some(run));
        assert_eq!(cache.get(&id(0)), None);
        let generations = cache.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }
}
