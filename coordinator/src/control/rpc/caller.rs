//! Who makes a call, for as long as the token counts that the call came with.

use std::net::IpAddr;

use longhand_proto::WorkerId;
use tonic::{Request, Status};

use super::auth::{Denied, Identity, Principal, Tokens};
use super::worker_health::WorkerKey;
use crate::net::Peer;

/// Made by the admission, and handed on with the request.
#[derive(Debug, Clone, Default)]
pub(super) struct Caller {
    /// None where no token is required.
    identity: Option<(Tokens, Identity)>,
    peer: Option<Peer>,
}

impl Caller {
    pub(super) fn new(identity: Option<(Tokens, Identity)>, peer: Option<Peer>) -> Self {
        Self { identity, peer }
    }

    /// The caller of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Checks that the token still counts: a call may have waited since its token was checked.
    ///
    /// # Errors
    /// It has expired or was withdrawn.
    pub(super) fn check(&self) -> Result<(), Status> {
        let ended = self.identity.as_ref().and_then(|(tokens, it)| tokens.check_again(it, self.peer.as_ref()).err());
        ended.map_or(Ok(()), |denied| Err(refused(denied)))
    }

    /// A worker of this name at this caller.
    pub(super) fn worker(&self, worker: &WorkerId) -> WorkerKey {
        let token = self.identity.as_ref().map(|(_, identity)| identity.token());
        WorkerKey { worker: worker.clone(), token, address: self.address().map(|address| address.to_canonical()) }
    }

    /// The caller in the log of actions.
    pub(super) fn principal(&self) -> Principal {
        let name = self.identity.as_ref().map(|(_, identity)| identity.name.clone()).unwrap_or_default();
        Principal { name, address: self.address() }
    }

    fn address(&self) -> Option<IpAddr> {
        self.peer.as_ref().and_then(Peer::address).map(|address| address.ip())
    }
}

/// The answer to a caller whose token does not count. To wait does not help: the token is wrong however many were before it.
pub(super) fn refused(denied: Denied) -> Status {
    Status::unauthenticated(denied.to_string())
}
