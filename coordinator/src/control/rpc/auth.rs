//! Who may call what: tokens, each for one role, kept as hashes only.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use longhand_proto::clock;

/// What a token is good for. A worker leases and completes; an operator submits, looks and decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Worker,
    Operator,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    role: Role,
    /// Compared in constant time.
    hash: blake3::Hash,
    expires_ms: Option<u64>,
    /// Of the one who has it; empty if nobody was named.
    holder: String,
}

/// Whose token was shown, and until when it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) expires_ms: Option<u64>,
}

/// Who did something by hand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// Of the token's holder; empty where none was asked for or the token names nobody.
    pub name: String,
    pub address: Option<IpAddr>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { "somebody" } else { &self.name };
        match self.address {
            Some(address) => write!(f, "{name} at {}", address.to_canonical()),
            None => f.write_str(name),
        }
    }
}

/// The tokens of a coordinator. Several may stand for one role, so that one can be replaced without a pause.
#[derive(Debug, Clone)]
pub struct Tokens {
    entries: Vec<Entry>,
}

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The line is not shown: it may hold a token.
    #[error("{}, line {line}: {problem}; want `worker TOKEN` or `operator TOKEN`, and after it a time such as 2027-01-31T00:00:00Z if it expires and the name of who has it", path.display())]
    Line { path: PathBuf, line: usize, problem: &'static str },
    #[error("{}: no token for the role {}; add a line `{} TOKEN`, made for example with `openssl rand -hex 32`", path.display(), role.as_str(), role.as_str())]
    Missing { path: PathBuf, role: Role },
    #[error("{} can be read by others: `chmod 600` it", path.display())]
    Open { path: PathBuf },
}

/// Why a caller is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("this coordinator asks for a token: give one with --token-file")]
    None,
    #[error("the token is not known here: give the one that stands in the coordinator's --token-file")]
    Unknown,
    #[error("the token has expired: give a new one, and put it into the coordinator's --token-file")]
    Expired,
    #[error("this token is for {}s, and the call for {}s: give the other token", .0.as_str(), .1.as_str())]
    Role(Role, Role),
}

/// Shortest token taken: shorter ones can be guessed.
const SHORTEST: usize = 16;
/// Longest name of a holder, in bytes.
const LONGEST_NAME: usize = 64;

impl Tokens {
    /// Reads `ROLE TOKEN [EXPIRES] [NAME]` lines; empty ones and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// The file cannot be read or is open to others, a line is wrong, or one of the roles has no token.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let io = |source| TokenError::Io { path: path.to_owned(), source };
        check_private(path).map_err(io)?.then_some(()).ok_or_else(|| TokenError::Open { path: path.to_owned() })?;
        Self::parse(&std::fs::read_to_string(path).map_err(io)?, path)
    }

    /// One token for one role, for as long as the process lives.
    pub fn one(role: Role, token: &str) -> Self {
        let hash = blake3::hash(token.as_bytes());
        Self { entries: vec![Entry { role, hash, expires_ms: None, holder: String::new() }] }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, TokenError> {
        let mut entries = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let wrong = |problem| TokenError::Line { path: path.to_owned(), line: number, problem };
            let mut words = line.split_whitespace();
            let role = match words.next() {
                None => continue,
                Some(word) if word.starts_with('#') => continue,
                Some("worker") => Role::Worker,
                Some("operator") => Role::Operator,
                Some(_) => return Err(wrong("the first word is no role")),
            };
            let token = words.next().ok_or_else(|| wrong("there is no token"))?;
            if token.len() < SHORTEST {
                return Err(wrong("the token has fewer than 16 characters and could be guessed"));
            }
            let mut words = words.peekable();
            // A time begins with a digit, a name does not.
            let expires_ms = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit()));
            let expires_ms = expires_ms.map(time).transpose().map_err(wrong)?;
            let holder = words.next().unwrap_or_default().to_owned();
            if words.next().is_some() {
                return Err(wrong("there are more words than role, token, time and name"));
            }
            if holder.len() > LONGEST_NAME || holder.contains(char::is_control) {
                return Err(wrong("the name has more than 64 bytes or control characters"));
            }
            entries.push(Entry { role, hash: blake3::hash(token.as_bytes()), expires_ms, holder });
        }
        for role in [Role::Worker, Role::Operator] {
            if !entries.iter().any(|entry| entry.role == role) {
                return Err(TokenError::Missing { path: path.to_owned(), role });
            }
        }
        Ok(Self { entries })
    }

    /// Whose token for this role the value of `authorization` holds; none if it holds no such token.
    pub(crate) fn admit(&self, header: Option<&str>, role: Role) -> Option<Holder> {
        self.check(header, role).ok()
    }

    /// `header` is the value of `authorization`.
    pub(super) fn check(&self, header: Option<&str>, role: Role) -> Result<Holder, Denied> {
        let token = header.and_then(|header| header.strip_prefix("Bearer ")).ok_or(Denied::None)?;
        let hash = blake3::hash(token.as_bytes());
        // A token may stand for both roles, and in several lines.
        let mut denied = Denied::Unknown;
        for entry in self.entries.iter().filter(|entry| entry.hash == hash) {
            if entry.expires_ms.is_some_and(|expires| expires <= clock::unix_ms()) {
                denied = Denied::Expired;
            } else if entry.role == role {
                return Ok(Holder { name: entry.holder.clone(), expires_ms: entry.expires_ms });
            } else if denied == Denied::Unknown {
                denied = Denied::Role(entry.role, role);
            }
        }
        Err(denied)
    }
}

