//! Dashboard sessions: a cookie with the expiry and the token's name, signed with a key of this process. Nothing is stored;
//! after a restart, or on another replica, users log in again.

use longhand_proto::{LeaseId, clock};

use crate::control::rpc::Identity;

/// Duration of a session: a working day.
const SESSION_MS: u64 = 12 * 3_600_000;
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

    /// The cookie's value and its lifetime in seconds: no longer than the token's.
    pub(super) fn create(&self, holder: &Identity) -> (String, u64) {
        let now = clock::unix_ms();
        let until = (now + SESSION_MS).min(holder.expires_ms.unwrap_or(u64::MAX));
        // A cookie value allows few characters; a name may hold any, so it is written in hexadecimal.
        let name: String = holder.name.bytes().map(|byte| format!("{byte:02x}")).collect();
        let payload = format!("{until}.{name}");
        (format!("{payload}.{}", self.sign(&payload)), until.saturating_sub(now) / 1000)
    }

    /// The name in a cookie; none if it is expired or not signed by this process.
    pub(super) fn user_name(&self, value: &str) -> Option<String> {
        let (payload, signature) = value.rsplit_once('.')?;
        let (until, name) = payload.split_once('.')?;
        let signature = blake3::Hash::from_hex(signature).ok()?;
        // Compared in constant time.
        if self.sign(payload) != signature || until.parse::<u64>().ok()? <= clock::unix_ms() {
            return None;
        }
        let bytes = (0..name.len()).step_by(2).map(|at| u8::from_str_radix(name.get(at..at + 2)?, 16).ok());
        String::from_utf8(bytes.collect::<Option<_>>()?).ok()
    }

    fn sign(&self, payload: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.key, payload.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(name: &str, expires_ms: Option<u64>) -> Identity {
        Identity { name: name.into(), expires_ms }
    }

    #[test]
    fn a_cookie_of_another_process_or_a_changed_one_is_rejected() {
        let (this_process, other_process) = (Sessions::new(), Sessions::new());
        let (cookie, _) = this_process.create(&holder("anna", None));
        assert_eq!(this_process.user_name(&cookie), Some("anna".into()));
        assert_eq!(other_process.user_name(&cookie), None);
        let [until, name, signature] = cookie.split('.').collect::<Vec<_>>().try_into().unwrap();
        let later = until.parse::<u64>().unwrap() + 1;
        for forged in [
            format!("{later}.{name}.{signature}"),
            format!("{until}.{}.{signature}", name.replace('6', "7")),
            format!("{until}.{name}."),
            format!("{until}.{name}"),
            String::new(),
            "x.y.z".into(),
        ] {
            assert_eq!(this_process.user_name(&forged), None, "{forged}");
        }
    }

    #[test]
    fn a_session_ends_with_its_token() {
        let sessions = Sessions::new();
        let soon = clock::unix_ms() + 60_000;
        let (cookie, seconds) = sessions.create(&holder("", Some(soon)));
        assert!(seconds <= 60, "{seconds}");
        assert_eq!(sessions.user_name(&cookie), Some(String::new()));
        let (cookie, seconds) = sessions.create(&holder("née 渡", Some(1)));
        assert_eq!((sessions.user_name(&cookie), seconds), (None, 0));
        assert_eq!(sessions.user_name(&sessions.create(&holder("née 渡", None)).0), Some("née 渡".into()));
    }
}
