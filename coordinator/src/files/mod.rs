//! Files on disk: written whole or not at all, and read as UTF-8.

pub mod atomic;
mod error;
pub mod private;
pub(crate) mod text;

pub use error::FileError;
