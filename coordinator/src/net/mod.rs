//! The connections of a port: how many there may be, how long they may be silent, and their encryption.
//!
//! A peer is a stranger until it makes its first call with a valid token. Strangers are bounded, and the oldest of them is
//! closed when another one comes, so they can never keep out those who have a token.

mod certificates;
mod connection;
mod connections;
mod listener;

pub use certificates::{Certificates, Pem, PemError, Protocol};
pub use connection::Connection;
pub(crate) use connections::is_certificate_name;
pub use connections::{Connections, Limits, Peer, raise_file_limit};
pub(crate) use listener::Listener;
