//! Requests that are repeated until they succeed. A download resumes after an interruption, and is verified before the file gets
//! its name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use longhand_command::exit::{Failure, Result, with_causes};
use longhand_proto::rng;
use longhand_worker::http_body::{self, BodyError, MAX_METADATA_BYTES};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Time without a byte after which the connection is closed.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Consecutive attempts without progress before the download fails.
const MAX_ATTEMPTS: u32 = 5;
/// Time for the description of a repository.
const METADATA_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest file whose size is not known before.
const MAX_FILE_BYTES: u64 = 1 << 40;
const FIRST_BACKOFF: Duration = Duration::from_millis(300);
/// Longest delay before another attempt.
const LAST_BACKOFF: Duration = Duration::from_secs(20);

/// How a file is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// No checksum is known.
    None,
    Sha256(String),
    /// The git blob id: SHA-1 over a header with the length, and the content.
    GitBlob(String),
}

/// An HTTP client for downloads.
#[derive(Debug)]
pub(crate) struct Transfer {
    client: Client,
    /// For what is sent: it goes to the address that was named, and to no other.
    sender: Client,
    quiet: bool,
}

/// Why an attempt failed.
enum AttemptError {
    /// A retry may succeed.
    Transient(String),
    /// A retry may succeed, and this attempt made progress.
    Interrupted(String),
    Permanent(Failure),
}

