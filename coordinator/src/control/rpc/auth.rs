//! Authentication: tokens, each for one role, kept as hashes only.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use longhand_proto::clock;

use super::rejected_tokens::RejectedTokens;
use crate::files::private;
use crate::net::{self, Peer};

/// What a token permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Leases and completes tasks.
    Worker,
    /// Submits, inspects and changes runs.
    Operator,
    /// Inspects runs: the dashboard without its actions, the calls that change nothing, metrics.
    Reader,
    /// Reads metrics.
    Metrics,
}

impl Role {
    const ALL: [Self; 4] = [Self::Worker, Self::Operator, Self::Reader, Self::Metrics];

    /// Its name in a token file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Operator => "operator",
            Self::Reader => "reader",
            Self::Metrics => "metrics",
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    role: Role,
    /// Compared in constant time.
    hash: blake3::Hash,
    expires_ms: Option<u64>,
    /// Name of its owner; may be empty.
    name: String,
    /// Name that the certificate of a caller with this token must have; none for any caller.
    certificate: Option<String>,
    /// Number of the reading of the file since which it has been there without a break.
    since: u64,
}

/// The owner of a valid token, and when it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) expires_ms: Option<u64>,
    /// Of the token: it may be withdrawn before it expires.
    hash: blake3::Hash,
    /// As in the token's line: one that was withdrawn and added again is another.
    since: u64,
}

/// Who performed an operator action.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Principal {
    /// Name of the token's owner; empty without tokens, or if the token has no name.
    pub name: String,
    /// Address of the caller.
    pub address: Option<IpAddr>,
}

impl Identity {
    /// The hash of the token.
    pub(crate) fn token(&self) -> blake3::Hash {
        self.hash
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "anonymous" } else { &self.name };
        match self.address {
            Some(address) => write!(f, "{name} at {}", address.to_canonical()),
            None => f.write_str(name),
        }
    }
}

/// The tokens of a coordinator. A role may have several, so that one can be replaced without downtime. A handle: clones
/// share one state, so that both ports take new tokens at the same time, and count those that they reject together.
#[derive(Debug, Clone)]
pub struct Tokens(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entries: RwLock<Vec<Entry>>,
    /// Times that the file was read again.
    reloads: AtomicU64,
    rejected: RejectedTokens,
}

/// An invalid token file.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A line is invalid. It is not shown, because it may contain a token.
    #[error("{}, line {line}: {problem}; expected `ROLE TOKEN [EXPIRES] [NAME] [cert=NAME]`, such as `worker TOKEN` or `operator TOKEN 2027-01-31T00:00:00Z anna`", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A role has no token.
    #[error("{}: no token for the role {}; add a line `{} TOKEN`, with a token from `openssl rand -hex 32`", path.display(), role.as_str(), role.as_str())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The role.
        role: Role,
    },
    /// Other users can read the file.
    #[error("{} is readable by other users; run `chmod 600` on it, or `chmod 640` if it belongs to root", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
    },
}

/// Why a token is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error(
        "unknown token, after too many rejected tokens from this address; use one that is in the coordinator's --token-file"
    )]
    TooMany,
    #[error(
        "no token: this coordinator requires one; pass it with --token-file, or run the command as the coordinator's user"
    )]
    Missing,
    #[error("unknown token; use one that is in the coordinator's --token-file")]
    Unknown,
    #[error("the token has expired; add a new one to the coordinator's --token-file and use it")]
    Expired,
    #[error("wrong token: its role is {}, and this requires the role {}; use another token", .0.as_str(), .1.as_str())]
    WrongRole(Role, Role),
    #[error("the token counts only with a client certificate of its name; pass that with --tls-cert and --tls-key")]
    Certificate,
}

/// Shortest valid token in bytes: shorter ones can be guessed, and guesses are not limited.
pub const MIN_TOKEN_BYTES: usize = 16;
/// Longest name of an owner in bytes.
const MAX_NAME_BYTES: usize = 64;
/// Begins the name of a certificate in a line.
const CERTIFICATE: &str = "cert=";

