//! What every store must do, told as stories.

mod attempt;
mod flush;
mod lease;
mod listing;
mod submit;
mod swap;
mod sweep;
