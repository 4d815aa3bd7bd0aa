//! gRPC over the simulated network.

use std::io;
use std::net::SocketAddr;

use futures::Stream;
use hyper_util::rt::TokioIo;
use longhand_worker::client::endpoint;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;
use turmoil::net::{TcpListener, TcpStream};

pub(crate) const PORT: u16 = 7070;

/// A channel to a simulated host. Like a real one it connects at the first call, and again after a failure.
pub(crate) fn channel(host: &str) -> Channel {
    let connect = tower::service_fn(|uri: Uri| async move {
        let host = uri.host().unwrap_or_default().to_owned();
        Ok::<_, io::Error>(TokioIo::new(TcpStream::connect((host, PORT)).await?))
    });
    endpoint(&format!("http://{host}:{PORT}")).unwrap().connect_with_connector_lazy(connect)
}

/// The connections that a simulated host accepts.
pub(crate) async fn accept() -> io::Result<impl Stream<Item = io::Result<(TcpStream, Option<SocketAddr>)>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    Ok(futures::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(stream, peer)| (stream, Some(peer)));
        Some((accepted, listener))
    }))
}