impl Tokens {
    /// Reads `ROLE TOKEN [EXPIRES] [NAME] [cert=NAME]` lines; empty lines and those that begin with `#` are ignored.
    ///
    /// # Errors
    /// The file cannot be read or is readable by other users, a line is invalid, or a role has no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io { path: path.to_owned(), source };
        if !private::is_private(path).map_err(io)? {
            return Err(TokenError::Readable { path: path.to_owned() });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(io)?, path)
    }

    /// Takes the tokens of the file from now on; sessions of others end.
    ///
    /// # Errors
    /// As [`Self::read`]: nothing changes.
    pub fn reload(&self, path: &Path) -> Result<(), TokenError> {
        let read = Self::read(path)?;
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        let reload = self.0.reloads.fetch_add(1, Ordering::Relaxed) + 1;
        let since = |new: &Entry| {
            let kept = entries.iter().find(|old| old.role == new.role && old.hash == new.hash);
            kept.map_or(reload, |old| old.since)
        };
        let new = read.entries().iter().map(|entry| Entry { since: since(entry), ..entry.clone() }).collect();
        *entries = new;
        Ok(())
    }

    fn new(entries: Vec<Entry>) -> Self {
        let entries = RwLock::new(entries);
        Self(Arc::new(Inner { entries, reloads: AtomicU64::new(0), rejected: RejectedTokens::default() }))
    }

    fn entries(&self) -> RwLockReadGuard<'_, Vec<Entry>> {
        self.0.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A single token for both roles, without expiry: of a process that only its user reaches.
    pub fn local(token: &str) -> Self {
        let hash = blake3::hash(token.as_bytes());
        Self::new(vec![Entry::unnamed(Role::Worker, hash), Entry::unnamed(Role::Operator, hash)])
    }

    /// A single token for one role, without expiry.
    pub fn single(role: Role, token: &str) -> Self {
        Self::new(vec![Entry::unnamed(role, blake3::hash(token.as_bytes()))])
    }

    fn parse(text: &str, path: &Path) -> Result<Self, TokenError> {
        let mut entries = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let wrong = |problem| TokenError::Line { path: path.to_owned(), line: number, problem };
            let mut words = line.split_whitespace();
            let role = match words.next() {
                None => continue,
                Some(word) if word.starts_with('#') => continue,
                Some(word) => Role::ALL
                    .into_iter()
                    .find(|role| role.as_str() == word)
                    .ok_or_else(|| wrong("the first word is not a role: worker, operator, reader or metrics"))?,
            };
            let token = words.next().ok_or_else(|| wrong("the token is missing"))?;
            if token.len() < MIN_TOKEN_BYTES {
                return Err(wrong("the token is shorter than 16 characters"));
            }
            let mut words = words.peekable();
            // A time starts with a digit, a name does not.
            let expires_ms = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            let expires_ms = expires_ms.map(time).transpose().map_err(wrong)?;
            let name = words.next_if(|word| !word.starts_with(CERTIFICATE)).unwrap_or_default().to_owned();
            let certificate =
                words.next_if(|word| word.starts_with(CERTIFICATE)).map(|word| &word[CERTIFICATE.len()..]);
            if words.next().is_some() {
                return Err(wrong("the line has more than role, token, time, name and certificate"));
            }
            if certificate.is_some_and(|name| !net::is_certificate_name(name)) {
                return Err(wrong("the name of the certificate is neither a DNS name nor an address"));
            }
            let certificate = certificate.map(str::to_owned);
            if name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
                return Err(wrong("the name is longer than 64 bytes or has control characters"));
            }
            entries.push(Entry { role, hash: blake3::hash(token.as_bytes()), expires_ms, name, certificate, since: 0 });
        }
        for role in [Role::Worker, Role::Operator] {
            if !entries.iter().any(|entry| entry.role == role) {
                return Err(TokenError::Missing { path: path.to_owned(), role });
            }
        }
        Ok(Self::new(entries))
    }

    /// Checks a token once more, of the same caller or of one who has its session.
    ///
    /// # Errors
    /// It has expired, was withdrawn, has another role, or needs a certificate that this connection does not have.
    pub(crate) fn check_again(&self, identity: &Identity, peer: Option<&Peer>) -> Result<(), Denied> {
        let found = self.find(identity.hash, &[identity.role], peer)?;
        if found.since == identity.since { Ok(()) } else { Err(Denied::Unknown) }
    }

    /// Checks the value of `authorization` for a token of one of these roles, the most wanted first.
    ///
    /// Tokens that an address tries in vain are counted, whatever its connections showed before. After too many, the wrong ones get
    /// another answer and no line in the log; a valid one is let in all the same, or whoever shares an address with its holder
    /// could keep it out. That leaves guesses unlimited, which bounds nothing: addresses are cheap, and a token of 16 characters
    /// and more, made as the manual says, is not found by trying.
    pub(crate) fn check(&self, header: Option<&str>, roles: &[Role], peer: Option<&Peer>) -> Result<Identity, Denied> {
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(Denied::Missing)?;
        self.find(blake3::hash(token.as_bytes()), roles, peer).map_err(|denied| {
            let address = peer.and_then(Peer::address).map(|address| address.ip());
            let is_one_too_many = self.0.rejected.record(address, clock::now());
            // What is wrong with a token that was valid once is said at any time: its holder is no guesser.
            if is_one_too_many && denied == Denied::Unknown { Denied::TooMany } else { denied }
        })
    }

    fn find(&self, hash: blake3::Hash, roles: &[Role], peer: Option<&Peer>) -> Result<Identity, Denied> {
        // The same token may be in several lines, for one role or several.
        let (mut denied, mut found) = (Denied::Unknown, None);
        for entry in self.entries().iter().filter(|entry| entry.hash == hash) {
            let has_certificate = |name: &String| peer.is_some_and(|peer| peer.has_certificate_of(name));
            if entry.is_expired() {
                denied = Denied::Expired;
            } else if let Some(rank) = roles.iter().position(|role| *role == entry.role) {
                if !entry.certificate.as_ref().is_none_or(has_certificate) {
                    denied = Denied::Certificate;
                } else if found.as_ref().is_none_or(|(best, _)| rank < *best) {
                    let Entry { role, name, expires_ms, since, .. } = entry.clone();
                    found = Some((rank, Identity { name, role, expires_ms, hash, since }));
                }
            } else if denied == Denied::Unknown
                && let Some(wanted) = roles.first()
            {
                denied = Denied::WrongRole(entry.role, *wanted);
            }
        }
        found.map(|(_, identity)| identity).ok_or(denied)
    }
}

