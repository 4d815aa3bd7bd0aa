//! What a worker is told when a call cannot be answered. Only the code tells whether to ask again.

use tonic::Status;

use crate::store::StoreError;

/// Codes that a worker repeats on: `Unavailable`, `ResourceExhausted`, `Internal`.
pub(super) fn status(error: StoreError) -> Status {
    let message = error.to_string();
    match error {
        StoreError::Unreachable(_) => Status::unavailable(message),
        StoreError::Full(_) => Status::resource_exhausted(message),
        StoreError::Refused(_) => Status::failed_precondition(message),
        StoreError::NotFound { .. } => Status::not_found(message),
        StoreError::Other(_) => {
            tracing::error!(error = message, "store call failed");
            Status::internal(message)
        }
    }
}
