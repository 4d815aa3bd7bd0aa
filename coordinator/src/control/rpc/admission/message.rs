//! Reads the message of a call before it is processed, once there is memory for it.

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use longhand_proto::MAX_MESSAGE_BYTES;
use tonic::Status;
use tonic::body::Body;

use super::entries::{Entries, MAX_ENTRY_BYTES};

/// Bytes before a message: a flag and the length.
const PREFIX: usize = 5;

/// Reads a whole request. Memory is reserved by the length that the message states, before it is read, and then for its entries,
/// before they are decoded; what was reserved is held as long as the request is in memory.
pub(super) async fn receive<R>(
    body: Body,
    entries: Entries,
    reserve: impl Fn(usize) -> Result<R, Status>,
    timeout: Duration,
) -> Result<(Body, (R, Option<R>)), Status> {
    let reading = read(body, MAX_MESSAGE_BYTES, &reserve);
    let (message, reserved) = tokio::time::timeout(timeout, reading).await.map_err(|_| too_slow(timeout))??;
    let bytes = entries.bytes(message.get(PREFIX..).unwrap_or_default());
    if bytes > MAX_ENTRY_BYTES {
        return Err(Status::out_of_range(format!(
            "too many entries in the message: they take {bytes} bytes, the limit is {MAX_ENTRY_BYTES} bytes"
        )));
    }
    let more = (bytes > 0).then(|| reserve(bytes)).transpose()?;
    Ok((Body::new(Full::new(message)), (reserved, more)))
}

/// Reads a small request that costs nothing but its connection, such as that of a health call.
pub(super) async fn receive_small(body: Body, limit: usize, timeout: Duration) -> Result<Body, Status> {
    let reading = read(body, limit, |_| Ok(()));
    let (message, ()) = tokio::time::timeout(timeout, reading).await.map_err(|_| too_slow(timeout))??;
    Ok(Body::new(Full::new(message)))
}

fn too_slow(timeout: Duration) -> Status {
    Status::deadline_exceeded(format!("the message did not arrive within {} s", timeout.as_secs_f64()))
}

async fn read<R>(
    mut body: Body,
    limit: usize,
    mut reserve: impl FnMut(usize) -> Result<R, Status>,
) -> Result<(Bytes, R), Status> {
    let mut reserved = reserve(0)?;
    let mut bytes = Vec::new();
    let mut end = None;
    while let Some(frame) = body.frame().await {
        // Trailers of a request mean nothing.
        let Ok(data) = frame?.into_data() else { continue };
        let taken = if end.is_none() { (PREFIX - bytes.len()).min(data.len()) } else { 0 };
        bytes.extend_from_slice(&data[..taken]);
        if end.is_none() && bytes.len() == PREFIX {
            let length = bytes[1..].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            if length > limit {
                return Err(Status::out_of_range(format!(
                    "message too large: it has {length} bytes, the limit is {limit} bytes"
                )));
            }
            // The smaller reservation is given back first: both may be of one budget.
            drop(reserved);
            reserved = reserve(length)?;
            bytes.reserve_exact(length);
            end = Some(PREFIX + length);
        }
        if let Some(end) = end {
            let rest = &data[taken..];
            if bytes.len() + rest.len() > end {
                return Err(Status::invalid_argument("more bytes than one message has"));
            }
            bytes.extend_from_slice(rest);
        }
    }
    Ok((Bytes::from(bytes), reserved))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tonic::Code;

    use super::*;

    fn chunks(parts: Vec<&'static [u8]>) -> Body {
        let frames = parts.into_iter().map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from_static(part))));
        Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))
    }

    async fn read_all(parts: Vec<&'static [u8]>, limit: usize) -> Result<(Vec<u8>, Vec<usize>), Status> {
        let mut reserved = Vec::new();
        let (message, ()) = read(chunks(parts), limit, |bytes| {
            reserved.push(bytes);
            Ok(())
        })
        .await?;
        Ok((message.to_vec(), reserved))
    }

    #[tokio::test]
    async fn memory_is_reserved_by_the_stated_length_before_the_message_is_read() {
        let (bytes, reserved) = read_all(vec![&[0, 0], &[0, 0, 3, 7], &[8], &[9]], 10).await.unwrap();
        assert_eq!((bytes, reserved), (vec![0, 0, 0, 0, 3, 7, 8, 9], vec![0, 3]));
        let refused = read(chunks(vec![&[0, 0, 0, 1, 0]]), 1_000, |bytes| {
            if bytes == 0 { Ok(()) } else { Err(Status::resource_exhausted("full")) }
        });
        assert_eq!(refused.await.unwrap_err().code(), Code::ResourceExhausted);
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_or_followed_by_more_is_rejected() {
        assert_eq!(read_all(vec![&[0, 0, 0, 0, 11]], 10).await.unwrap_err().code(), Code::OutOfRange);
        let more = read_all(vec![&[0, 0, 0, 0, 1], &[1, 2]], 10).await;
        assert_eq!(more.unwrap_err().code(), Code::InvalidArgument);
        let (short, _) = read_all(vec![&[0, 0, 0]], 10).await.unwrap();
        assert_eq!(short, [0, 0, 0], "what is too short is the decoder's to reject");
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_given_up() {
        let endless = Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>()));
        let slow = receive_small(endless, 10, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(slow.code(), Code::DeadlineExceeded);
    }
}
