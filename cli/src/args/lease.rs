//! The lease that a coordinator grants.

/// Default of `--lease-seconds`.
pub(crate) const LEASE_SECONDS: u64 = 60;
