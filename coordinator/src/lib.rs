//! Decides what is written next and what is kept.

pub mod document;
pub mod recipe;
pub mod store;
