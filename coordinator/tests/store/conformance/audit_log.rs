//! The audit log.

use longhand_coordinator::store::{AUDIT_LOG_ENTRIES, Action, ActionKind, StoreError};

use crate::fixture::*;

on_every_store!(what_operators_did_is_kept_and_the_oldest_is_removed);

fn action(number: u64) -> Action {
    Action {
        at_ms: number,
        who: "anna at 10.0.0.7".into(),
        what: ActionKind::Requeue,
        documents: number,
        about: "\"all\"".into(),
    }
}

async fn what_operators_did_is_kept_and_the_oldest_is_removed(fixture: &Fixture) {
    let store = &fixture.store;
    let (run, other) = (fixture.run("r", 1).await, fixture.run("other", 1).await);
    assert!(store.audit_log(Some(&run), 10).await.unwrap().is_empty());
    for number in 1..=3 {
        store.append_audit(Some(&run), &action(number)).await.unwrap();
    }
    let drained = Action { what: ActionKind::Drain, ..action(9) };
    store.append_audit(None, &drained).await.unwrap();
    assert_eq!(store.audit_log(Some(&run), 2).await.unwrap(), [action(3), action(2)]);
    assert!(store.audit_log(Some(&run), 0).await.unwrap().is_empty());
    assert!(store.audit_log(Some(&other), 10).await.unwrap().is_empty());
    assert_eq!(store.audit_log(None, 10).await.unwrap(), [drained]);
    let nowhere = store.append_audit(Some(&"nowhere".parse().unwrap()), &action(1)).await.unwrap_err();
    assert!(matches!(nowhere, StoreError::NotFound { kind: "run", .. }), "{nowhere}");

    for number in 4..u64::from(AUDIT_LOG_ENTRIES) + 3 {
        store.append_audit(Some(&run), &action(number)).await.unwrap();
    }
    let kept = store.audit_log(Some(&run), 2 * AUDIT_LOG_ENTRIES).await.unwrap();
    assert_eq!(kept.len(), AUDIT_LOG_ENTRIES as usize);
    assert_eq!(kept.last(), Some(&action(3)));
    fixture.assert_sound(&run).await;
}
