//! Arguments that several commands share. This module depends on no other one of the program.

pub(crate) mod connection;
pub(crate) mod engine;
pub(crate) mod file;
pub(crate) mod lease;
pub(crate) mod listen;
pub(crate) mod local_token;
pub(crate) mod log_format;
pub(crate) mod loopback;
pub(crate) mod recipe;
pub(crate) mod store;
