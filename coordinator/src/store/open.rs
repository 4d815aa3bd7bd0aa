//! Opens a store by its URL.

use std::path::Path;
use std::sync::Arc;

use longhand_proto::clock;

use super::{RedisOptions, RedisStore, Result, SqliteStore, Store, StoreError};

/// Opens `redis://`, `rediss://` (each with `+sentinel` or `+cluster`), `sqlite:PATH`, or a plain path of an SQLite file,
/// which is created if it is missing. A Redis that would lose data is refused unless the options allow it.
///
/// # Errors
/// The store cannot be reached, or was refused; the message says what to do.
pub async fn open(url: &str, options: RedisOptions) -> Result<Arc<dyn Store>> {
    let path = match url.split_once(':') {
        Some((scheme, _)) if is_redis(scheme) => {
            return Ok(Arc::new(RedisStore::open(url, options).await?));
        }
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        // A file's name may hold a colon, but `postgres://` is not meant as a path.
        Some((scheme, rest)) if rest.starts_with("//") => {
            return Err(StoreError::Refused(format!(
                "invalid store URL scheme {scheme}://: expected redis://HOST:PORT, rediss://HOST:PORT, \
                 redis+sentinel://HOST:PORT/SERVICE, redis+cluster://HOST:PORT, sqlite:PATH or a path"
            )));
        }
        Some(_) | None => url,
    };
    if path.is_empty() {
        return Err(StoreError::Refused("invalid store URL: the path is empty: expected sqlite:PATH".into()));
    }
    let path = Path::new(path).to_owned();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path, clock::unix_ms)).await;
    Ok(Arc::new(opened.map_err(|error| StoreError::Other(format!("opening the store failed: {error}")))??))
}

fn is_redis(scheme: &str) -> bool {
    matches!(scheme.split('+').next(), Some("redis" | "rediss" | "valkey" | "valkeys"))
}
