//! A TCP proxy for fault injection: it delays replies, blackholes traffic, or closes the connection when a reply begins.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Protocol of the connection, to detect where a reply begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2: a reply begins with a HEADERS frame.
    Grpc,
    /// Every chunk from the server is a reply.
    Redis,
}

/// A proxy in front of a server, on its own port. Its threads end with the connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    controls: Arc<Controls>,
}

/// State that the threads of all connections read.
#[derive(Debug, Default)]
struct Controls {
    drop_next: AtomicBool,
    dropped: AtomicUsize,
    delay_ms: AtomicU64,
    blackhole: Mutex<bool>,
    opened: Condvar,
}

impl Proxy {
    /// Starts a proxy in front of this server.
    pub fn start(server: SocketAddr, protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let controls = Arc::new(Controls::default());
        let threads = Arc::clone(&controls);
        // Runs until the process exits: a test has few of them.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(server) {
                    link(&threads, client, server, protocol).ok();
                }
            }
        });
        Self { address, controls }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops the next reply: closes the connection where it begins, after the server has done the work.
    pub fn drop_next_reply(&self) {
        self.controls.drop_next.store(true, Ordering::SeqCst);
    }

    /// Number of replies that were dropped.
    pub fn dropped_replies(&self) -> usize {
        self.controls.dropped.load(Ordering::SeqCst)
    }

    /// Delays each chunk of a reply.
    pub fn delay(&self, by: Duration) {
        self.controls.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// While set, nothing is forwarded and no connection is closed.
    pub fn set_blackhole(&self, blackhole: bool) {
        *self.controls.blackhole.lock().unwrap() = blackhole;
        self.controls.opened.notify_all();
    }
}

impl Controls {
    fn wait_while_blackholed(&self) {
        let blackhole = self.blackhole.lock().unwrap();
        drop(self.opened.wait_while(blackhole, |blackhole| *blackhole).unwrap());
    }
}

fn link(controls: &Arc<Controls>, client: TcpStream, server: TcpStream, protocol: Protocol) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut client_in, mut server_out) = (client.try_clone()?, server.try_clone()?);
    let requests = Arc::clone(controls);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = client_in.read(&mut buffer) {
            requests.wait_while_blackholed();
            if server_out.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        server_out.shutdown(Shutdown::Both).ok();
    });
    let replies = Arc::clone(controls);
    std::thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let (mut buffer, mut frames) = ([0; 16 << 10], Frames::default());
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            replies.wait_while_blackholed();
            std::thread::sleep(Duration::from_millis(replies.delay_ms.load(Ordering::SeqCst)));
            let is_reply = match protocol {
                Protocol::Grpc => frames.headers_in(&buffer[..length]),
                Protocol::Redis => true,
            };
            if is_reply && replies.drop_next.swap(false, Ordering::SeqCst) {
                replies.dropped.fetch_add(1, Ordering::SeqCst);
                break;
            }
            if client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        client.shutdown(Shutdown::Both).ok();
        server.shutdown(Shutdown::Both).ok();
    });
    Ok(())
}

/// Finds HTTP/2 frames in a stream that arrives in chunks.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Remaining bytes of the current frame.
    rest: usize,
}

impl Frames {
    const HEADER: usize = 9;
    const HEADERS: u8 = 1;

    /// True if a HEADERS frame begins in this chunk: every reply begins with one.
    fn headers_in(&mut self, mut chunk: &[u8]) -> bool {
        let mut found = false;
        while !chunk.is_empty() {
            let skipped = self.rest.min(chunk.len());
            self.rest -= skipped;
            chunk = &chunk[skipped..];
            let taken = (Self::HEADER - self.header.len()).min(chunk.len());
            self.header.extend_from_slice(&chunk[..taken]);
            chunk = &chunk[taken..];
            if let [a, b, c, kind, _, _, _, _, _] = self.header[..] {
                self.rest = u32::from_be_bytes([0, a, b, c]) as usize;
                found |= kind == Self::HEADERS;
                self.header.clear();
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_however_the_stream_is_cut_into_pieces() {
        let mut stream = vec![0, 0, 2, 4, 0, 0, 0, 0, 0, 1, 1];
        stream.extend([0, 0, 1, 1, 4, 0, 0, 0, 1, 9]);
        for size in 1..=stream.len() {
            let mut frames = Frames::default();
            let found = stream.chunks(size).filter(|chunk| frames.headers_in(chunk)).count();
            assert_eq!(found, 1, "in chunks of {size}");
        }
    }
}
