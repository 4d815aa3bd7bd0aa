//! The life of a document: what is written next, and what a finished task makes of it. Pure: no async, no clock, no I/O.
//!
//! ```text
//!             bad plan, once              a section, steps left               a vote, votes left
//!                ┌───┐                           ┌───┐                              ┌───┐
//!                ▼   │       a good plan         ▼   │   last step, kept by rules   ▼   │     last vote
//!   new row ──▶ Planning ─────────────────────▶ Writing ────────────────────────▶ Judging ──────────┐
//!                │  ▲ │                          │ ▲ ▲ │                             │ ▲          ▼
//!                │  │ │   more than a prompt     ▼ │ │ └─────── last step, ──────────┼─┼──▶ Finished (accepted
//!                │  │ │   shows: a summary      Summarising     or many truncated    │ │              or rejected)
//!   bad row ─┐   │  │ │                          │   │                               │ │              │
//!            ▼   ▼  │ │  errors used up          ▼   │        no vote can be read,   ▼ │              │
//!          Failed ◀─┼─┼──or permanent────────────────┼────────where one must──────────  │              │
//!            │      │ └──────▶ Cancelled ◀───────────┼─────────────────────────────────┤              │
//!            └──────┴───── requeue, from any end but a bad row ────────────────────────┴──────────────┘
//! ```
//!
//! The legal moves stand in one place, `is_valid_transition` in `transition.rs`; debug builds check every move against it. A
//! lost or released lease is no move at all: the store gives the same task, with its checkpoint, to the next worker.
//!
//! # What an error does
//! Each of these adds one to [`Document::errors`](crate::domain::document::Document::errors) and is tried again until the recipe's `retry.max_errors` is reached:
//! a worker's failure, a section that is empty after cleaning (`empty_section`), one that the loop stop ended
//! (`repetition`), one that was cut (`truncated_section`). Then the document fails with the last error's class, except:
//! - a plan that cannot be used is repaired once, with the error named in the prompt; the second time is the end
//!   (`bad_plan`), unless it fell into a loop, which is chance; a length that no plan can reach is the end at once
//!   (`length_unreachable`);
//! - a section that is still cut on the last try is kept, marked by its finish reason, as long as the recipe's
//!   `filters.max_truncated` allows it. One more, and the document is finished on the spot, rejected by the rule
//!   `truncated`: to write on would cost tokens for a text that is already lost. It is never taken as whole.
//!
//! An answer of the judge that cannot be read (`bad_verdict`) is asked for again like all else; on the last try the vote is
//! kept as one that could not be read. With a threshold for S_q a document without one readable vote fails (`unjudged`),
//! and a requeue judges it again; without a threshold it is accepted, its score left open and its votes in its record.
//!
//! # Seeds
//! A task's seed is a hash of the document's seed, the round, the task and the number of errors so far. So a retry
//! writes another text, while a task resumed from a checkpoint after a lost lease goes on with the same random numbers.

mod apply;
mod gate;
mod restart;
mod rolling;
mod task;
#[cfg(test)]
mod tests;
mod transition;

pub(crate) use apply::SCORE_QUALITY;
pub use transition::{NotAllowed, Outcome, Transition};
