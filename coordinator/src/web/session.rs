//! Who logged in: a cookie that says until when and for which token, sealed with a key that only this process knows. Nothing
//! is stored; after a restart, or at another replica, one logs in again.

use longhand_proto::{LeaseId, clock};

/// A working day.
const LASTS_MS: u64 = 12 * 3_600_000;
pub(super) const COOKIE: &str = "longhand_session";

#[derive(Debug)]
pub(super) struct Sessions {
    key: [u8; 32],
}

impl Sessions {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(LeaseId::mint().as_bytes());
        key[16..].copy_from_slice(LeaseId::mint().as_bytes());
        Self { key }
    }

    /// The cookie's value, and the seconds that it lasts.
    pub(super) fn begin(&self) -> (String, u64) {
        let until = clock::unix_ms() + LASTS_MS;
        (format!("{until}.{}", self.seal(until)), LASTS_MS / 1000)
    }

    /// True for a cookie that this process made and that has not run out.
    pub(super) fn holds(&self, value: &str) -> bool {
        let Some((until, seal)) = value.split_once('.') else { return false };
        let (Ok(until), Ok(seal)) = (until.parse::<u64>(), blake3::Hash::from_hex(seal)) else { return false };
        // Compared in constant time.
        until > clock::unix_ms() && self.seal(until) == seal
    }

    fn seal(&self, until: u64) -> blake3::Hash {
        blake3::keyed_hash(&self.key, &until.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_of_another_process_or_a_changed_one_lets_nobody_in() {
        let (ours, theirs) = (Sessions::new(), Sessions::new());
        let (cookie, _) = ours.begin();
        assert!(ours.holds(&cookie));
        assert!(!theirs.holds(&cookie));
        let (until, seal) = cookie.split_once('.').unwrap();
        let later = until.parse::<u64>().unwrap() + 1;
        for forged in [format!("{later}.{seal}"), format!("{until}."), until.to_owned(), String::new(), "x.y".into()] {
            assert!(!ours.holds(&forged), "{forged}");
        }
    }
}
