//! Files of instructions, and the report on a corpus.

mod bad_rows;
pub(crate) mod compose;
pub(crate) mod filter;
pub(crate) mod import;
pub(crate) mod push;
pub(crate) mod report;
pub(crate) mod select;
pub(crate) mod serve;
pub(crate) mod validate;
