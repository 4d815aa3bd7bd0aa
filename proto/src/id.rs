//! Identifiers of runs, documents, leases and workers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} {text:?}: {expected}")]
pub struct ParseIdError {
    kind: &'static str,
    expected: &'static str,
    text: String,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self).ok_or_else(|| ParseIdError {
                    kind: $kind,
                    expected: "expected 32 hexadecimal digits",
                    text: text.chars().take(64).collect(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// Hash of run, instruction and candidate number: submitting the same file twice names the same documents.
    DocumentId,
    "document id"
);
hex_id!(
    /// The fencing token of a lease, random for every lease. A write under any other id changes nothing.
    LeaseId,
    "lease id"
);

impl DocumentId {
    /// `instruction` is the row's own id, or its text where it has none.
    pub fn derive(run: &RunId, instruction: &str, candidate: u32) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("longhand document id v1");
        hash.update(run.as_str().as_bytes());
        hash.update(&[0]);
        hash.update(instruction.as_bytes());
        hash.update(&candidate.to_le_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize().as_bytes()[..16]);
        Self(bytes)
    }
}

impl LeaseId {
    /// A new random lease id.
    pub fn mint() -> Self {
        Self(crate::rng::bytes())
    }
}

fn parse_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = (pair[0] as char).to_digit(16)?;
        let low = (pair[1] as char).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                // It becomes the name of a folder: `..` would be the one above.
                let fits = (1..=64).contains(&text.len())
                    && !text.starts_with('.')
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
                if fits {
                    Ok(Self(text))
                } else {
                    Err(ParseIdError {
                        kind: $kind,
                        expected: "expected 1 to 64 characters of a-z, A-Z, 0-9, '-', '_' and '.', the first of which is no '.'",
                        text: text.chars().take(64).collect(),
                    })
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

name_id!(
    /// One submission of an instruction set with one recipe.
    RunId,
    "run id"
);
name_id!(
    /// One start of a worker process: host, process id and a random part.
    WorkerId,
    "worker id"
);

impl WorkerId {
    /// A new id for a worker that starts on `host`. Characters that an id may not contain are dropped.
    pub fn mint(host: &str) -> Self {
        let host: String =
            host.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')).take(32).collect();
        let host = host.trim_start_matches('.');
        Self(format!("{host}-{}-{:08x}", std::process::id(), crate::rng::below(1 << 32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_ids_round_trip_and_invalid_ones_are_rejected() {
        let id = LeaseId::mint();
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "12", &"g".repeat(32), &"0".repeat(33), "é"] {
            assert!(bad.parse::<DocumentId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_id_depends_on_each_of_its_parts() {
        let (a, b): (RunId, RunId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let id = DocumentId::derive(&a, "x", 0);
        assert_eq!(id, DocumentId::derive(&a, "x", 0));
        assert_ne!(id, DocumentId::derive(&b, "x", 0));
        assert_ne!(id, DocumentId::derive(&a, "y", 0));
        assert_ne!(id, DocumentId::derive(&a, "x", 1));
    }

    #[test]
    fn each_start_of_a_worker_has_its_own_id() {
        for host in ["node-1.example", "", "bücher/{x} y", "..", &"h".repeat(300)] {
            let id = WorkerId::mint(host);
            assert_eq!(id.to_string().parse(), Ok(id.clone()), "{host}");
            assert_ne!(id, WorkerId::mint(host));
        }
    }

    #[test]
    fn a_run_id_is_safe_in_a_path_and_in_a_key() {
        assert!("demo-1".parse::<RunId>().is_ok());
        for bad in [".", "..", ".longhand", "", "a/b", "a b", "{x}", &"a".repeat(65)] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }
}
