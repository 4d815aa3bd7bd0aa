//! Which accepted documents a shard holds.

use longhand_coordinator::domain::state::State;
use longhand_proto::DocumentId;

use crate::fixture::*;

on_every_store!(an_accepted_document_waits_until_a_shard_holds_it, only_accepted_documents_of_the_run_can_be_marked,);

async fn an_accepted_document_waits_until_a_shard_holds_it(fixture: &Fixture) {
    let run = fixture.run("r", 4).await;
    let leased = fixture.lease("w", "q", 4).await;
    for record in leased.iter().rev().take(3) {
        fixture.end(lease_of(record), State::Accepted).await;
    }
    let waiting = ids(&fixture.store.unflushed(&run, 10).await.unwrap());
    assert_eq!(waiting, [1, 2, 3].map(|number| document(&run, number)), "in order of submission, not of acceptance");
    assert_eq!(ids(&fixture.store.unflushed(&run, 2).await.unwrap()), waiting[..2]);

    // The process dies after the shard was written and marks it again when it is back.
    for _ in 0..2 {
        assert_eq!(fixture.store.mark_flushed(&run, &waiting[..2]).await.unwrap(), []);
        assert_eq!(ids(&fixture.store.unflushed(&run, 10).await.unwrap()), waiting[2..]);
    }
    let marked = fixture.get(waiting[0]).await;
    assert!(marked.flushed);
    assert_eq!(marked.version, 4, "marked once");
    fixture.assert_sound(&run).await;
}

async fn only_accepted_documents_of_the_run_can_be_marked(fixture: &Fixture) {
    let run = fixture.run("r", 2).await;
    let other = fixture.run("s", 1).await;
    let leased = fixture.lease("w", "q", 9).await;
    for (record, state) in leased.iter().zip([State::Accepted, State::Rejected, State::Accepted]) {
        fixture.end(lease_of(record), state).await;
    }
    let unknown = DocumentId::derive(&run, "never submitted", 0);
    let asked = [document(&run, 0), document(&run, 1), unknown, document(&other, 0)];
    assert_eq!(fixture.store.mark_flushed(&run, &asked).await.unwrap(), asked[1..]);
    assert!(!fixture.get(document(&run, 1)).await.flushed);
    assert_eq!(fixture.store.unflushed(&other, 9).await.unwrap().len(), 1);
}
