//! The open connections of a port, and which of them is closed to make room.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const MAX_CONNECTIONS: usize = 16_384;
const MAX_STRANGERS: usize = 1_024;
/// Files of a process that are no connections: store, shards, log.
const OTHER_FILES: usize = 256;
/// A limit below this is said.
const FEW_FILES: u64 = 4_096;
/// Bytes of messages that one connection may have in progress: some of the largest, or thousands of small ones.
const MESSAGE_BYTES: usize = 64 << 20;
/// Health calls that one connection may have in progress; a probe makes one at a time.
const HEALTH_CALLS: usize = 4;

/// Bounds on the connections of a port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Of these, connections of peers without a valid token.
    pub strangers: usize,
    /// Strangers at one address; many peers may be behind it.
    pub strangers_per_address: usize,
}

impl Default for Limits {
    /// As many as the process may have file descriptors for, with two ports.
    fn default() -> Self {
        let files = usize::try_from(file_limit()).unwrap_or(usize::MAX);
        let connections = (files.saturating_sub(OTHER_FILES) / 2).clamp(16, MAX_CONNECTIONS);
        let strangers = (connections / 2).min(MAX_STRANGERS);
        Self { connections, strangers, strangers_per_address: strangers / 2 }
    }
}

/// Open files that this process may have.
fn file_limit() -> u64 {
    rlimit::Resource::NOFILE.get_soft().unwrap_or(FEW_FILES)
}

/// Raises the limit of open files as far as the system allows, for a process that opens ports, and warns if it is low.
pub fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::debug!(%error, "the limit of open files was not raised");
    }
    let files = file_limit();
    if files < FEW_FILES {
        tracing::warn!(
            files,
            connections = Limits::default().connections,
            "few open files are allowed, so each port admits few connections; raise the limit with `ulimit -n {FEW_FILES}`"
        );
    }
}

/// The connections of one port. A handle: clones share one state.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Table>);

#[derive(Debug)]
struct Table {
    limits: Limits,
    /// A lock, as connections come and go on all threads; held for one look-up.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    count: usize,
    next: u64,
    /// By number, so the oldest is first.
    strangers: BTreeMap<u64, Stranger>,
    strangers_at: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Stranger {
    address: Option<IpAddr>,
    closed: CancellationToken,
}

impl Connections {
    /// No connections yet.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Table { limits, open: Mutex::default() }))
    }

    /// Admits a connection, and closes the oldest stranger if there are too many. None if the port is full of peers that are
    /// no strangers.
    pub fn admit(&self, address: Option<SocketAddr>) -> Option<Peer> {
        let limits = self.0.limits;
        let mut open = self.0.open();
        let ip = address.map(|address| address.ip().to_canonical());
        if ip.is_some_and(|ip| open.strangers_at.get(&ip).is_some_and(|count| *count >= limits.strangers_per_address)) {
            open.close_oldest(|stranger| stranger.address == ip);
        }
        let is_full = open.count >= limits.connections;
        let is_needed = is_full || open.strangers.len() >= limits.strangers;
        let made_room = is_needed && open.close_oldest(|_| true);
        if is_full && !made_room {
            return None;
        }
        open.count += 1;
        open.next += 1;
        let (number, closed) = (open.next, CancellationToken::new());
        open.strangers.insert(number, Stranger { address: ip, closed: closed.clone() });
        if let Some(ip) = ip {
            *open.strangers_at.entry(ip).or_default() += 1;
        }
        drop(open);
        Some(Peer(Arc::new(Inner {
            number,
            address,
            table: Arc::clone(&self.0),
            is_known: AtomicBool::new(false),
            closed,
            message_bytes: Arc::new(Semaphore::new(MESSAGE_BYTES)),
            health_calls: Arc::new(Semaphore::new(HEALTH_CALLS)),
            certificate: OnceLock::new(),
        })))
    }
}

impl Table {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Closes the oldest stranger of these; false if there is none.
    fn close_oldest(&mut self, which: impl Fn(&Stranger) -> bool) -> bool {
        let Some(number) = self.strangers.iter().find_map(|(number, stranger)| which(stranger).then_some(*number))
        else {
            return false;
        };
        if let Some(stranger) = self.remove_stranger(number) {
            stranger.closed.cancel();
            tracing::debug!(address = ?stranger.address, "connection without a token closed to make room");
        }
        true
    }

