//! Decides what is written next and what is kept.

pub mod context;
pub mod corpus;
pub mod document;
pub mod duplicates;
pub mod filter;
pub mod hand;
pub mod import;
pub mod instruction;
pub mod judge;
pub mod language;
pub mod length;
pub mod metrics;
pub mod plan;
pub mod prompt;
pub mod recipe;
pub mod report;
pub mod run;
pub mod select;
pub mod service;
pub mod store;
pub mod sweeper;
mod text_file;
pub mod trace;
mod units;
pub mod web;
