//! Store errors as gRPC status codes.

use tonic::Status;

use crate::store::StoreError;

/// The status for a store error. Clients retry on `Unavailable`, `ResourceExhausted` and `Internal` only.
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
