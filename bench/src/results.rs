//! Results of a benchmark: printed, and saved if a file is given.

use std::path::Path;

use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::files::atomic;
use serde::Serialize;

/// Prints the results as JSON or as text, and saves them as JSON to `file`.
pub(crate) fn publish(
    as_json: bool,
    file: Option<&Path>,
    results: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<Code> {
    output::print(as_json, results, text)?;
    if let Some(path) = file {
        let json = serde_json::to_vec_pretty(results).map_err(Failure::stopped)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let created = folder.map_or(Ok(()), std::fs::create_dir_all);
        created.map_err(|e| Failure::stopped(format!("{}: {e}", path.display())))?;
        atomic::replace(path, &json).map_err(Failure::stopped)?;
    }
    Ok(Code::Ok)
}
