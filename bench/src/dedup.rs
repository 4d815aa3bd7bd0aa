//! `longhand bench dedup`: time and memory of near-duplicate detection, alone or compared with Python libraries. Each
//! contender runs in a process of its own, so that peak memory is measured separately.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use longhand_coordinator::text::similarity::{Index, Signature};
use longhand_proto::clock;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::longhand_engine::this_program;
use crate::results::publish;

const PEER: &str = include_str!("dedup_peer.py");
/// The implementations in the Python script.
const PEERS: [&str; 3] = ["datasketch", "rensa", "rensa-matrix"];
/// Rows per batch of signatures.
const BATCH: usize = 2048;

/// What to measure.
#[derive(Debug, Args)]
pub struct DedupBench {
    /// Number of synthetic instructions; one in ten is a near duplicate of an earlier one
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rows: u64,

    /// Folder with the Python packages datasketch and rensa, to compare with [default: none]
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,

    /// Save the results to this file (JSON)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Measure this program on an existing file, and print the result; used by the command itself
    #[arg(long, value_name = "FILE", hide = true)]
    contender: Option<PathBuf>,

    /// Threads of this program
    #[arg(long, value_name = "N", hide = true, default_value_t = 1)]
    threads: usize,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a contender reports.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    seconds: f64,
    peak_bytes: u64,
    /// Rows detected as near duplicates of an earlier one.
    found: u64,
}

impl DedupBench {
    /// Runs the benchmark.
    pub(crate) fn run(&self) -> Result<Code> {
        if let Some(file) = &self.contender {
            return output::json(&ours(file, self.threads)?).map(|()| Code::Ok);
        }
        let folder = std::env::temp_dir().join(format!("longhand-dedup-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(|error| at(&folder, &error))?;
        let results = self.measure(&folder);
        // A temporary folder that stays must not invalidate the measurement.
        drop(std::fs::remove_dir_all(&folder));
        let (planted, results) = results?;
        let value = json!({ "rows": self.rows, "planted": planted, "results": results });
        publish(self.json, self.report.as_deref(), &value, || text(self.rows, planted, &results))
    }

    fn measure(&self, folder: &Path) -> Result<(u64, Vec<(String, Outcome)>)> {
        let file = folder.join("instructions.jsonl");
        let planted = write(&file, self.rows).map_err(|error| at(&file, &error))?;
        let own = this_program()?;
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
            "{name} printed no result ({error}) and ended with {}; check that --peers has datasketch and rensa",
            output.status
        ))
    })
}

/// Reads the rows and counts those that are near duplicates of an earlier one.
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

/// Peak memory of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Writes requests of 20 to 60 words; every tenth repeats an earlier one with one more word. Returns the number of repeats.
fn write(path: &Path, rows: u64) -> std::io::Result<u64> {
    let mut random = StdRng::seed_from_u64(1);
    let mut out = BufWriter::new(File::create(path)?);
    // Earlier rows, to be repeated.
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
    let mut table = vec![["", "seconds", "rows per second", "peak memory", "found"].map(str::to_owned).to_vec()];
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
        "{}\n{} instructions, {} of them near duplicates of an earlier one; threshold 0.8, 5-word shingles",
        output::table(&table),
        grouped(rows),
        grouped(planted)
    )
}