fn time(text: &str) -> Result<u64, &'static str> {
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| "the time of expiry cannot be read")?;
    u64::try_from(time.timestamp_millis()).map_err(|_| "the time of expiry lies before 1970")
}

/// False if group or others may read it.
fn check_private(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
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
        tokens.check(Some(&format!("Bearer {token}")), role).map(drop)
    }

    #[test]
    fn each_role_has_its_own_token() {
        let tokens = both("");
        assert_eq!(check(&tokens, WORKER, Role::Worker), Ok(()));
        assert_eq!(check(&tokens, OPERATOR, Role::Operator), Ok(()));
        assert_eq!(check(&tokens, WORKER, Role::Operator), Err(Denied::Role(Role::Worker, Role::Operator)));
        assert_eq!(check(&tokens, "0123456789abcdef", Role::Worker), Err(Denied::Unknown));
        assert_eq!(tokens.check(None, Role::Worker).unwrap_err(), Denied::None);
        assert_eq!(tokens.check(Some("Basic eA=="), Role::Worker).unwrap_err(), Denied::None);
    }

    #[test]
    fn a_token_ends_at_its_time_and_another_takes_its_place() {
        let tokens =
            both("worker first-of-two-tokens 2001-01-01T00:00:00Z\nworker second-of-two-tokens 2101-01-01T00:00:00Z");
        assert_eq!(check(&tokens, "first-of-two-tokens", Role::Worker), Err(Denied::Expired));
        assert_eq!(check(&tokens, "second-of-two-tokens", Role::Worker), Ok(()));
    }

    #[test]
    fn a_token_tells_whose_it_is() {
        let tokens = both("operator token-of-anna-0123 anna\noperator token-of-bert-0123 2101-01-01T00:00:00Z bert");
        let name = |token: &str| tokens.admit(Some(&format!("Bearer {token}")), Role::Operator).unwrap().name;
        assert_eq!(name("token-of-anna-0123"), "anna");
        assert_eq!(name("token-of-bert-0123"), "bert");
        assert_eq!(name(OPERATOR), "");
        let who = |name: &str, address: Option<&str>| Who {
            name: name.into(),
            address: address.map(|it| it.parse().unwrap()),
        };
        assert_eq!(who("anna", Some("::ffff:10.0.0.7")).to_string(), "anna at 10.0.0.7");
        assert_eq!(who("", Some("127.0.0.1")).to_string(), "somebody at 127.0.0.1");
    }

    #[test]
    fn a_wrong_line_is_named_and_no_secret_is_shown() {
        for (line, says) in [
            ("root secret-secret-secret", "no role"),
            ("worker", "no token"),
            ("worker secret", "could be guessed"),
            ("worker secret-secret-secret 2101-13-01", "time of expiry"),
            ("worker secret-secret-secret 2101-01-01T00:00:00Z anna now", "more words"),
            (&format!("worker secret-secret-secret {}", "a".repeat(65)), "64 bytes"),
        ] {
            let error = tokens(&format!("worker {WORKER}\n{line}")).unwrap_err();
            assert!(error.contains("line 2") && error.contains(says), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(tokens(&format!("worker {WORKER}")).unwrap_err().contains("no token for the role operator"));
        assert!(!format!("{:?}", both("")).contains("worker\""), "nor in a debug text");
        assert!(!format!("{:?}", both("")).contains("0123456789abcdef-"));
    }
}
