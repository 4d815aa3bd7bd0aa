//! Opens a database file: checks that this program made it and that this build reads its version, or creates it.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, TransactionBehavior};

use super::error::explain;
use crate::files::network_file_system;
use crate::store::{Result, StoreError};

/// Raised with every change of `schema.sql`; a file with a higher one is refused.
pub(super) const VERSION: i64 = 4;
/// "LHnd" in the file's header: the database of another program is never written to.
const APPLICATION: i64 = 0x4c48_6e64;
/// How long to wait for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);

/// Opens or creates the file.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let explain = |error| explain(error, path);
    // Only this user reads it; SQLite gives its log beside it the same mode. An error comes again from SQLite, with a remedy.
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path));
    let mut connection = Connection::open(path).map_err(explain)?;
    let network = network_file_system(path);
    if let Some(network) = network {
        tracing::warn!(
            path = %path.display(), file_system = network,
            "the store is on a network file system: it is written without a write-ahead log, which is slower, and only one \
             process may use it; prefer a local disk or Redis"
        );
    }
    prepare(&mut connection, path, network.is_some())?;
    Ok(connection)
}

/// Makes a fresh database in memory.
pub(super) fn in_memory() -> Result<Connection> {
    let path = Path::new(":memory:");
    let mut connection = Connection::open_in_memory().map_err(|error| explain(error, path))?;
    prepare(&mut connection, path, false)?;
    Ok(connection)
}

/// The write-ahead log needs memory that all its processes share, so SQLite's manual forbids it on a `network` file system: there
/// the rollback journal is used, and the file stays locked for this process, as locks of such file systems are slow, if not wrong.
fn prepare(connection: &mut Connection, path: &Path, network: bool) -> Result<()> {
    let explain = |error| explain(error, path);
    connection.busy_timeout(BUSY).map_err(explain)?;
    // In this mode the log of a file that was written on a local disk is read without shared memory.
    connection.pragma_update(None, "locking_mode", if network { "EXCLUSIVE" } else { "NORMAL" }).map_err(explain)?;
    // The first statement that reads the file: it fails on a file that is not a database.
    check(connection, path)?;
    connection.pragma_update(None, "journal_mode", if network { "TRUNCATE" } else { "WAL" }).map_err(explain)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(explain)?;
    // A statement is planned once, not again for every value bound to it: planning takes longer than most statements here.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map_err(explain)?;
    connection.set_prepared_statement_cache_capacity(64);

    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    // Read again under the write lock: another process may have created the schema meanwhile.
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(explain)?;
    if version == 0 {
        tx.execute_batch(include_str!("schema.sql")).map_err(explain)?;
        tx.pragma_update(None, "application_id", APPLICATION).map_err(explain)?;
        tx.pragma_update(None, "user_version", VERSION).map_err(explain)?;
    }
    // Came later than the schema's version, and older builds keep it up to date without knowing it.
    tx.execute_batch(
        "CREATE INDEX IF NOT EXISTS tally_active ON tally (run) WHERE n > 0 AND state IN ('ready', 'leased', 'delayed');
         CREATE TRIGGER IF NOT EXISTS tally_delete AFTER DELETE ON document BEGIN
             UPDATE tally SET n = n - 1 WHERE run = old.run AND state = old.state;
         END;
         CREATE TABLE IF NOT EXISTS totals (run INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;",
    )
    .map_err(explain)?;
    let known =
        tx.prepare("SELECT 1 FROM pragma_table_info('run') WHERE name = 'cancelling'").map_err(explain)?.exists([]);
    if !known.map_err(explain)? {
        tx.execute_batch("ALTER TABLE run ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0").map_err(explain)?;
    }
    tx.commit().map_err(explain)
}

fn check(connection: &Connection, path: &Path) -> Result<()> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let explain = |error| explain(error, path);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(explain)?;
    if tables == 0 {
        return Ok(());
    }
    if number("application_id").map_err(explain)? != APPLICATION {
        return Err(StoreError::Refused(format!(
            "{} is a database of another program: give another path",
            path.display()
        )));
    }
    match number("user_version").map_err(explain)? {
        VERSION => Ok(()),
        version => Err(StoreError::Refused(format!(
            "{} has schema version {version}, this build reads version {VERSION}: use the build that wrote it, or \
             give another path",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_at(path: &Path, network: bool) -> Result<Connection> {
        let mut connection = Connection::open(path).unwrap();
        prepare(&mut connection, path, network).map(|()| connection)
    }

    fn mode(connection: &Connection) -> String {
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap()
    }

    #[test]
    fn on_a_network_file_system_there_is_no_write_ahead_log_and_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.sqlite");
        let local = open_at(&path, false).unwrap();
        local.execute("INSERT INTO worker (id, report, seen_ms) VALUES ('w', '', 1)", []).unwrap();
        assert_eq!(mode(&local), "wal");
        drop(local);
        let shared = open_at(&path, true).unwrap();
        assert_eq!(mode(&shared), "truncate");
        let workers: i64 = shared.query_row("SELECT count(*) FROM worker", [], |row| row.get(0)).unwrap();
        assert_eq!(workers, 1, "what was written with a log is there");
        assert!(!folder.path().join("store.sqlite-shm").exists());
        let second = Connection::open(&path).unwrap();
        second.busy_timeout(Duration::ZERO).unwrap();
        assert!(second.query_row("SELECT count(*) FROM worker", [], |row| row.get::<_, i64>(0)).is_err(), "locked");
        drop((shared, second));
        assert_eq!(mode(&open_at(&path, false).unwrap()), "wal", "copied to a local disk");
    }
}
