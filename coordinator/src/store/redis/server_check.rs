//! Checks that a server can run the scripts and will not lose documents.

use std::collections::HashMap;

use super::address::Kind;
use crate::store::{Result, StoreError};

/// The fields of `INFO`.
#[derive(Debug)]
pub(super) struct ServerInfo<'a> {
    fields: HashMap<&'a str, &'a str>,
}

impl<'a> ServerInfo<'a> {
    pub(super) fn parse(info: &'a str) -> Self {
        let fields = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        Self { fields }
    }

    fn field(&self, name: &str) -> &'a str {
        self.fields.get(name).copied().unwrap_or_default()
    }

    pub(super) fn is_primary(&self) -> bool {
        self.field("role") == "master"
    }

    /// Scripts need Redis 7.0 or Valkey 8; data needs an append-only file and no eviction. `name` is the server's address,
    /// `kind` what the URL says it is.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with what to change.
    pub(super) fn check(&self, name: &str, kind: &Kind, allow_volatile: bool) -> Result<()> {
        self.check_mode(name, kind)?;
        self.check_version(name)?;
        if allow_volatile {
            return Ok(());
        }
        if self.field("aof_enabled") != "1" {
            return Err(StoreError::Refused(format!(
                "the server at {name} has no append-only file, so a restart of it would lose documents: start it with \
                 `--appendonly yes` (or `CONFIG SET appendonly yes`), or allow a volatile store"
            )));
        }
        match self.field("maxmemory_policy") {
            "noeviction" => Ok(()),
            policy => Err(StoreError::Refused(format!(
                "the server at {name} has maxmemory-policy {policy}, so it may evict documents when its memory is \
                 full: run `CONFIG SET maxmemory-policy noeviction`, or allow a volatile store"
            ))),
        }
    }

    fn check_mode(&self, name: &str, kind: &Kind) -> Result<()> {
        let remedy = match (self.field("redis_mode"), kind) {
            ("sentinel", _) => "a Sentinel, not a server: expected redis+sentinel://HOST:PORT/SERVICE",
            ("cluster", Kind::Server | Kind::Sentinel { .. }) => {
                "a node of a cluster: expected redis+cluster://HOST:PORT"
            }
            _ => return Ok(()),
        };
        Err(StoreError::Refused(format!("{name} is {remedy}")))
    }

    fn check_version(&self, name: &str) -> Result<()> {
        let (product, version, least) = match self.field("valkey_version") {
            "" => ("Redis", self.field("redis_version"), 7),
            version => ("Valkey", version, 8),
        };
        match version.split('.').next().map(str::parse::<u32>) {
            Some(Ok(major)) if major >= least => Ok(()),
            _ => Err(StoreError::Refused(format!(
                "the server at {name} is {product} {version:?}: expected Redis 7.0 or later, or Valkey 8 or later"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(info: &str, allow_volatile: bool) -> std::result::Result<(), String> {
        ServerInfo::parse(info).check("h:1", &Kind::Server, allow_volatile).map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_that_would_lose_documents_is_refused_with_the_remedy() {
        const SOUND: &str = "# Server\r\nredis_version:7.0.15\r\naof_enabled:1\r\nmaxmemory_policy:noeviction\r\n";
        check(SOUND, false).unwrap();
        let volatile = SOUND.replace("aof_enabled:1", "aof_enabled:0");
        assert!(check(&volatile, false).unwrap_err().contains("--appendonly yes"));
        check(&volatile, true).unwrap();
        let evicting = SOUND.replace("noeviction", "allkeys-lru");
        assert!(check(&evicting, false).unwrap_err().contains("allkeys-lru"));
        check(&evicting, true).unwrap();
    }

    #[test]
    fn an_old_server_is_refused_even_if_volatile_is_allowed() {
        for (info, fits) in [
            ("redis_version:6.2.14\n", false),
            ("redis_version:7.2.4\nvalkey_version:7.2.5\n", false),
            ("redis_version:7.2.4\nvalkey_version:9.1.0\n", true),
            ("redis_version:10.0.0\n", true),
            ("nothing\n", false),
        ] {
            assert_eq!(check(info, true).is_ok(), fits, "{info}");
        }
    }

    #[test]
    fn a_url_of_another_kind_than_the_server_is_refused_with_the_right_one() {
        let refusal = |mode: &str, kind| {
            let info = format!("redis_version:7.0.15\nredis_mode:{mode}\n");
            ServerInfo::parse(&info).check("h:1", &kind, true).map_err(|error| error.to_string())
        };
        refusal("standalone", Kind::Server).unwrap();
        refusal("cluster", Kind::Cluster).unwrap();
        assert!(refusal("cluster", Kind::Server).unwrap_err().contains("redis+cluster://"));
        assert!(refusal("sentinel", Kind::Server).unwrap_err().contains("redis+sentinel://"));
    }
}
