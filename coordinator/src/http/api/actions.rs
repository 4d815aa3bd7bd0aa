//! The operators' latest actions, from the audit log.

use longhand_proto::RunId;

use crate::store::{Action, Store, StoreError};

/// Most actions that a page shows.
const MAX_ACTIONS: u32 = 50;
/// Actions of the same kind by the same person within this time are shown as one: a large requeue is logged page by page.
const MERGE_WITHIN_MS: u64 = 60_000;

/// The latest actions, merged where they are pages of one operation.
pub(super) async fn actions(store: &dyn Store, run: Option<&RunId>) -> Result<Vec<Action>, StoreError> {
    let mut merged: Vec<Action> = Vec::new();
    for action in store.audit_log(run, crate::store::AUDIT_LOG_ENTRIES).await? {
        let full = merged.len() == MAX_ACTIONS as usize;
        match merged.last_mut() {
            Some(last)
                if last.documents > 1
                    && (last.what, &last.who, &last.about) == (action.what, &action.who, &action.about)
                    && last.at_ms.saturating_sub(action.at_ms) <= MERGE_WITHIN_MS =>
            {
                last.documents += action.documents;
                last.at_ms = action.at_ms;
            }
            Some(_) if full => break,
            Some(_) | None => merged.push(action),
        }
    }
    Ok(merged)
}
