//! What every store must do, told as stories.

mod attempt;
mod flush;
mod lease;
mod listing;
mod sharing;
mod submit;
mod swap;
mod sweep;
