//! Decides what is written next and what is kept.
//!
//! Layers, each of which depends on those above it and on none below (a test walks the `use` lines):
//! ```text
//! files       files on disk, written whole or not at all
//! domain      instruction, plan, document, verdict, state, recipe: data and pure functions
//! text        prompts, context, required length, filters, similarity
//! lifecycle   the document's state machine: next task, and what a finished one makes of it
//! dataset     instruction sets: read, compose, import, select
//! store       documents, leases, workers, audit log: SQLite and Redis
//! run_stats   figures of each run, kept up to date
//! corpus      shards, manifest, export, archive
//! report      one page about a finished corpus
//! net         connections of a port: bounds, time-outs, encryption
//! control     gRPC services, sweeper, submission, operator actions, metrics, traces
//! http        dashboard and HTTP API
//! ```

pub mod control;
pub mod corpus;
pub mod dataset;
pub mod domain;
pub mod files;
pub mod http;
pub mod lifecycle;
pub mod net;
pub mod report;
mod run_stats;
pub mod store;
pub mod text;
