//! One file from the network to the disk: goes on where it was cut off, is checked, and appears under its name only when
//! it is whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use longhand_proto::rng;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, RANGE};
use reqwest::{Client, Response, StatusCode};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::exit::{Failure, Result};
use crate::health::chain;

const CONNECT: Duration = Duration::from_secs(15);
/// Silence on the line after which it is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Tries in a row that bring no byte.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Longest pause before another try.
const PAUSE: Duration = Duration::from_secs(20);

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Check {
    /// Nobody says.
    None,
    Sha256(String),
    /// Git's name of it: SHA-1 over a header with its length, and the content.
    GitBlob(String),
}

/// The way there.
#[derive(Debug)]
pub(super) struct Transfer {
    client: Client,
    quiet: bool,
}

/// Why a try brought nothing.
enum Trouble {
    /// Another try may do.
    Passing(String),
    /// So may it here, and this one brought something.
    Cut(String),
    Final(Failure),
}

impl Transfer {
    pub(super) fn new(token: Option<&str>, quiet: bool) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failure::refused("HF_TOKEN holds characters that no token has"))?;
            // The client leaves it out when it is sent on to another host, as the hub does for large files.
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let agent = format!("longhand/{}", longhand_proto::VERSION);
        let client = Client::builder().user_agent(agent).default_headers(headers);
        let client = client.connect_timeout(CONNECT).read_timeout(SILENCE).build().map_err(Failure::refused)?;
        Ok(Self { client, quiet })
    }

    /// A short answer.
    pub(super) async fn text(&self, url: &str) -> Result<String> {
        self.patiently(url, async || {
            let answer = self.ask(url, 0).await?;
            answer.text().await.map_err(|e| Trouble::Passing(chain(&e)))
        })
        .await
    }

    /// A file of a known size, if anybody knows it.
    pub(super) async fn fetch(&self, url: &str, to: &Path, size: Option<u64>, check: &Check) -> Result<()> {
        let at = |path: &Path, e: std::io::Error| Failure::stopped(format!("{}: {e}", path.display()));
        if to.exists() {
            // It got its name when it was whole; a look at the length tells another file of the same name.
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
        self.patiently(url, async || self.go_on(url, &part, &bar).await).await?;
        let got = std::fs::metadata(&part).map_err(|e| at(&part, e))?.len();
        let wrong = match size.filter(|&size| size != got) {
            Some(size) => Some(format!("{got} bytes came instead of {size}")),
            None => differs(&part, check).await.map_err(|e| at(&part, e))?,
        };
        if let Some(wrong) = wrong {
            // Going on with it could never make it right.
            std::fs::remove_file(&part).map_err(|e| at(&part, e))?;
            return Err(Failure::stopped(format!("{url}: {wrong}; it was thrown away, run the command again")));
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

    /// Appends what is missing.
    async fn go_on(&self, url: &str, part: &Path, bar: &ProgressBar) -> Result<(), Trouble> {
        let at = |e: std::io::Error| Trouble::Final(Failure::stopped(format!("{}: {e}", part.display())));
        let have = std::fs::metadata(part).map_or(0, |it| it.len());
        let mut answer = self.ask(url, have).await?;
        // A server that knows no ranges begins anew.
        let have = if answer.status() == StatusCode::PARTIAL_CONTENT { have } else { 0 };
        if answer.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(());
        }
        if let Some(rest) = answer.content_length() {
            bar.set_length(have + rest);
        }
        bar.set_position(have);
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(have > 0).truncate(have == 0);
        let file = options.open(part).await.map_err(at)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let mut came = false;
        let ended = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => {
                    came = true;
                    file.write_all(&chunk).await.map_err(at)?;
                    bar.inc(chunk.len() as u64);
                }
                Ok(None) => break Ok(()),
                Err(error) if came => break Err(Trouble::Cut(chain(&error))),
                Err(error) => break Err(Trouble::Passing(chain(&error))),
            }
        };
        file.flush().await.map_err(at)?;
        ended
    }

    async fn ask(&self, url: &str, from: u64) -> Result<Response, Trouble> {
        let mut request = self.client.get(url);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let answer = request.send().await.map_err(|e| Trouble::Passing(chain(&e)))?;
        let status = answer.status();
        let refused = |why: &str| Err(Trouble::Final(Failure::refused(format!("{url}: {status}: {why}"))));
        match status {
            status if status.is_success() => Ok(answer),
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(answer),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => refused(
                "no such model, or one that asks for a token: check the name, accept its terms on its page, and set HF_TOKEN",
            ),
            StatusCode::NOT_FOUND | StatusCode::GONE => refused("not there: check the name and --revision"),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Err(Trouble::Passing(status.to_string())),
            status if status.is_server_error() => Err(Trouble::Passing(status.to_string())),
            _ => refused("the server does not give it"),
        }
    }

    /// Tries until a try succeeds or several in a row fail.
    async fn patiently<T>(&self, url: &str, one: impl AsyncFn() -> Result<T, Trouble>) -> Result<T> {
        let mut last = String::new();
        let mut tried = 0;
        while tried < TRIES {
            match one().await {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Cut(why)) => (tried, last) = (0, why),
                Err(Trouble::Passing(why)) => (tried, last) = (tried + 1, why),
            }
            if tried < TRIES {
                tokio::time::sleep(rng::around((FIRST_PAUSE * 2_u32.pow(tried)).min(PAUSE))).await;
            }
        }
        Err(Failure::stopped(format!(
            "{url}: {last}; tried {TRIES} times. Check the network and any proxy; the same command goes on from here. \
             Without a network: pull where there is one, copy the folder, and name it with --model"
        )))
    }
}

/// Where a file lies until it is whole.
fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// How the file differs from what it must be.
async fn differs(path: &Path, check: &Check) -> std::io::Result<Option<String>> {
    let (mut hash, want, kind) = match check {
        Check::None => return Ok(None),
        Check::Sha256(want) => (Context::new(&SHA256), want, "SHA-256"),
        Check::GitBlob(want) => (Context::new(&SHA1_FOR_LEGACY_USE_ONLY), want, "git name"),
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
    let got: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((got != *want).then(|| format!("its {kind} is {got} instead of {want}")))
}
