//! `longhand doctor`: what this machine has of what Longhand uses, and what to do about the rest.

use std::env;
use std::fmt::Display;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Result};
use longhand_command::{memory, output};
use longhand_coordinator::files::network_file_system;
use longhand_coordinator::store::{self, RedisOptions};
use longhand_worker::cuda;
use longhand_worker::cuda::driver::GpuOpenError;
use longhand_worker::model::Model;
use serde::Serialize;
use serde_json::json;

const HELP: &str = "\
Examples:
  longhand doctor
  longhand doctor --model model.gguf -o /data/corpus
  longhand doctor --store redis://127.0.0.1/0

Looks at the GPU with its driver and libraries, memory, the disk of the output folder, ports, the store, the locale and the \
model file, and says what to do about each. Nothing is changed. `longhand selftest` then computes on the device.

Exit codes:
  0    nothing is in the way
  3    a line begins with `problem`";

/// Fewer bytes are soon used up.
const LITTLE_DISK: u64 = 2 << 30;
/// The line that starts a Redis which loses nothing.
const START_REDIS: &str = "redis-server --appendonly yes";
/// Ports that are opened by default.
const PORTS: [(u16, &str); 2] = [(7070, "--listen of the coordinator"), (7080, "--http")];

/// What to look at beside the machine.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DoctorArgs {
    /// Folder that a corpus is to be written into
    #[arg(short, long, value_name = "DIR", default_value = ".", env = "LONGHAND_OUTPUT")]
    output: PathBuf,

    /// Model to look at: a GGUF file or a folder with safetensors
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: Option<PathBuf>,

    /// Store to connect to
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    store: Option<String>,

    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// Works, with less than there could be.
    Note,
    Problem,
}

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    /// What to do; empty where there is nothing.
    advice: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Display) -> Self {
        Self { check, level: Level::Ok, found: found.to_string(), advice: String::new() }
    }

    fn note(check: &'static str, found: impl Display, advice: impl Display) -> Self {
        Self { check, level: Level::Note, found: found.to_string(), advice: advice.to_string() }
    }

    fn problem(check: &'static str, found: impl Display, advice: impl Display) -> Self {
        Self { check, level: Level::Problem, found: found.to_string(), advice: advice.to_string() }
    }

    fn text(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Problem => "problem",
        };
        let advice = if self.advice.is_empty() { String::new() } else { format!("\n{:18}-> {}", "", self.advice) };
        format!("{level:8} {:8} {}{advice}", self.check, self.found)
    }
}

/// Prints what was found.
pub(crate) async fn doctor(args: &DoctorArgs) -> Result<Code> {
    let mut findings = vec![gpu(), memory()];
    findings.extend(args.model.as_deref().map(model));
    findings.push(disk(&args.output));
    findings.extend(PORTS.map(|(number, option)| port(number, option)));
    findings.push(match &args.store {
        Some(url) => store(url).await,
        None => redis(),
    });
    findings.push(locale(|name| env::var(name).ok()));
    for finding in &findings {
        output::print(args.json, &json!(finding), || finding.text())?;
    }
    let problems = findings.iter().any(|finding| finding.level == Level::Problem);
    Ok(if problems { Code::Partial } else { Code::Ok })
}

fn gpu() -> Finding {
    match cuda::open(0) {
        Ok(gpu) => {
            let properties = gpu.properties();
            Finding::ok(
                "gpu",
                format!("{}, {}, {}", properties.name, gib(properties.memory as u64), properties.versions),
            )
        }
        Err(GpuOpenError::NoDriver) => Finding::note(
            "gpu",
            "no NVIDIA driver (libcuda.so.1); texts are written by the CPU",
            "for a GPU: driver 580 or newer, and the libraries NVRTC and cuBLASLt of CUDA 12 or 13",
        ),
        // The messages say what to do.
        Err(error) => Finding::problem("gpu", error, ""),
    }
}

fn memory() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = memory::available()
        .map_or_else(|| "unknown memory".to_owned(), |bytes| format!("{} of memory free", gib(bytes)));
    Finding::ok("cpu", format!("{cores} cores, {text}"))
}

