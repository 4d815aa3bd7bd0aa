//! Who logged in: a cookie that says until when and whose token it was, sealed with a key that only this process knows. Nothing
//! is stored; after a restart, or at another replica, one logs in again.

use longhand_proto::{LeaseId, clock};

use crate::control::rpc::Identity;

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

    /// The cookie's value, and the seconds that it lasts: no longer than the token.
    pub(super) fn begin(&self, holder: &Identity) -> (String, u64) {
        let now = clock::unix_ms();
        let until = (now + LASTS_MS).min(holder.expires_ms.unwrap_or(u64::MAX));
        // A cookie holds few signs beside digits and letters, a name any.
        let name: String = holder.name.bytes().map(|byte| format!("{byte:02x}")).collect();
        let said = format!("{until}.{name}");
        (format!("{said}.{}", self.seal(&said)), until.saturating_sub(now) / 1000)
    }

    /// The name in a cookie that this process made and that has not run out.
    pub(super) fn holder(&self, value: &str) -> Option<String> {
        let (said, seal) = value.rsplit_once('.')?;
        let (until, name) = said.split_once('.')?;
        let seal = blake3::Hash::from_hex(seal).ok()?;
        // Compared in constant time.
        if self.seal(said) != seal || until.parse::<u64>().ok()? <= clock::unix_ms() {
            return None;
        }
        let bytes = (0..name.len()).step_by(2).map(|at| u8::from_str_radix(name.get(at..at + 2)?, 16).ok());
        String::from_utf8(bytes.collect::<Option<_>>()?).ok()
    }

    fn seal(&self, said: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.key, said.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, expires_ms: Option<u64>) -> Identity {
        Identity { name: name.into(), expires_ms }
    }

    #[test]
    fn a_cookie_of_another_process_or_a_changed_one_lets_nobody_in() {
        let (ours, theirs) = (Sessions::new(), Sessions::new());
        let (cookie, _) = ours.begin(&holder("anna", None));
        assert_eq!(ours.holder(&cookie), Some("anna".into()));
        assert_eq!(theirs.holder(&cookie), None);
        let [until, name, seal] = cookie.split('.').collect::<Vec<_>>().try_into().unwrap();
        let later = until.parse::<u64>().unwrap() + 1;
        for forged in [
            format!("{later}.{name}.{seal}"),
            format!("{until}.{}.{seal}", name.replace('6', "7")),
            format!("{until}.{name}."),
            format!("{until}.{name}"),
            String::new(),
            "x.y.z".into(),
        ] {
            assert_eq!(ours.holder(&forged), None, "{forged}");
        }
    }

    #[test]
    fn a_session_ends_with_its_token() {
        let sessions = Sessions::new();
        let soon = clock::unix_ms() + 60_000;
        let (cookie, seconds) = sessions.begin(&holder("", Some(soon)));
        assert!(seconds <= 60, "{seconds}");
        assert_eq!(sessions.holder(&cookie), Some(String::new()));
        let (cookie, seconds) = sessions.begin(&holder("née 渡", Some(1)));
        assert_eq!((sessions.holder(&cookie), seconds), (None, 0));
        assert_eq!(sessions.holder(&sessions.begin(&holder("née 渡", None)).0), Some("née 渡".into()));
    }
}
