//! Instruction sets: reading rows, composing them, converting other formats, choosing among them.

pub mod compose;
pub mod import;
pub mod input;
pub mod select;
