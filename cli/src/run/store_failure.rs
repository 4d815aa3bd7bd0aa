//! What an error of the store means for a run.

use longhand_command::exit::Failure;
use longhand_coordinator::store::StoreError;

/// The failure of a run that was started, with what to do about it.
pub(crate) fn store_failure(error: &StoreError) -> Failure {
    let remedy = match error {
        StoreError::Full(_) => "rerun the same command to resume",
        StoreError::Unreachable(_) => "when it is reachable again, rerun the same command to resume",
        StoreError::NotFound { .. } => {
            "the store was emptied or restored from a backup during the run; rerun the same command: it submits the rows \
             again and keeps the documents of the corpus"
        }
        StoreError::Refused(_) | StoreError::Other(_) => "no acknowledged result is lost",
    };
    Failure::stopped(format!("{error}; {remedy}"))
}
