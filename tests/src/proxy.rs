//! A link that a test holds in its hand: it is slow, goes dead without a word, or is cut just as an answer begins.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What is spoken over the link, to know where an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    Redis,
}

/// Stands before a server on a port of its own. Its threads end with the connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    hand: Arc<Hand>,
}

/// What the threads look at.
#[derive(Debug, Default)]
struct Hand {
    armed: AtomicBool,
    cuts: AtomicUsize,
    delay_ms: AtomicU64,
    deaf: Mutex<bool>,
    heard: Condvar,
}

impl Proxy {
    pub fn start(server: SocketAddr, protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let hand = Arc::new(Hand::default());
        let threads = Arc::clone(&hand);
        // Ends with the process: a test has few of them.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(server) {
                    link(&threads, client, server, protocol).ok();
                }
            }
        });
        Self { address, hand }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next answer does not arrive: the connection is cut where it begins, when the server has done what was asked.
    pub fn cut_next_answer(&self) {
        self.hand.armed.store(true, Ordering::SeqCst);
    }

    /// How many answers were cut off.
    pub fn cuts(&self) -> usize {
        self.hand.cuts.load(Ordering::SeqCst)
    }

    /// Holds each piece of an answer up for so long.
    pub fn delay(&self, by: Duration) {
        self.hand.delay_ms.store(by.as_millis() as u64, Ordering::SeqCst);
    }

    /// While it is deaf nothing goes through, and nobody is told.
    pub fn deaf(&self, deaf: bool) {
        *self.hand.deaf.lock().unwrap() = deaf;
        self.hand.heard.notify_all();
    }
}

impl Hand {
    fn listen(&self) {
        let deaf = self.deaf.lock().unwrap();
        drop(self.heard.wait_while(deaf, |deaf| *deaf).unwrap());
    }
}

fn link(hand: &Arc<Hand>, client: TcpStream, server: TcpStream, protocol: Protocol) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut asked, mut passed_on) = (client.try_clone()?, server.try_clone()?);
    let requests = Arc::clone(hand);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = asked.read(&mut buffer) {
            requests.listen();
            if passed_on.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        passed_on.shutdown(Shutdown::Both).ok();
    });
    let answers = Arc::clone(hand);
    std::thread::spawn(move || {
        let (mut client, mut server) = (client, server);
        let (mut buffer, mut frames) = ([0; 16 << 10], Frames::default());
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            answers.listen();
            std::thread::sleep(Duration::from_millis(answers.delay_ms.load(Ordering::SeqCst)));
            let answer = match protocol {
                Protocol::Grpc => frames.headers_in(&buffer[..length]),
                Protocol::Redis => true,
            };
            if answer && answers.armed.swap(false, Ordering::SeqCst) {
                answers.cuts.fetch_add(1, Ordering::SeqCst);
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

/// Where the frames of HTTP/2 begin in a stream that comes in pieces.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Bytes of the current frame that are still to come.
    rest: usize,
}

impl Frames {
    const HEADER: usize = 9;
    const HEADERS: u8 = 1;

    /// True if a frame of headers begins in this piece: with one every answer begins.
    fn headers_in(&mut self, mut piece: &[u8]) -> bool {
        let mut found = false;
        while !piece.is_empty() {
            let skipped = self.rest.min(piece.len());
            self.rest -= skipped;
            piece = &piece[skipped..];
            let taken = (Self::HEADER - self.header.len()).min(piece.len());
            self.header.extend_from_slice(&piece[..taken]);
            piece = &piece[taken..];
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
            let found = stream.chunks(size).filter(|piece| frames.headers_in(piece)).count();
            assert_eq!(found, 1, "in pieces of {size}");
        }
    }
}