fn time(text: &str) -> Result<u64, &'static str> {
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| "the time of expiry is invalid")?;
    u64::try_from(time.timestamp_millis()).map_err(|_| "the time of expiry is before 1970")
}

impl Entry {
    fn unnamed(role: Role, hash: blake3::Hash) -> Self {
        Self { role, hash, expires_ms: None, name: String::new(), certificate: None, since: 0 }
    }

    fn is_expired(&self) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= clock::unix_ms())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const WORKER: &str = "0123456789abcdef-worker";
    const OPERATOR: &str = "0123456789abcdef-operator";

    fn tokens(text: &str) -> Result<Tokens, String> {
        Tokens::parse(text, Path::new("tokens")).map_err(|error| error.to_string())
    }

    fn both(more: &str) -> Tokens {
        tokens(&format!("# ours\n\nworker {WORKER}\noperator {OPERATOR}\n{more}")).unwrap()
    }

    fn check(tokens: &Tokens, token: &str, role: Role) -> Result<(), Denied> {
        tokens.check(Some(&format!("Bearer {token}")), &[role], None).map(drop)
    }

    #[test]
    fn each_role_has_its_own_token() {
        let tokens = both("");
        assert_eq!(check(&tokens, WORKER, Role::Worker), Ok(()));
        assert_eq!(check(&tokens, OPERATOR, Role::Operator), Ok(()));
        assert_eq!(check(&tokens, WORKER, Role::Operator), Err(Denied::WrongRole(Role::Worker, Role::Operator)));
        assert_eq!(check(&tokens, "0123456789abcdef", Role::Worker), Err(Denied::Unknown));
        assert_eq!(tokens.check(None, &[Role::Worker], None).unwrap_err(), Denied::Missing);
        assert_eq!(tokens.check(Some("Basic eA=="), &[Role::Worker], None).unwrap_err(), Denied::Missing);
    }

    #[test]
    fn a_token_expires_and_another_replaces_it() {
        let tokens =
            both("worker first-of-two-tokens 2001-01-01T00:00:00Z\nworker second-of-two-tokens 2101-01-01T00:00:00Z");
        assert_eq!(check(&tokens, "first-of-two-tokens", Role::Worker), Err(Denied::Expired));
        assert_eq!(check(&tokens, "second-of-two-tokens", Role::Worker), Ok(()));
    }

    #[test]
    fn a_token_identifies_its_owner() {
        let tokens = both("operator token-of-anna-0123 anna\noperator token-of-bert-0123 2101-01-01T00:00:00Z bert");
        let name = |token: &str| tokens.check(Some(&format!("Bearer {token}")), &[Role::Operator], None).unwrap().name;
        assert_eq!(name("token-of-anna-0123"), "anna");
        assert_eq!(name("token-of-bert-0123"), "bert");
        assert_eq!(name(OPERATOR), "");
        let who = |name: &str, address: Option<&str>| Principal {
            name: name.into(),
            address: address.map(|it| it.parse().unwrap()),
        };
        assert_eq!(who("anna", Some("::ffff:10.0.0.7")).to_string(), "anna at 10.0.0.7");
        assert_eq!(who("", Some("127.0.0.1")).to_string(), "anonymous at 127.0.0.1");
    }

    #[test]
    fn a_reader_and_whoever_scrapes_have_roles_of_their_own() {
        const READER: &str = "0123456789abcdef-reader";
        const SCRAPER: &str = "0123456789abcdef-metrics";
        let tokens = both(&format!("reader {READER}\nmetrics {SCRAPER}"));
        assert_eq!(check(&tokens, READER, Role::Reader), Ok(()));
        assert_eq!(check(&tokens, READER, Role::Operator), Err(Denied::WrongRole(Role::Reader, Role::Operator)));
        assert_eq!(check(&tokens, SCRAPER, Role::Metrics), Ok(()));
        for role in [Role::Worker, Role::Operator, Role::Reader] {
            assert_eq!(check(&tokens, SCRAPER, role), Err(Denied::WrongRole(Role::Metrics, role)));
        }
        // A token that is in two lines has the role that is wanted most.
        let tokens = both(&format!("reader {OPERATOR}"));
        let header = format!("Bearer {OPERATOR}");
        for (roles, role) in
            [([Role::Operator, Role::Reader], Role::Operator), ([Role::Reader, Role::Operator], Role::Reader)]
        {
            assert_eq!(tokens.check(Some(&header), &roles, None).unwrap().role, role);
        }
    }

    #[test]
    fn a_session_ends_when_its_token_gets_another_role() {
        let tokens = both("");
        let identity = tokens.check(Some(&format!("Bearer {OPERATOR}")), &[Role::Operator], None).unwrap();
        assert!(tokens.check_again(&identity, None).is_ok());
        let demoted = self::tokens(&format!("worker {WORKER}\nreader {OPERATOR}\noperator {OPERATOR}-2")).unwrap();
        assert!(demoted.check_again(&identity, None).is_err());
    }

    #[test]
    fn wrong_tokens_are_counted_on_any_connection_and_keep_out_no_valid_one() {
        let (tokens, connections) = (both(""), net::Connections::new(net::Limits::default()));
        let peer = connections.admit(Some(([10, 0, 0, 1], 1).into())).unwrap();
        peer.mark_known();
        let check = |token: &str, peer| tokens.check(Some(&format!("Bearer {token}")), &[Role::Worker], Some(peer));
        let answers: Vec<_> = (0..200).map(|number| check(&format!("guess-{number}"), &peer).unwrap_err()).collect();
        assert!(answers[..100].iter().all(|denied| *denied == Denied::Unknown));
        assert!(answers[100..].iter().all(|denied| *denied == Denied::TooMany));
        let [neighbour, other] = [1, 2].map(|last| connections.admit(Some(([10, 0, 0, last], 2).into())).unwrap());
        assert!(check(WORKER, &peer).is_ok() && check(WORKER, &neighbour).is_ok());
        assert_eq!(check("guess", &neighbour).unwrap_err(), Denied::TooMany);
        assert_eq!(check("guess", &other).unwrap_err(), Denied::Unknown);
    }

    #[test]
    fn a_token_that_names_a_certificate_counts_only_with_it() {
        let tokens = both("operator token-of-anna-0123 anna cert=anna.example.org");
        let header = "Bearer token-of-anna-0123";
        assert_eq!(tokens.check(Some(header), &[Role::Operator], None).unwrap_err(), Denied::Certificate);
        let connections = net::Connections::new(net::Limits::default());
        for (name, counts) in [("anna.example.org", true), ("bert.example.org", false)] {
            let peer = connections.admit(None).unwrap();
            let certificate = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert;
            peer.set_certificate(certificate.der().clone());
            let checked = tokens.check(Some(header), &[Role::Operator], Some(&peer));
            assert_eq!(checked.is_ok(), counts, "{name}");
            if let Ok(identity) = checked {
                assert!(tokens.check_again(&identity, Some(&peer)).is_ok());
                let thief = connections.admit(None).unwrap();
                assert_eq!(tokens.check_again(&identity, Some(&thief)), Err(Denied::Certificate));
            }
        }
    }

    #[test]
    fn an_invalid_line_is_named_and_no_secret_is_shown() {
        for (line, says) in [
            ("root secret-secret-secret", "not a role"),
            ("worker", "token is missing"),
            ("worker secret", "shorter than 16"),
            ("worker secret-secret-secret 2101-13-01", "time of expiry"),
            ("worker secret-secret-secret 2101-01-01T00:00:00Z anna now", "more than role"),
            ("worker secret-secret-secret anna cert=-.", "neither a DNS name nor an address"),
            (&format!("worker secret-secret-secret {}", "a".repeat(65)), "64 bytes"),
        ] {
            let error = tokens(&format!("worker {WORKER}\n{line}")).unwrap_err();
            assert!(error.contains("line 2") && error.contains(says), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(tokens(&format!("worker {WORKER}")).unwrap_err().contains("no token for the role operator"));
        assert!(!format!("{:?}", both("")).contains("worker\""), "nor in debug output");
        assert!(!format!("{:?}", both("")).contains("0123456789abcdef-"));
    }

    #[test]
    fn a_token_that_was_withdrawn_and_added_again_revives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        let write = |lines: &str| {
            std::fs::write(&path, format!("worker {WORKER}\noperator {OPERATOR}\n{lines}")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        let extra = "reader 0123456789abcdef-reader\n";
        write(extra);
        let tokens = Tokens::read(&path).unwrap();
        let identity = |token: &str, role| tokens.check(Some(&format!("Bearer {token}")), &[role], None).unwrap();
        let (reader, operator) =
            (identity("0123456789abcdef-reader", Role::Reader), identity(OPERATOR, Role::Operator));
        for lines in [extra, "", extra] {
            write(lines);
            tokens.reload(&path).unwrap();
        }
        assert_eq!(tokens.check_again(&reader, None), Err(Denied::Unknown));
        assert_eq!(tokens.check_again(&operator, None), Ok(()));
        assert_eq!(tokens.check_again(&identity("0123456789abcdef-reader", Role::Reader), None), Ok(()));
    }
}
