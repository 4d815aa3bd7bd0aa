//! The coordinator's gRPC services over a store. A replica keeps no state that the store does not have, so any number of
//! replicas may serve one store, and any of them may stop at any time.
//!
//! - `server`: listens, serves, shuts down.
//! - `admission`: before every call, with `auth` (tokens) and `rate_limit`; `caller` is what it finds out.
//! - `worker_service`, `operator_service`: validate a request, call the coordinator, convert the answer.
//! - `bounds` and `worker_health`: what a worker may say, and which one gets no work.
//! - `coordinator`: the state that all calls share, with `run_cache` and `recent_leases`.
//! - `lease` waits for work; `refusals` says which runs it passes over; `render` makes a task of a stored document; `complete` ends attempts, with `apply_result`.
//! - `operator_actions`: what operators do, by gRPC or on the dashboard, with the audit log.
//! - `status`: store errors as gRPC status codes.

mod admission;
mod apply_result;
mod auth;
mod bounds;
mod caller;
mod complete;
mod coordinator;
mod lease;
mod operator_actions;
mod operator_service;
mod rate_limit;
mod recent_leases;
mod refusals;
mod rejected_tokens;
mod render;
mod run_cache;
mod server;
mod status;
mod waiting_queues;
mod worker_health;
mod worker_service;

pub(crate) use auth::{Denied, Identity};
pub use auth::{MIN_TOKEN_BYTES, Principal, Role, TokenError, Tokens};
pub use coordinator::{Coordinator, ServiceOptions};
pub(crate) use rejected_tokens::gather as gather_rejected_tokens;
pub use server::{Access, serve, serve_on, serve_with};
