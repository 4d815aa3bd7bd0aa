//! The plan: a grammar that an engine can enforce while decoding, a parser that does not trust it, and word budgets
//! scaled to the length that was asked for.
//!
//! A plan is lines and nothing else, numbered from 1:
//! ```text
//! Paragraph 1 - Main Point: how the harbour came to be built - Word Count: 300 words
//! 段落1 - 主要内容：港口的由来 - 字数：300字
//! ```

mod budget;
mod error;
mod form;
mod grammar;
mod parse;
mod step;
#[cfg(test)]
mod tests;

pub use budget::suitable_steps;
pub use error::PlanError;
pub use form::{form, render, render_around};
pub use grammar::grammar;
pub use parse::parse;
pub use step::{Plan, Step};
