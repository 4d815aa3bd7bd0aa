//! gRPC between the parts of one process, through pipes in memory: no port that others could connect to.

use std::io;
use std::net::SocketAddr;

use futures::Stream;
use hyper_util::rt::TokioIo;
use longhand_worker::client::endpoint;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;

/// Bytes that one end may be ahead of the other.
const BUFFER: usize = 256 << 10;
/// Connections that wait to be accepted; the channel makes one, and another one after a failure.
const BACKLOG: usize = 4;

/// A connection as the server accepts it, which has no address.
pub(crate) type Accepted = (DuplexStream, Option<SocketAddr>);

/// A client's channel, and the connections that it makes, for the server.
pub(crate) fn open() -> Result<(Channel, impl Stream<Item = io::Result<Accepted>>), tonic::transport::Error> {
    let (sender, receiver) = mpsc::channel::<DuplexStream>(BACKLOG);
    let connect = tower::service_fn(move |_: Uri| {
        let sender = sender.clone();
        async move {
            let (client, server) = tokio::io::duplex(BUFFER);
            sender.send(server).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok::<_, io::Error>(TokioIo::new(client))
        }
    });
    let channel = endpoint("http://coordinator")?.connect_with_connector_lazy(connect);
    let incoming = futures::stream::unfold(receiver, |mut receiver| async {
        let server = receiver.recv().await?;
        Some((Ok((server, None)), receiver))
    });
    Ok((channel, incoming))
}
