//! What every store must do, told as stories.

mod attempt;
mod flush;
mod lease;
mod listing;
mod people;
mod sharing;
mod submit;
mod swap;
mod sweep;
