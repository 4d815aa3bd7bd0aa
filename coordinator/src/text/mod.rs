//! Pure functions from domain values to texts, and from texts to measures.

pub mod context;
pub mod filter;
pub mod length;
pub mod names;
pub mod plan_check;
pub mod prompt;
mod recipe_file;
pub mod shingles;
pub mod similarity;
