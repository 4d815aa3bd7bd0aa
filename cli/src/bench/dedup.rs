//! `longhand bench dedup`: near duplicates among many instructions, in time and in memory, alone or against libraries of
//! PyPI that do the same work. Each contender is a process of its own, so that its peak memory is its own.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use longhand_coordinator::text::similarity::{Index, Signature};
use longhand_proto::clock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::exit::{Code, Failure, Result};
use crate::folder;
use crate::output::{self, grouped};

const PEER: &str = include_str!("dedup_peer.py");
/// What the libraries can be asked for.
const PEERS: [&str; 3] = ["datasketch", "rensa", "rensa-matrix"];
/// Rows whose signatures are computed at a time.
const BATCH: usize = 2048;

#[derive(Debug, Args)]
pub(crate) struct DedupBench {
    /// Made-up instructions; of ten one is a near duplicate of an earlier one
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rows: u64,

    /// Folder with the Python packages datasketch and rensa, to measure against [default: alone]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,

    /// File for the results, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Measure ours on a file that is there, and print the result; how the command calls itself
    #[arg(long, value_name = "FILE", hide = true)]
    contender: Option<PathBuf>,

    /// Threads of ours
    #[arg(long, value_name = "N", hide = true, default_value_t = 1)]
    threads: usize,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What a contender says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    seconds: f64,
    peak_bytes: u64,
    /// Rows found to be near duplicates of an earlier one.
    found: u64,
}

impl DedupBench {
    pub(crate) fn run(&self) -> Result<Code> {
        if let Some(file) = &self.contender {
            return output::json(&ours(file, self.threads)?).map(|()| Code::Ok);
        }
        let folder = std::env::temp_dir().join(format!("longhand-dedup-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
        let results = self.measure(&folder);
        // What was measured is worth more than a folder in /tmp that stays.
        drop(std::fs::remove_dir_all(&folder));
        let (planted, results) = results?;
        let value = json!({ "rows": self.rows, "planted": planted, "results": results });
        if let Some(path) = &self.report {
            folder::write_atomically(path, value.to_string().as_bytes()).map_err(|error| at(path, &error))?;
        }
        if self.json {
            output::json(&value)?
        } else {
            output::line(&text(self.rows, planted, &results))?
        }
        Ok(Code::Ok)
    }

    fn measure(&self, folder: &Path) -> Result<(u64, Vec<(String, Outcome)>)> {
        let file = folder.join("instructions.jsonl");
        let planted = write(&file, self.rows).map_err(|error| at(&file, &error))?;
        let own = std::env::current_exe().map_err(Failure::refused)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut results = Vec::new();
        for threads in [1, cores].into_iter().take(if cores > 1 { 2 } else { 1 }) {
            let mut command = Command::new(&own);
            command.args(["bench", "dedup", "--threads", &threads.to_string(), "--contender"]).arg(&file);
            results.push((format!("longhand, {threads} threads"), outcome("longhand", &mut command)?));
        }
        if let Some(peers) = &self.peers {
            let script = folder.join("peer.py");
            std::fs::write(&script, PEER).map_err(|error| at(&script, &error))?;
            for name in PEERS {
                let mut command = Command::new("python3");
                command.arg(&script).arg(name).arg(&file).env("PYTHONPATH", peers);
                results.push((name.to_owned(), outcome(name, &mut command)?));
            }
        }
        Ok((planted, results))
    }
}

fn at(path: &Path, error: &std::io::Error) -> Failure {
    Failure::refused(format!("{}: {error}", path.display()))
}

fn outcome(name: &str, command: &mut Command) -> Result<Outcome> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| Failure::refused(format!("{name} cannot be started: {error}")))?;
    serde_json::from_slice(&output.stdout).map_err(|error| {
        Failure::stopped(format!(
            "{name} gave no result ({error}); it ended with {}. Are datasketch and rensa in the folder of --peers?",
            output.status
        ))
    })
}

/// Reads, compares each row with all before it, and keeps the first of those that agree.
fn ours(file: &Path, threads: usize) -> Result<Outcome> {
    let start = clock::now();
    let mut index = Index::new(0.8);
    let mut lines = BufReader::new(File::open(file).map_err(|error| at(file, &error))?).lines();
    let mut found = 0;
    loop {
        let batch: Vec<String> =
            lines.by_ref().take(BATCH).collect::<Result<_, _>>().map_err(|error| at(file, &error))?;
        if batch.is_empty() {
            break;
        }
        let share = batch.len().div_ceil(threads.max(1));
        let signatures: Vec<Signature> = std::thread::scope(|scope| {
            let part = |rows: &[String]| rows.iter().map(|row| Signature::of(&prompt(row))).collect::<Vec<_>>();
            let threads: Vec<_> = batch.chunks(share).map(|rows| scope.spawn(move || part(rows))).collect();
            let joined =
                threads.into_iter().map(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect()
        });
        found += signatures.iter().filter(|signature| index.insert_new(signature).is_err()).count() as u64;
    }
    Ok(Outcome { seconds: clock::now().duration_since(start).as_secs_f64(), peak_bytes: peak(), found })
}

fn prompt(row: &str) -> String {
    let row: Value = serde_json::from_str(row).unwrap_or_default();
    row["prompt"].as_str().unwrap_or_default().to_owned()
}

/// The most memory that this process had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Requests of 20 to 60 words; every tenth repeats an earlier one with a word changed at its end. Returns how many do.
fn write(path: &Path, rows: u64) -> std::io::Result<u64> {
    let mut random = StdRng::seed_from_u64(1);
    let mut out = BufWriter::new(File::create(path)?);
    // The last ones, to be repeated.
    let mut recent: Vec<Vec<u32>> = Vec::new();
    let mut planted = 0;
    for row in 0..rows {
        let mut words: Vec<u32> = if row % 10 == 9 {
            planted += 1;
            recent[random.random_range(0..recent.len())].clone()
        } else {
            let length = random.random_range(20..=60);
            (0..length).map(|_| random.random_range(0..20_000)).collect()
        };
        if row % 10 == 9 {
            words.push(random.random_range(0..20_000));
        } else if recent.len() < 1_000 {
            recent.push(words.clone());
        } else {
            let at = random.random_range(0..recent.len());
            recent[at].clone_from(&words);
        }
        let text: Vec<String> = words.into_iter().map(word).collect();
        serde_json::to_writer(&mut out, &json!({ "prompt": text.join(" ") }))?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(planted)
}

/// A word of three to four syllables.
fn word(number: u32) -> String {
    const SYLLABLES: [&str; 28] = [
        "ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "qui", "ro", "su", "ta", "ve", "wi",
        "xo", "yu", "za", "bri", "cla", "dro", "fle", "gri", "pla", "stu",
    ];
    let at = |scale: u32| SYLLABLES[(number / scale) as usize % SYLLABLES.len()];
    [at(1), at(28), at(784)].concat()
}

fn text(rows: u64, planted: u64, results: &[(String, Outcome)]) -> String {
    let mut table = vec![["", "seconds", "rows a second", "peak memory", "found"].map(str::to_owned).to_vec()];
    for (name, Outcome { seconds, peak_bytes, found }) in results {
        table.push(vec![
            name.clone(),
            format!("{seconds:.1}"),
            grouped((rows as f64 / seconds) as u64),
            format!("{} MB", grouped(peak_bytes / 1_000_000)),
            grouped(*found),
        ]);
    }
    format!(
        "{}\n{} instructions, {} of them near duplicates of an earlier one; threshold 0.8, runs of five words",
        output::table(&table),
        grouped(rows),
        grouped(planted)
    )
}
