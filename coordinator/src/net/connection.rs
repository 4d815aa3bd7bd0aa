//! A connection that ends when its peer is silent for too long, or when others need its place.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::connections::Peer;

/// Time for the first bytes of a peer.
const FIRST_BYTES: Duration = Duration::from_secs(10);

/// An admitted connection.
#[derive(Debug)]
pub struct Connection<C> {
    io: C,
    peer: Peer,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    silence: Option<Pin<Box<Sleep>>>,
    /// Longest silence after the first bytes.
    idle: Option<Duration>,
    /// Whether anything was received since the timer was set.
    received: bool,
}

impl<C> Connection<C> {
    /// Ends after a silence of one to two times `idle`; without it, the protocol above bounds the silence after the first bytes.
    pub fn new(io: C, peer: Peer, idle: Option<Duration>) -> Self {
        let closed = Box::pin(peer.closed().clone().cancelled_owned());
        let silence = Some(Box::pin(tokio::time::sleep(FIRST_BYTES)));
        Self { io, peer, closed, silence, idle, received: false }
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Ready with the reason why the connection ends.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while let Some(silence) = &mut self.silence
            && silence.as_mut().poll(cx).is_ready()
        {
            if !std::mem::take(&mut self.received) {
                return Poll::Ready(io::Error::new(ErrorKind::TimedOut, "the peer is silent"));
            }
            match self.idle {
                // Counted from the last time that the timer was set, so that a read costs no timer.
                Some(idle) => silence.as_mut().reset(Instant::now() + idle),
                None => self.silence = None,
            }
        }
        Poll::Pending
    }
}

impl<C> Connected for Connection<C> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Connection<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, "closed to make room for others")));
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        if read.is_pending() {
            return self.poll_end(cx).map(Err);
        }
        self.received = true;
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Connection<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
