//! What an error of the server or of the connection means to the caller.

use redis::{ErrorKind, RedisError};

use crate::store::StoreError;

pub(super) fn explain(error: &RedisError) -> StoreError {
    let text = error.to_string();
    // A handshake that failed on a certificate will fail again.
    if text.contains("invalid peer certificate") || text.contains("received fatal alert") {
        return StoreError::Refused(format!(
            "{text}; give the CA that signed the server's certificate with --store-tls-ca, see that the address is one \
             that the certificate names, and where the server asks for a certificate give --store-tls-cert"
        ));
    }
    if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() || error.is_connection_refusal() {
        return StoreError::Unreachable(error.to_string());
    }
    match error.code() {
        // Refused before the step began.
        Some("OOM") => StoreError::Full(format!("{error}; raise the server's maxmemory, then go on")),
        Some("MISCONF") => {
            StoreError::Full(format!("{error}; the server cannot write to its disk: make room there, then go on"))
        }
        // MOVED and ASK get this far when a primary died and the client's view of the cluster still names it.
        Some("LOADING" | "BUSY" | "TRYAGAIN" | "MOVED" | "ASK" | "CLUSTERDOWN" | "MASTERDOWN" | "NOREPLICAS") => {
            StoreError::Unreachable(error.to_string())
        }
        Some("READONLY") => StoreError::Refused(format!("{error}; name the primary server, not a replica")),
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => denied(error),
        Some(_) | None if error.kind() == ErrorKind::AuthenticationFailed => denied(error),
        Some(_) | None if error.kind() == ErrorKind::ClusterConnectionNotFound => {
            StoreError::Unreachable(error.to_string())
        }
        Some(_) | None => StoreError::Other(error.to_string()),
    }
}

fn denied(error: &RedisError) -> StoreError {
    StoreError::Refused(format!(
        "{error}; give user and password of a user that may run scripts: redis://USER:PASSWORD@HOST"
    ))
}

/// An answer that does not read as what the step returns: the keys were written by something else.
pub(super) fn unreadable(what: impl std::fmt::Display) -> StoreError {
    StoreError::Other(format!("the store's answer cannot be read ({what}); run an audit with repair"))
}
