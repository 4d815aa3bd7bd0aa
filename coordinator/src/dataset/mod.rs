//! Instruction sets: reading rows, converting other formats, choosing among them.

pub mod import;
pub mod input;
pub mod select;
