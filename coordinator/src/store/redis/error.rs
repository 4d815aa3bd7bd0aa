//! Errors of the server and of the connection as errors of the store.

use redis::{ErrorKind, RedisError};

use crate::store::StoreError;

pub(super) fn explain(error: &RedisError) -> StoreError {
    let text = error.to_string();
    // A handshake that failed on a certificate will fail again.
    if text.contains("invalid peer certificate") || text.contains("received fatal alert") {
        return StoreError::Refused(format!(
            "{text}; pass the CA of the server's certificate with --store-tls-ca, check that the certificate names this \
             address, and if the server requires a client certificate pass --store-tls-cert"
        ));
    }
    if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_connection_refusal() {
        return StoreError::Unreachable(error.to_string());
    }
    match error.code() {
        // Refused before the step began.
        Some("OOM") => StoreError::Full(format!("{error}; raise the server's maxmemory, then retry")),
        Some("MISCONF") => {
            StoreError::Full(format!("{error}; the server cannot write to its disk: free space there, then retry"))
        }
        // MOVED and ASK arrive here when a primary died and the client's view of the cluster still names it.
        Some("LOADING" | "BUSY" | "TRYAGAIN" | "MOVED" | "ASK" | "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS") => {
            StoreError::Unreachable(error.to_string())
        }
        Some("READONLY") => StoreError::Refused(format!("{error}; use the address of the primary, not of a replica")),
        Some(_) | None if is_denied(error) => denied(error),
        Some(_) | None if error.kind() == ErrorKind::AuthenticationFailed => denied(error),
        Some(_) | None if error.kind() == ErrorKind::ClusterConnectionNotFound => {
            StoreError::Unreachable(error.to_string())
        }
        Some(_) | None => StoreError::Other(error.to_string()),
    }
}

/// True if the user has no right to the call, or has to log in. Inside a script it has no code of its own.
pub(super) fn is_denied(error: &RedisError) -> bool {
    let text = error.to_string();
    matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
        || ["ACL failure in script", "The user executing the script can't run"].iter().any(|part| text.contains(part))
}

fn denied(error: &RedisError) -> StoreError {
    StoreError::Refused(format!("{error}; use a user that may run scripts: redis://USER:PASSWORD@HOST"))
}

/// A reply that is not what the step returns: the keys were written by something else.
pub(super) fn unreadable(what: impl std::fmt::Display) -> StoreError {
    StoreError::Other(format!("unexpected reply from the store ({what}); run an audit with repair"))
}