fn model(path: &Path) -> Finding {
    let model = match Model::open(path) {
        Ok(model) => model,
        Err(error) => {
            return Finding::problem(
                "model",
                error,
                "expected a GGUF file or a Hugging Face folder; `longhand model pull` fetches one",
            );
        }
    };
    let (config, info) = (model.config(), model.info());
    let found =
        format!("{}, {}, context of {} tokens", info.name, config.family, output::grouped(config.context as u64));
    let size = size(path);
    match memory::available() {
        Some(free) if size > free => Finding::note(
            "model",
            format!("{found}; its {} are more than the free memory of this machine", gib(size)),
            "on the CPU use a smaller or more quantised file; a GPU needs it in its own memory",
        ),
        Some(_) | None => Finding::ok("model", format!("{found}, {}", gib(size))),
    }
}

/// Bytes of a file, or of the files in a folder.
fn size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return path.metadata().map_or(0, |it| it.len()) };
    entries.filter_map(|entry| entry.ok()?.path().metadata().ok()).map(|it| it.len()).sum()
}

fn disk(output: &Path) -> Finding {
    let existing =
        output.ancestors().find(|path| path.exists() && !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(found) = rustix::fs::statvfs(existing) else {
        return Finding::problem("disk", format!("{} cannot be read", existing.display()), "choose another -o");
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} free for {}", gib(free), output.display());
    if let Some(network) = network_file_system(output) {
        let advice =
            "a run's own store needs locks and fast syncs: write to a local disk and copy the folder afterwards";
        return Finding::note("disk", format!("{text}, on {network}"), advice);
    }
    if free < LITTLE_DISK {
        return Finding::problem(
            "disk",
            text,
            "a corpus takes some 50 kB a document: free some space, or choose another -o",
        );
    }
    Finding::ok("disk", format!("{text}, a disk of this machine"))
}

fn port(number: u16, option: &'static str) -> Finding {
    match TcpListener::bind(("127.0.0.1", number)) {
        Ok(_) => Finding::ok("port", format!("{number} is free ({option})")),
        Err(error) => Finding::note(
            "port",
            format!("{number} cannot be opened: {error}"),
            format!("another run or coordinator may use it: give another address with {option}"),
        ),
    }
}

async fn store(url: &str) -> Finding {
    match store::open(url, RedisOptions::default()).await {
        Ok(_) => Finding::ok(
            "store",
            format!("{} answers and keeps what it is told", longhand_command::store_url::redact(url)),
        ),
        Err(error) => Finding::problem("store", error, format!("a right one on this machine: {START_REDIS}")),
    }
}

/// Without a store to connect to, whether there is a server to start.
fn redis() -> Finding {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = ["redis-server", "valkey-server"]
        .into_iter()
        .find(|name| env::split_paths(&path).any(|dir| dir.join(name).is_file()));
    match found {
        Some(name) => Finding::ok(
            "store",
            format!("{name} is installed; start it with `{}`", START_REDIS.replace("redis-server", name)),
        ),
        None => Finding::note(
            "store",
            "no redis-server; `longhand run` and one coordinator need none, they have SQLite",
            format!("for a fleet with several coordinators install Redis 7 or Valkey 8: {START_REDIS}"),
        ),
    }
}

fn locale(variable: impl Fn(&str) -> Option<String>) -> Finding {
    let set =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let name = set.unwrap_or_else(|| "C".into());
    let plain = name.to_lowercase().replace('-', "");
    if plain.contains("utf8") {
        return Finding::ok("locale", name);
    }
    Finding::note(
        "locale",
        format!("{name} is not UTF-8: other programs may show Chinese text and quotes as ?"),
        "export LANG=C.UTF-8",
    )
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_is_the_first_variable_that_is_set() {
        let level = |set: &[(&str, &str)]| {
            locale(|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())).level
        };
        assert_eq!(level(&[("LANG", "en_GB.UTF-8")]), Level::Ok);
        assert_eq!(level(&[("LANG", "C.utf8"), ("LC_ALL", "")]), Level::Ok);
        assert_eq!(level(&[("LANG", "en_GB.UTF-8"), ("LC_ALL", "C")]), Level::Note);
        assert_eq!(level(&[]), Level::Note);
    }

    #[test]
    fn a_port_in_use_names_the_option() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let finding = port(number, "--http");
        assert!(finding.level == Level::Note && finding.advice.contains("--http"), "{}", finding.text());
        drop(taken);
        assert_eq!(port(number, "--http").level, Level::Ok);
    }

    #[test]
    fn a_model_that_is_none_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(model(&dir.path().join("none.gguf")).level, Level::Problem);
        assert_eq!(disk(&dir.path().join("a/b/c")).check, "disk");
    }
}
