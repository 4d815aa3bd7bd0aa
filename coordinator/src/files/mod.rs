//! Files on disk: written whole or not at all, and read as UTF-8.

pub mod atomic;
mod error;
mod network;
pub mod private;
pub(crate) mod text;

pub use error::FileError;
pub use network::network_file_system;
