//! Figures of each run, kept in memory and refreshed by what changed in the store.

mod cache;
mod cost;
mod document_summary;
mod run_summary;
mod stats;
mod totals;

pub(crate) use cache::{MAX_SUMMARIES, RunStatsCache};
pub use cost::Cost;
pub(crate) use cost::cost_of;
pub(crate) use document_summary::{DocumentFilter, DocumentSummary};
pub(crate) use run_summary::details;
pub(crate) use totals::current_figures;
