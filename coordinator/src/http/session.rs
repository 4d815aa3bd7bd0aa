//! Dashboard sessions, kept in this process: after a restart, or on another replica, users log in again. Logging out ends one for
//! good, and so does the end of its token.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longhand_proto::{LeaseId, clock};

use crate::control::rpc::Identity;

/// Duration of a session: a working day.
const SESSION_MS: u64 = 12 * 3_600_000;
/// Open sessions of one token; of more, the one that would end first ends. Others' are not touched.
const MAX_SESSIONS: usize = 64;

#[derive(Debug)]
struct Session {
    identity: Identity,
    until_ms: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// By the hash of the cookie's value: how long a look-up takes says nothing of the value. A lock, as all requests pass
    /// here; held for one look-up.
    open: Mutex<HashMap<blake3::Hash, Session>>,
}

impl Sessions {
    /// The cookie's value and its lifetime in seconds: no longer than the token's.
    pub(super) fn create(&self, identity: Identity) -> (String, u64) {
        let now = clock::unix_ms();
        let until_ms = (now + SESSION_MS).min(identity.expires_ms.unwrap_or(u64::MAX));
        let value = format!("{}{}", LeaseId::mint(), LeaseId::mint());
        let mut open = self.open();
        open.retain(|_, session| session.until_ms > now);
        let own = || open.iter().filter(|(_, session)| session.identity.token() == identity.token());
        if own().count() >= MAX_SESSIONS
            && let Some(first) = own().min_by_key(|(_, session)| session.until_ms).map(|(key, _)| *key)
        {
            open.remove(&first);
        }
        open.insert(key(&value), Session { identity, until_ms });
        (value, until_ms.saturating_sub(now) / 1000)
    }

    /// Who has the session of this cookie; none if there is none.
    pub(super) fn identity(&self, value: &str) -> Option<Identity> {
        let open = self.open();
        let session = open.get(&key(value)).filter(|session| session.until_ms > clock::unix_ms())?;
        Some(session.identity.clone())
    }

    /// Ends the session of this cookie.
    pub(super) fn end(&self, value: &str) {
        self.open().remove(&key(value));
    }

    fn open(&self) -> MutexGuard<'_, HashMap<blake3::Hash, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(value: &str) -> blake3::Hash {
    blake3::hash(value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::rpc::{Role, Tokens};

    fn identity() -> Identity {
        of("a-token-of-some-length")
    }

    fn of(token: &str) -> Identity {
        Tokens::single(Role::Operator, token).check(Some(&format!("Bearer {token}")), &[Role::Operator], None).unwrap()
    }

    #[test]
    fn a_session_ends_when_its_user_logs_out_or_its_token_expires() {
        let sessions = Sessions::default();
        let (cookie, seconds) = sessions.create(identity());
        assert_eq!(seconds, SESSION_MS / 1000);
        assert_eq!(sessions.identity(&cookie), Some(identity()));
        for forged in ["", "x", &cookie[1..], &format!("{cookie}0")] {
            assert_eq!(sessions.identity(forged), None, "{forged}");
        }
        sessions.end(&cookie);
        assert_eq!(sessions.identity(&cookie), None);
        let until = |expires_ms| {
            let mut identity = identity();
            identity.expires_ms = Some(expires_ms);
            identity
        };
        assert!(sessions.create(until(clock::unix_ms() + 60_000)).1 <= 60);
        let (cookie, seconds) = sessions.create(until(1));
        assert_eq!((sessions.identity(&cookie), seconds), (None, 0));
    }

    #[test]
    fn sessions_of_a_token_are_bounded_and_end_no_others() {
        let sessions = Sessions::default();
        let other = sessions.create(of("the-token-of-an-operator")).0;
        let mut last = String::new();
        for _ in 0..MAX_SESSIONS + 100 {
            last = sessions.create(identity()).0;
        }
        assert_eq!(sessions.open().len(), MAX_SESSIONS + 1);
        assert!(sessions.identity(&last).is_some() && sessions.identity(&other).is_some());
    }
}
