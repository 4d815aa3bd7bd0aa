//! What the coordinator is about, as data: no clock, no store, no prompt.

pub mod document;
pub mod instruction;
pub mod judge;
pub mod language;
pub mod plan;
pub mod recipe;
pub mod rule;
pub mod section;
pub mod section_budget;
pub(crate) mod seed;
pub mod state;
