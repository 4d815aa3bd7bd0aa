//! Reads the documents of a run from the files of an export. Needs no store.

use std::path::Path;

use super::Report;
use crate::corpus::{CorpusFolder, FolderError};
use crate::domain::recipe::Recipe;

/// Measures the documents of the corpus in `dir`: the accepted ones, then the rejected ones. `recipe` replaces the recipe of
/// the corpus, if given.
///
/// # Errors
/// A file or the recipe cannot be read, or the export has another format than `records`.
pub fn read(dir: &Path, recipe: Option<Recipe>) -> Result<Report, FolderError> {
    let folder = CorpusFolder::open(dir)?;
    let mut report = Report::new(folder.run.id.to_string(), recipe.unwrap_or_else(|| folder.recipe.clone()));
    folder.documents(|document| {
        if let Some(assembled) = document.assembled() {
            report.add(document.id, &assembled);
        }
        Ok(())
    })?;
    Ok(report)
}
