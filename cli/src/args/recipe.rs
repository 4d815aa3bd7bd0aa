//! The recipe that a command is given.

use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::domain::recipe::Recipe;

/// The recipe of a file, or the built-in one.
///
/// # Errors
/// Names file, line and key at fault.
pub(crate) fn load(path: Option<&Path>) -> Result<Recipe> {
    match path {
        Some(path) => Recipe::load(path).map_err(Failure::refused),
        None => Ok(Recipe::builtin()),
    }
}
