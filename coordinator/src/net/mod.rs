//! The connections of a port: how many there may be, how long they may be silent, and their encryption.
//!
//! A peer is a stranger until it makes its first call with a valid token. Strangers are bounded, and the oldest of them is
//! closed when another one comes, so they can never keep out those who have a token.

mod connection;
mod connections;

pub use connection::Connection;
pub use connections::{Connections, Limits, Peer};
