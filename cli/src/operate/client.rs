//! The operator's calls to a coordinator.

use std::path::Path;
use std::time::Duration;

use longhand_command::exit::{Failure, Result};
use longhand_proto::v1::operator_client::OperatorClient as GrpcClient;
use longhand_proto::{MAX_MESSAGE_BYTES, clock};
use longhand_worker::client::failover_channel::{AuthenticatedChannel, CallError, FailoverChannel, RetryPolicy};
use tonic::{Response, Status};

use crate::args::connection::ConnectionArgs;

/// Short, since a person waits: a coordinator that is down is reported, and at once where nothing listens.
const PATIENCE: RetryPolicy = RetryPolicy {
    attempt_timeout: Duration::from_secs(60),
    total_timeout: Duration::from_secs(15),
    refused_timeout: Duration::from_millis(500),
};

/// A coordinator as an operator calls it.
#[derive(Debug, Clone)]
pub(super) struct OperatorClient {
    link: FailoverChannel,
    address: String,
}

impl OperatorClient {
    /// A client of the coordinators in `args`. Nothing is sent before the first call.
    pub(super) fn open(args: &ConnectionArgs) -> Result<Self> {
        Ok(Self { link: args.open()?, address: args.coordinator.join(", ") })
    }

    /// A client of the coordinator over a folder's store, in this process.
    pub(super) fn over(link: FailoverChannel, dir: &Path) -> Self {
        Self { link, address: dir.display().to_string() }
    }

    /// Makes a call, repeated until it is answered or [`PATIENCE`] ends.
    pub(super) async fn call<T, F>(&self, name: &str, call: impl Fn(AuthenticatedChannel) -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let asked = clock::now();
        self.link.call_with_retry(name, PATIENCE, call).await.map_err(|error| match error {
            CallError::Refused(status) => Failure::refused(status.message()),
            CallError::Unanswered(status) => Failure::stopped(format!(
                "no answer from the coordinator at {}{}: {}; check that it is running (`longhand coordinator`), its \
                 address (--coordinator), and https:// if it uses TLS",
                self.address,
                waited(clock::now().duration_since(asked).as_secs()),
                status.message()
            )),
        })
    }
}

/// How long nobody answered; a refused connection is no wait.
fn waited(seconds: u64) -> String {
    if seconds < 2 { String::new() } else { format!(" for {seconds} s") }
}

/// The generated client, with the protocol's message size.
pub(super) fn grpc(wire: AuthenticatedChannel) -> GrpcClient<AuthenticatedChannel> {
    GrpcClient::new(wire).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}
