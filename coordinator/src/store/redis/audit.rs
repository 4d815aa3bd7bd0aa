//! Compares every index of a run with its documents.
//!
//! Each step compares a few entries atomically, so the audit may run beside live workers: a mismatch is seen within one
//! step, never between two.

use longhand_proto::RunId;

use super::client::{Client, key};
use super::scripts;
use crate::store::{Audit, Result};

/// Entries compared in one atomic step.
const BATCH: usize = 256;

pub(super) async fn audit(client: &Client, run: &RunId, repair: bool) -> Result<Audit> {
    let mut audit = Audit::default();
    let prefix = key(run, "");
    let mut indexes = Vec::new();
    let mut documents = Vec::new();
    // The keys themselves, for an index that lost a document cannot name it.
    for found in scan(client, run, "SCAN", None, Some(&format!("{prefix}*"))).await? {
        let Some(name) = found.strip_prefix(&prefix) else { continue };
        match name.split_once(':') {
            Some(("d", id)) => documents.push(id.to_owned()),
            Some(("s" | "r" | "q", _)) => indexes.push(name.to_owned()),
            Some(_) => {}
            None if name == "all" => indexes.push(name.to_owned()),
            None => {}
        }
    }
    documents.sort_unstable();
    documents.dedup();
    indexes.sort_unstable();
    indexes.dedup();

    for batch in documents.chunks(BATCH) {
        let mut call = client.step(&scripts::AUDIT_DOCUMENTS, run);
        call.arg(u8::from(repair)).arg(batch);
        let (found, repaired, mismatches): (u64, u64, Vec<String>) = client.invoke(&call).await?;
        audit.documents += found;
        audit.note(repaired, mismatches);
    }
    for index in indexes {
        // ZSCAN answers with pairs of member and score.
        let entries = scan(client, run, "ZSCAN", Some(&key(run, &index)), None).await?;
        let members: Vec<&String> = entries.iter().step_by(2).collect();
        for batch in members.chunks(BATCH) {
            let mut call = client.step(&scripts::AUDIT_INDEX, run);
            call.arg(u8::from(repair)).arg(&index).arg(batch);
            let (repaired, mismatches): (u64, Vec<String>) = client.invoke(&call).await?;
            audit.note(repaired, mismatches);
        }
    }
    let entries = scan(client, run, "HSCAN", Some(&key(run, "leases")), None).await?;
    let leases: Vec<&String> = entries.iter().step_by(2).collect();
    for batch in leases.chunks(BATCH) {
        let mut call = client.step(&scripts::AUDIT_LEASES, run);
        call.arg(u8::from(repair)).arg(batch);
        let (repaired, mismatches): (u64, Vec<String>) = client.invoke(&call).await?;
        audit.note(repaired, mismatches);
    }
    Ok(audit)
}

impl Audit {
    fn note(&mut self, repaired: u64, mismatches: Vec<String>) {
        self.repaired += repaired;
        self.mismatches.extend(mismatches);
    }
}

/// All that a cursor visits; what stays the whole time is seen at least once.
async fn scan(
    client: &Client,
    run: &RunId,
    command: &str,
    key: Option<&str>,
    pattern: Option<&str>,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut cursor = 0_u64;
    loop {
        let mut ask = redis::cmd(command);
        ask.arg(key).arg(cursor).arg("COUNT").arg(1000);
        if let Some(pattern) = pattern {
            ask.arg("MATCH").arg(pattern);
        }
        let (next, page): (u64, Vec<String>) = client.command_at(run, &ask).await?;
        found.extend(page);
        if next == 0 {
            return Ok(found);
        }
        cursor = next;
    }
}
