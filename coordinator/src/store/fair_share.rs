//! Fair share: how the slots of a request are divided among runs that wait.

/// What a run has for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunDemand {
    pub(super) priority: u32,
    /// Documents that are leased.
    pub(super) leased: u64,
    /// Documents that may be leased now.
    pub(super) ready: u64,
}

/// Slots for each run, in the order given (oldest first): the highest priority takes what it can use; among equals each
/// slot goes to the one with the fewest leased documents.
pub(super) fn fair_share(runs: &[RunDemand], slots: usize) -> Vec<usize> {
    let mut granted = vec![0; runs.len()];
    for _ in 0..slots {
        let open = (0..runs.len()).filter(|&run| (granted[run] as u64) < runs[run].ready);
        let Some(next) = open.min_by_key(|&run| {
            let RunDemand { priority, leased, .. } = runs[run];
            (std::cmp::Reverse(priority), leased + granted[run] as u64, run)
        }) else {
            break;
        };
        granted[next] += 1;
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(priority: u32, leased: u64, ready: u64) -> RunDemand {
        RunDemand { priority, leased, ready }
    }

    #[test]
    fn equal_runs_get_equal_shares_and_a_higher_priority_goes_first() {
        assert_eq!(fair_share(&[demand(0, 0, 9), demand(0, 0, 9)], 4), [2, 2]);
        assert_eq!(fair_share(&[demand(0, 5, 9), demand(0, 2, 9)], 5), [1, 4]);
        assert_eq!(fair_share(&[demand(0, 0, 9), demand(1, 8, 3)], 4), [1, 3]);
        assert_eq!(fair_share(&[demand(0, 0, 1), demand(0, 0, 9)], 1), [1, 0], "the older one first");
    }

    #[test]
    fn no_slot_stays_empty_while_a_document_is_ready() {
        assert_eq!(fair_share(&[demand(0, 0, 1), demand(0, 7, 9), demand(3, 0, 0)], 6), [1, 5, 0]);
        assert_eq!(fair_share(&[demand(0, 0, 1)], 6), [1]);
        assert_eq!(fair_share(&[], 6), Vec::<usize>::new());
    }
}
