//! How often each event happened in a simulation.

/// How often each event happened: a simulation without faults proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct EventCounts {
    pub(crate) leased: u64,
    pub(crate) committed: u64,
    pub(crate) repeated: u64,
    pub(crate) stale: u64,
    pub(crate) stale_renewals: u64,
    /// Checkpoints to which tokens were appended.
    pub(crate) appended: u64,
    pub(crate) swept: u64,
    pub(crate) poisoned: u64,
    pub(crate) errors: u64,
    pub(crate) released: u64,
    pub(crate) resumed: u64,
    pub(crate) swapped: u64,
    /// Results that came while the run was being cancelled.
    pub(crate) cancelling: u64,
    /// Texts compared with those of the fault-free run.
    pub(crate) compared: u64,
}

impl EventCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs: [(&mut u64, u64); 14] = [
            (&mut self.leased, other.leased),
            (&mut self.committed, other.committed),
            (&mut self.repeated, other.repeated),
            (&mut self.stale, other.stale),
            (&mut self.stale_renewals, other.stale_renewals),
            (&mut self.appended, other.appended),
            (&mut self.swept, other.swept),
            (&mut self.poisoned, other.poisoned),
            (&mut self.errors, other.errors),
            (&mut self.released, other.released),
            (&mut self.resumed, other.resumed),
            (&mut self.swapped, other.swapped),
            (&mut self.cancelling, other.cancelling),
            (&mut self.compared, other.compared),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}
