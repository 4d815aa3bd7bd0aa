//! The processes of a fleet: coordinator and worker, their HTTP server, and the check of their health.

pub(crate) mod coordinator;
pub(crate) mod health;
pub(crate) mod http;
mod pod;
pub(crate) mod worker;