impl Transfer {
    /// A client that sends `token`, with a progress bar unless `quiet`.
    pub(crate) fn new(token: Option<&str>, quiet: bool) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failure::refused("invalid HF_TOKEN: it has characters that are not allowed in a token"))?;
            // The client does not forward it when it is redirected to another host, as for large files.
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let agent = format!("longhand/{}", longhand_proto::VERSION);
        let builder = || {
            let client = Client::builder().user_agent(&agent).default_headers(headers.clone());
            client.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT)
        };
        let client = builder().build().map_err(Failure::refused)?;
        let sender = builder().redirect(Policy::none()).build().map_err(Failure::refused)?;
        Ok(Self { client, sender, quiet })
    }

    /// The body of a short response.
    pub(crate) async fn text(&self, url: &str) -> Result<String> {
        self.with_retry(url, async || {
            let answer = self.get(url, 0).await?;
            let text = http_body::text(answer, MAX_METADATA_BYTES, METADATA_TIMEOUT).await;
            text.map_err(|error| match error {
                BodyError::Connection(error) => AttemptError::Transient(with_causes(&error)),
                error @ BodyError::TooSlow(_) => AttemptError::Transient(error.to_string()),
                error @ BodyError::TooLarge(_) => AttemptError::Permanent(Failure::stopped(format!("{url}: {error}"))),
            })
        })
        .await
    }

    /// Sends a body and returns what the server says, whatever it is; only what may pass is tried again.
    pub(crate) async fn post(&self, url: &str, kind: &str, body: Vec<u8>) -> Result<(StatusCode, String)> {
        self.post_with(url, kind, body, &BTreeMap::new()).await
    }

    /// [`Transfer::post`] with more headers.
    pub(crate) async fn post_with(
        &self,
        url: &str,
        kind: &str,
        body: Vec<u8>,
        headers: &BTreeMap<String, String>,
    ) -> Result<(StatusCode, String)> {
        self.with_retry(url, async || {
            let request = self.sender.post(url).header(CONTENT_TYPE, kind).body(body.clone());
            let answer = with_headers(request, headers).send().await;
            let answer = answer.map_err(|error| AttemptError::Transient(with_causes(&error)))?;
            let status = answer.status();
            if is_transient(status) {
                return Err(AttemptError::Transient(format!("{status}: {}", http_body::error_text(answer).await)));
            }
            let text = http_body::text(answer, MAX_METADATA_BYTES, METADATA_TIMEOUT).await;
            text.map(|text| (status, text)).map_err(|error| AttemptError::Transient(error.to_string()))
        })
        .await
    }

    /// Sends a whole file of `size` bytes.
    pub(crate) async fn put(
        &self,
        url: &str,
        headers: &BTreeMap<String, String>,
        path: &Path,
        name: &str,
        size: u64,
    ) -> Result<()> {
        let at =
            |error: std::io::Error| AttemptError::Permanent(Failure::stopped(format!("{}: {error}", path.display())));
        let bar = self.bar(name, Some(size));
        self.with_retry(url, async || {
            bar.set_position(0);
            let file = File::open(path).await.map_err(at)?;
            let shown = bar.clone();
            let chunks =
                ReaderStream::with_capacity(file, 1 << 16).inspect_ok(move |chunk| shown.inc(chunk.len() as u64));
            let request = self.sender.put(url).header(CONTENT_LENGTH, size).body(Body::wrap_stream(chunks));
            let answer = with_headers(request, headers).send().await;
            let answer = answer.map_err(|error| AttemptError::Transient(with_causes(&error)))?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let why = format!("{status}: {}", http_body::error_text(answer).await);
            Err(if is_transient(status) {
                AttemptError::Transient(why)
            } else {
                // What was signed has run out, or the storage refuses it: the command asks for a new address.
                AttemptError::Permanent(Failure::stopped(format!("{name}: {why}; rerun the command to go on")))
            })
        })
        .await?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Downloads a file of a known or unknown size to `to`.
    pub(crate) async fn fetch(&self, url: &str, to: &Path, size: Option<u64>, check: &Check) -> Result<()> {
        let at = |path: &Path, e: std::io::Error| Failure::stopped(format!("{}: {e}", path.display()));
        if to.exists() {
            // Only complete files have this name; the length detects another file of the same name.
            let there = std::fs::metadata(to).map_err(|e| at(to, e))?.len();
            if size.is_none_or(|size| size == there) {
                return Ok(());
            }
        }
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(|e| at(folder, e))?;
        }
        let part = part_of(to);
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bar = self.bar(&name, size);
        self.with_retry(url, async || self.resume(url, &part, size, &bar).await).await?;
        let got = std::fs::metadata(&part).map_err(|e| at(&part, e))?.len();
        let problem = match size.filter(|&size| size != got) {
            Some(size) => Some(format!("received {got} bytes, expected {size}")),
            None => differs(&part, check).await.map_err(|e| at(&part, e))?,
        };
        if let Some(problem) = problem {
            // Resuming could never correct it.
            std::fs::remove_file(&part).map_err(|e| at(&part, e))?;
            return Err(Failure::stopped(format!("{url}: {problem}; the file was deleted, rerun the command")));
        }
        File::open(&part).await.map_err(|e| at(&part, e))?.sync_all().await.map_err(|e| at(&part, e))?;
        std::fs::rename(&part, to).map_err(|e| at(to, e))?;
        bar.finish_and_clear();
        Ok(())
    }

    fn bar(&self, name: &str, size: Option<u64>) -> ProgressBar {
        let shown = "{prefix}  {bytes} of {total_bytes}  {bytes_per_sec}  {wide_bar}  {eta} left";
        let bar = if self.quiet { ProgressBar::hidden() } else { ProgressBar::new(size.unwrap_or(0)) };
        let style = ProgressStyle::with_template(shown).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style).with_prefix(name.to_owned())
    }

    /// Appends the missing part.
    async fn resume(&self, url: &str, part: &Path, size: Option<u64>, bar: &ProgressBar) -> Result<(), AttemptError> {
        let at = |e: std::io::Error| AttemptError::Permanent(Failure::stopped(format!("{}: {e}", part.display())));
        let before = std::fs::metadata(part).map_or(0, |it| it.len());
        let have = before;
        let mut answer = self.get(url, have).await?;
        // A server without range requests starts over.
        let have = if answer.status() == StatusCode::PARTIAL_CONTENT { have } else { 0 };
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(());
        }
        if let Some(rest) = answer.content_length() {
            bar.set_length(have + rest);
        }
        bar.set_position(have);
        let mut options = OpenOptions::new();
        // Not through a link: somebody else may have put it there.
        options.create(true).write(true).append(have > 0).truncate(have == 0).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(part).await.map_err(at)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        // A server that starts over makes no progress until it is beyond what was there.
        let (mut length, mut progressed) = (have, false);
        let mut room = size.unwrap_or(MAX_FILE_BYTES).saturating_sub(have);
        let ended = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    length += chunk.len() as u64;
                    progressed = length > before;
                    let Some(rest) = room.checked_sub(chunk.len() as u64) else {
                        let want = size.unwrap_or(MAX_FILE_BYTES);
                        break Err(AttemptError::Permanent(Failure::stopped(format!(
                            "{url}: the server sent more than the {want} bytes of the file"
                        ))));
                    };
                    room = rest;
                    file.write_all(&chunk).await.map_err(at)?;
                    bar.inc(chunk.len() as u64);
                }
                Ok(None) => break Ok(()),
                Err(error) if progressed => break Err(AttemptError::Interrupted(with_causes(&error))),
                Err(error) => break Err(AttemptError::Transient(with_causes(&error))),
            }
        };
        file.flush().await.map_err(at)?;
        if matches!(ended, Err(AttemptError::Permanent(_))) {
            // Resuming could never correct it.
            std::fs::remove_file(part).map_err(at)?;
        }
        ended
    }

    async fn get(&self, url: &str, from: u64) -> Result<Response, AttemptError> {
        let mut request = self.client.get(url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = request.send().await.map_err(|e| AttemptError::Transient(with_causes(&e)))?;
        let status = answer.status();
        let refused = |why: &str| Err(AttemptError::Permanent(Failure::refused(format!("{url}: {status}: {why}"))));
        match status {
            status if status.is_success() => Ok(answer),
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                refused("unknown or gated model: check the name, accept the terms on its page, and set HF_TOKEN")
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => refused("not found: check the name and --revision"),
            status if is_transient(status) => Err(AttemptError::Transient(status.to_string())),
            _ => refused("the server rejected the request"),
        }
    }

    /// Repeats an attempt until it succeeds or several in a row fail.
    async fn with_retry<T>(&self, url: &str, attempt: impl AsyncFn() -> Result<T, AttemptError>) -> Result<T> {
        let mut last = String::new();
        let mut failed = 0;
        while failed < MAX_ATTEMPTS {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(AttemptError::Permanent(failure)) => return Err(failure),
                Err(AttemptError::Interrupted(why)) => (failed, last) = (0, why),
                Err(AttemptError::Transient(why)) => (failed, last) = (failed + 1, why),
            }
            if failed < MAX_ATTEMPTS {
                tokio::time::sleep(rng::around((FIRST_BACKOFF * 2_u32.pow(failed)).min(LAST_BACKOFF))).await;
            }
        }
        Err(Failure::stopped(format!(
            "{url}: {last}; failed {MAX_ATTEMPTS} times. Check the network and any proxy, then rerun the same command to resume"
        )))
    }
}

fn is_transient(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error()
}

fn with_headers(request: RequestBuilder, headers: &BTreeMap<String, String>) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(name, value))
}

/// The path of a file until it is complete.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// How the file differs from what is expected.
async fn differs(path: &Path, check: &Check) -> std::io::Result<Option<String>> {
    let (mut hash, want, kind) = match check {
        Check::None => return Ok(None),
        Check::Sha256(want) => (Context::new(&SHA256), want, "SHA-256"),
        Check::GitBlob(want) => (Context::new(&SHA1_FOR_LEGACY_USE_ONLY), want, "git blob id"),
    };
    let mut file = File::open(path).await?;
    if matches!(check, Check::GitBlob(_)) {
        hash.update(format!("blob {}\0", file.metadata().await?.len()).as_bytes());
    }
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).await? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    let got = hex(hash);
    Ok((got != *want).then(|| format!("its {kind} is {got}, expected {want}")))
}

/// What was hashed, in hexadecimal.
pub(super) fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
