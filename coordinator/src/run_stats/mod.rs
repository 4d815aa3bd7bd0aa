//! What is known of each run in figures: kept in memory, brought up to date by what changed in the store.

mod catalogue;
mod line;
mod overview;

pub(crate) use catalogue::{Catalogues, LINES};
pub(crate) use line::{Filter, Line};
pub(crate) use overview::{details, figures, summary};
