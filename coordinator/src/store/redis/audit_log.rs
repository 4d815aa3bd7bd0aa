//! The audit log.

use longhand_proto::RunId;

use super::client::{Client, key};
use super::error::unreadable;
use super::scripts::encode;
use crate::store::{AUDIT_LOG_ENTRIES, Action, Result};

/// Key of the log of a run, or of the workers.
fn log(run: Option<&RunId>) -> String {
    run.map_or_else(|| "lh:{*}:actions".to_owned(), |run| key(run, "actions"))
}

pub(super) async fn append(client: &Client, run: Option<&RunId>, action: &Action) -> Result<()> {
    let mut add = redis::cmd("RPUSH");
    add.arg(log(run)).arg(encode(action)?);
    client.command::<()>(&add).await?;
    let mut trim = redis::cmd("LTRIM");
    trim.arg(log(run)).arg(-i64::from(AUDIT_LOG_ENTRIES)).arg(-1);
    client.command(&trim).await
}

pub(super) async fn entries(client: &Client, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let mut ask = redis::cmd("LRANGE");
    ask.arg(log(run)).arg(-i64::from(limit)).arg(-1);
    let found: Vec<String> = client.command(&ask).await?;
    found.iter().rev().map(|json| serde_json::from_str(json).map_err(unreadable)).collect()
}
