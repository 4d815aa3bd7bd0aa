//! A server that carried out a call and whose reply was lost: the call is retried, and nothing is done twice.

use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    Committed, CompareAndSwap, LeaseQuery, Lookup, Next, RedisOptions, Renewal, StoreError, Swapped,
};
use longhand_proto::LeaseId;
use longhand_tests::proxy::{Protocol, Proxy};
use longhand_tests::server::{Kind, Server};

use crate::fixture::*;

/// A store behind a connection that can be cut.
struct Cut {
    fixture: Fixture,
    proxy: Proxy,
    _server: Server,
}

impl Cut {
    async fn new() -> Self {
        let server = Server::start(Kind::Redis);
        let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into(), Protocol::Redis);
        let fixture = Fixture::at(&format!("redis://{}", proxy.address()), RedisOptions::default()).await;
        Self { fixture, proxy, _server: server }
    }

    /// Makes a call of which the first reply is lost.
    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        let before = self.proxy.dropped_replies();
        self.proxy.drop_next_reply();
        let answer = call.await;
        assert_eq!(self.proxy.dropped_replies(), before + 1, "the reply of this call was cut off");
        answer
    }
}

#[tokio::test]
async fn every_call_whose_reply_was_lost_is_retried_and_done_once() {
    let cut = Cut::new().await;
    let (fixture, store) = (&cut.fixture, &cut.fixture.store);
    // Every step once with its reply, so that the server has its script and the next reply is the step's own.
    lifecycle(fixture, "warm", None).await;
    lifecycle(fixture, "cut", Some(&cut)).await;
    for run in store.runs().await.unwrap() {
        fixture.assert_sound(&run.id).await;
    }
}

async fn lifecycle(fixture: &Fixture, name: &str, cut: Option<&Cut>) {
    let store = &fixture.store;
    macro_rules! call {
        ($call:expr) => {
            match cut {
                Some(cut) => cut.call($call).await.unwrap(),
                None => $call.await.unwrap(),
            }
        };
    }
    let run = run(name);
    call!(store.create_run(&a_run(name, 7)));
    let documents: Vec<_> = (0..4).map(|number| new(&run, number)).collect();
    call!(store.submit(&run, &documents));
    assert_eq!(store.counts(&run).await.unwrap().ready, 4);
    assert!(call!(store.pause(&run, true)).paused);
    call!(store.pause(&run, false));

    // Of two runs that wait, only this one counts here.
    let leased = call!(store.lease(&LeaseQuery { slots: 2, ..query("w", name, 2) }));
    assert_eq!(
        (leased.len(), store.counts(&run).await.unwrap().leased),
        (2, 2),
        "no document was leased without a reply"
    );
    let (one, two) = (lease_of(&leased[0]), lease_of(&leased[1]));
    let renewal = Renewal { lease: one, progress: 3, checkpoint: Some(checkpoint(&[1, 2, 3])), from: 0 };
    assert_eq!(call!(store.renew(std::slice::from_ref(&renewal), TTL)).lost, []);
    assert!(matches!(call!(store.lookup(one)), Lookup::Live(_)));

    let next = LeaseId::mint();
    let (Committed::Done(Some(grant)) | Committed::Repeated(Some(grant))) =
        call!(store.commit(&commit(one, Next::Continue { lease: Some(next) })))
    else {
        panic!("the next lease is granted")
    };
    assert_eq!(grant.id, next);
    let released = call!(store.commit(&commit(two, Next::Release)));
    assert!(matches!(released, Committed::Done(None) | Committed::Repeated(None)));
    call!(store.commit(&commit(next, ended(State::Accepted, ""))));
    let id = leased[0].id;
    assert_eq!(fixture.get(id).await.version, leased[0].version + 2);
    assert_eq!(store.attempts(id).await.unwrap().len(), 2, "each attempt stands there once");
    assert_eq!(fixture.get(leased[1].id).await.counters.releases, 1);

    assert_eq!(call!(store.unflushed(&run, 9)).len(), 1);
    assert_eq!(call!(store.mark_flushed(&run, &[id])), []);
    let held = fixture.lease("w", &format!("{name} again"), 1).await.remove(0);
    fixture.pass(TTL + 1);
    call!(store.sweep(&LIMITS));
    assert_eq!(fixture.get(held.id).await.counters.losses, 1, "one loss, however often it was called");

    let accepted = fixture.get(id).await;
    let swap = CompareAndSwap {
        document: id,
        version: accepted.version,
        state: State::Ready,
        reason: String::new(),
        judge: false,
        body: None,
    };
    assert_eq!(call!(store.swap(&swap)), Swapped::Done);
    assert_eq!(call!(store.history(id)).len(), 1);
    assert_eq!(call!(store.get(id)).map(|record| record.id), Some(id));
    assert_eq!(call!(store.list(&run, &Default::default(), None, 9)).records.len(), 4);
    assert_eq!(call!(store.counts(&run)).total(), 4);
    assert_eq!(call!(store.changed(&run, 0, 9)).len(), 4);
    assert_eq!(call!(store.audit(&run, true)).mismatches, Vec::<String>::new());
    // What is left is out of the way of the next run.
    call!(store.pause(&run, true));
}

#[tokio::test]
async fn a_slow_reply_is_waited_for_and_a_dead_connection_is_dropped() {
    let server = Server::start(Kind::Redis);
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into(), Protocol::Redis);
    let options = RedisOptions { response_timeout: Duration::from_secs(1), ..RedisOptions::default() };
    let fixture = Fixture::at(&format!("redis://{}", proxy.address()), options).await;
    let run = fixture.run("r", 1).await;
    // Longer than the library would wait by itself.
    proxy.delay(Duration::from_millis(700));
    assert_eq!(fixture.store.counts(&run).await.unwrap().ready, 1);
    proxy.delay(Duration::ZERO);

    proxy.set_blackhole(true);
    let begin = tokio::time::Instant::now();
    let error = fixture.store.counts(&run).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable(text) if text.contains("127.0.0.1:")), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "it took {:?}", begin.elapsed());
    proxy.set_blackhole(false);
    assert_eq!(fixture.store.counts(&run).await.unwrap().ready, 1, "the next call takes another connection");
}