    fn remove_stranger(&mut self, number: u64) -> Option<Stranger> {
        let stranger = self.strangers.remove(&number)?;
        if let Some(ip) = stranger.address
            && let Some(count) = self.strangers_at.get_mut(&ip)
        {
            *count -= 1;
            if *count == 0 {
                self.strangers_at.remove(&ip);
            }
        }
        Some(stranger)
    }
}

/// The other end of a connection. A handle: clones are the same connection, which is counted until the last one is dropped.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    number: u64,
    address: Option<SocketAddr>,
    table: Arc<Table>,
    is_known: AtomicBool,
    closed: CancellationToken,
    message_bytes: Arc<Semaphore>,
    health_calls: Arc<Semaphore>,
    certificate: OnceLock<CertificateDer<'static>>,
}

/// True for what a certificate can have as its name: a DNS name or an address.
pub(crate) fn is_certificate_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl Peer {
    /// It presented this certificate, which the CA of clients signed.
    pub(crate) fn set_certificate(&self, certificate: CertificateDer<'static>) {
        // A handshake has one.
        self.0.certificate.get_or_init(|| certificate);
    }

    /// True if it presented a certificate with this alternative name.
    pub(crate) fn has_certificate_of(&self, name: &str) -> bool {
        let Some(certificate) = self.0.certificate.get() else { return false };
        let (Ok(parsed), Ok(name)) = (webpki::EndEntityCert::try_from(certificate), ServerName::try_from(name)) else {
            return false;
        };
        parsed.verify_is_valid_for_subject_name(&name).is_ok()
    }

    /// Its address, if the network has addresses.
    pub fn address(&self) -> Option<SocketAddr> {
        self.0.address
    }

    /// It presented a valid token, or no token is required: it is never closed to make room.
    pub fn mark_known(&self) {
        if !self.0.is_known.swap(true, Ordering::Relaxed) {
            self.0.table.open().remove_stranger(self.0.number);
        }
    }

    /// See [`Self::mark_known`].
    pub fn is_known(&self) -> bool {
        self.0.is_known.load(Ordering::Relaxed)
    }

    /// Cancelled when the connection is closed to make room.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.0.closed
    }

    /// Permits for bytes of messages in progress on this connection.
    pub(crate) fn message_bytes(&self) -> &Arc<Semaphore> {
        &self.0.message_bytes
    }

    /// Permits for health calls in progress on this connection.
    pub(crate) fn health_calls(&self) -> &Arc<Semaphore> {
        &self.0.health_calls
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut open = self.table.open();
        open.count -= 1;
        open.remove_stranger(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { connections: 4, strangers: 3, strangers_per_address: 2 };

    fn admit(connections: &Connections, last: u8) -> Option<Peer> {
        connections.admit(Some(SocketAddr::from(([10, 0, 0, last], 1))))
    }

    fn is_closed(peer: &Peer) -> bool {
        peer.closed().is_cancelled()
    }

    #[test]
    fn the_oldest_stranger_of_an_address_and_of_the_port_makes_room() {
        let connections = Connections::new(LIMITS);
        let [a, b, c] = [1, 1, 1].map(|address| admit(&connections, address).unwrap());
        assert!(is_closed(&a) && !is_closed(&b), "two at one address");
        drop(a);
        let d = admit(&connections, 2).unwrap();
        let _e = admit(&connections, 3).unwrap();
        assert!(is_closed(&b) && !is_closed(&c) && !is_closed(&d), "three at the port");
    }

    #[test]
    fn a_known_peer_stays_and_a_port_full_of_them_admits_no_other() {
        let connections = Connections::new(LIMITS);
        let known: Vec<_> = (0..4).map(|_| admit(&connections, 1).unwrap()).inspect(Peer::mark_known).collect();
        assert!(admit(&connections, 2).is_none());
        assert!(!known.iter().any(is_closed));
        drop(known);
        let stranger = admit(&connections, 2).unwrap();
        assert!(!is_closed(&stranger));
        drop(stranger);
        let open = connections.0.open();
        assert!(open.count == 0 && open.strangers.is_empty() && open.strangers_at.is_empty(), "{open:?}");
    }
}
