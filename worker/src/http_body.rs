//! Bodies of HTTP responses, read with a bound on size and time: a server may answer without end.

use std::time::Duration;

use reqwest::Response;

/// Largest description of a server's models, or of a repository's files.
pub const MAX_METADATA_BYTES: usize = 16 << 20;
/// Most bytes read of an error's body; what is said in them is shown.
pub const MAX_ERROR_BYTES: usize = 64 << 10;
/// Time for the body of an error.
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the response has more than {} KiB", .0 >> 10)]
    TooLarge(usize),
    /// It did not end in time.
    #[error("the response did not end within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] reqwest::Error),
}

/// Reads a body as text.
///
/// # Errors
/// It is larger than `limit` bytes, it takes longer than `time`, or the connection failed.
pub async fn text(mut response: Response, limit: usize, time: Duration) -> Result<String, BodyError> {
    let mut bytes = Vec::new();
    match tokio::time::timeout(time, collect(&mut response, &mut bytes, limit)).await {
        Ok(Ok(true)) => Ok(lossy(bytes)),
        Ok(Ok(false)) => Err(BodyError::TooLarge(limit)),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(BodyError::TooSlow(time)),
    }
}

/// What an error says: as much of its body as arrives within bounds.
pub async fn error_text(mut response: Response) -> String {
    let mut bytes = Vec::new();
    match tokio::time::timeout(ERROR_TIMEOUT, collect(&mut response, &mut bytes, MAX_ERROR_BYTES)).await {
        // What is there is shown, whatever became of the rest.
        Ok(Ok(_) | Err(_)) | Err(_) => lossy(bytes),
    }
}

/// False if there is more than `limit`.
async fn collect(response: &mut Response, bytes: &mut Vec<u8>, limit: usize) -> Result<bool, reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = limit - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
