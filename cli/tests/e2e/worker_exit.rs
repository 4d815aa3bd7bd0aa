//! Workers that end on their own: the exit code and the message.

use longhand_proto::v1::coordinator_server::{Coordinator, CoordinatorServer};
use longhand_proto::{PROTOCOL, v1};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::fleet::Fleet;
use crate::program::{Ended, longhand};

#[test]
fn a_worker_whose_engine_fails_releases_its_documents_and_another_one_writes_them() {
    // Long enough that nothing comes back by running out.
    let fleet = Fleet::start(&["--lease-seconds", "3600"]);
    fleet.submit("ships", 4);
    let dying = ["worker", "--engine", "mock", "--mock-die-after", "7", "--mock-tokens-per-second", "2000"];
    let ended = fleet.run(&dying);
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(
        ended.stderr.contains("the engine stopped: the mock engine was killed by an injected fault"),
        "{}",
        ended.stderr
    );
    for document in fleet.ask(&["documents", "ships"]) {
        assert_eq!((&document["state"], &document["losses"]), (&"ready".into(), &0.into()), "{document}");
    }
    let _worker = fleet.worker(&[]);
    fleet.ask(&["watch", "ships"]);
    let run = fleet.ask(&["status", "ships"]).remove(0);
    assert_eq!(run["counts"]["failed"], 0, "{run}");
}

/// A coordinator of another version, as far as a worker gets to know it.
struct Other {
    protocol: u32,
}

impl Other {
    /// What becomes of a worker that is sent to it.
    fn receive(protocol: u32) -> Ended {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(CoordinatorServer::new(Self { protocol }));
        runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        longhand().args(["worker", "--engine", "mock", "--coordinator", &url]).output().unwrap().into()
    }
}

#[tonic::async_trait]
impl Coordinator for Other {
    async fn hello(&self, _: Request<v1::HelloRequest>) -> Result<Response<v1::HelloReply>, Status> {
        let (protocol, version) = (self.protocol, "9.9.9".to_owned());
        Ok(Response::new(v1::HelloReply { protocol, version, lease_ms: 60_000 }))
    }

    async fn lease(&self, _: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseReply>, Status> {
        Err(Status::failed_precondition("nobody asks whom it cannot understand"))
    }

    async fn renew(&self, _: Request<v1::RenewRequest>) -> Result<Response<v1::RenewReply>, Status> {
        Err(Status::failed_precondition("nobody asks whom it cannot understand"))
    }

    async fn complete(&self, _: Request<v1::CompleteRequest>) -> Result<Response<v1::CompleteReply>, Status> {
        Err(Status::failed_precondition("nobody asks whom it cannot understand"))
    }

    async fn release(&self, _: Request<v1::ReleaseRequest>) -> Result<Response<v1::ReleaseReply>, Status> {
        Err(Status::failed_precondition("nobody asks whom it cannot understand"))
    }
}

#[test]
fn a_worker_rejects_a_coordinator_with_another_protocol() {
    for (protocol, remedy) in [(PROTOCOL + 1, "update the worker"), (PROTOCOL - 1, "update the coordinator")] {
        let ended = Other::receive(protocol);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        for part in [&format!("coordinator 9.9.9 speaks protocol {protocol}"), remedy] {
            assert!(ended.stderr.contains(part), "{part:?} is not in {}", ended.stderr);
        }
    }
}
