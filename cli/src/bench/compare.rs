//! Two engines on the same work in turn: one process at a time, and the ratio of neighbours, so that what else goes on
//! on the machine hits both.

use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use longhand_proto::clock;
use serde::Serialize;

use super::engine::Speed;
use super::machine::Machine;
use super::shape::Shape;
use crate::exit::{Failure, Result};
use crate::output;

/// An engine that measures itself in a process of its own.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;
    fn command(&self, shape: Shape) -> Command;
    /// Finds the result in what the process wrote to stdout.
    fn parse(&self, output: &str) -> Option<Speed>;
}

/// This program.
#[derive(Debug)]
pub(crate) struct Us {
    program: PathBuf,
    model: PathBuf,
    threads: usize,
}

impl Us {
    pub(crate) fn new(model: &Path, threads: usize) -> Result<Self> {
        let program = std::env::current_exe();
        let program = program.map_err(|e| Failure::refused(format!("the program's own file cannot be found: {e}")))?;
        Ok(Self { program, model: model.to_owned(), threads })
    }
}

impl Contender for Us {
    fn name(&self) -> &'static str {
        "longhand"
    }

    fn command(&self, shape: Shape) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["bench", "engine", "--json", "--device", "cpu", "--threads", &self.threads.to_string()]);
        command.arg("--shape").arg(shape.to_string()).arg("--model").arg(&self.model);
        command
    }

    fn parse(&self, output: &str) -> Option<Speed> {
        serde_json::from_str(output.lines().last()?).ok()
    }
}

/// What one process did.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    #[serde(flatten)]
    speed: Speed,
    /// From its start to its end.
    seconds: f64,
    /// Most memory it had at a time, in bytes.
    peak_memory: u64,
}

/// All measurements of one shape, a pair per round.
#[derive(Debug, Clone, Serialize)]
struct Row {
    shape: Shape,
    ours: Vec<Measured>,
    theirs: Vec<Measured>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    machine: Machine,
    names: [&'static str; 2],
    /// Threads of others that computed meanwhile.
    busy: u32,
    rows: Vec<Row>,
}

impl Comparison {
    pub(crate) fn run(
        us: &dyn Contender,
        peer: &dyn Contender,
        shapes: &[Shape],
        rounds: u32,
        busy: u32,
    ) -> Result<Self> {
        let _neighbours = Neighbours::start(busy)?;
        let row = |&shape: &Shape| Row { shape, ours: Vec::new(), theirs: Vec::new() };
        let mut rows: Vec<Row> = shapes.iter().map(row).collect();
        for round in 1..=rounds {
            for row in &mut rows {
                eprint!("\rround {round} of {rounds}: {:<16}", row.shape.to_string());
                row.ours.push(measure(us, row.shape)?);
                row.theirs.push(measure(peer, row.shape)?);
            }
        }
        eprintln!();
        Ok(Self { machine: Machine::here(), names: [us.name(), peer.name()], busy, rows })
    }

    /// Medians, for people.
    pub(crate) fn table(&self) -> String {
        let Machine { processor, cores, version, .. } = &self.machine;
        let mut text = format!("longhand {version} and {}, {processor}, {cores} cores", self.names[1]);
        if self.busy > 0 {
            text.push_str(&format!(", {} of them kept busy by others", self.busy));
        }
        text.push_str("\ntokens per second, medians; ratio: median of the rounds' ratios, least and greatest\n\n");
        let head = ["shape", "", self.names[0], self.names[1], "ratio", "from", "to"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for row in &self.rows {
            let mut line = |what: &str, of: &dyn Fn(&Measured) -> f64, digits: usize, inverse: bool| {
                let (ours, theirs) = (median(row.ours.iter().map(of)), median(row.theirs.iter().map(of)));
                let ratio = |(a, b): (&Measured, &Measured)| if inverse { of(b) / of(a) } else { of(a) / of(b) };
                let mut ratios: Vec<f64> = row.ours.iter().zip(&row.theirs).map(ratio).collect();
                ratios.sort_by(f64::total_cmp);
                let mut cells = vec![row.shape.to_string(), what.to_owned()];
                cells.extend([ours, theirs].map(|x| format!("{x:.digits$}")));
                let (least, most) = (ratios.first(), ratios.last());
                cells.push(format!("{:.2}", median(ratios.iter().copied())));
                cells.extend([least, most].map(|x| format!("{:.2}", x.copied().unwrap_or(f64::NAN))));
                lines.push(cells);
            };
            line("read", &|m| m.speed.prefill, 0, false);
            if row.shape.tokens > 1 {
                line("write", &|m| m.speed.decode, 0, false);
            } else {
                line("start to end, s (ratio: how often ours fits)", &|m| m.seconds, 2, true);
            }
            line("peak MB (ratio: ours to theirs)", &|m| m.peak_memory as f64 / 1e6, 0, false);
        }
        text.push_str(&output::table(&lines));
        text
    }
}

/// Writes measurements as JSON, whole or not at all.
pub(super) fn save(path: &Path, measured: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(measured).map_err(Failure::stopped)?;
    let wrong = |e: std::io::Error| Failure::stopped(format!("{}: {e}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    let temp = path.with_extension("json.tmp");
    fs::write(&temp, text).and_then(|()| fs::rename(&temp, path)).map_err(wrong)
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}

fn measure(of: &dyn Contender, shape: Shape) -> Result<Measured> {
    let failed = |what: String| Failure::stopped(format!("{} {shape}: {what}", of.name()));
    let begin = clock::now();
    let mut command = of.command(shape);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text).map_err(|e| failed(e.to_string()))?;
    }
    let Ended { status, peak_memory, .. } = wait(&child).map_err(|e| failed(e.to_string()))?;
    if status != 0 {
        return Err(failed(format!("it ended with status {status}; try it: {command:?}")));
    }
    let speed = of.parse(&text).ok_or_else(|| failed(format!("no result in what it wrote; try it: {command:?}")))?;
    Ok(Measured { speed, seconds: begin.elapsed().as_secs_f64(), peak_memory })
}

/// Lets a process end when this one is killed: it must not go on computing.
pub(super) fn tie(command: &mut Command) {
    // SAFETY: one system call, which allocates nothing.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// A process that has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    /// As the system tells it; 0 is well.
    pub(super) status: i32,
    /// Most memory it had at a time, in bytes.
    pub(super) peak_memory: u64,
    /// Time that all its threads computed.
    pub(super) processor_seconds: f64,
}

/// Waits for a child.
pub(super) fn wait(child: &std::process::Child) -> std::io::Result<Ended> {
    let mut status = 0;
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to locals of the right types, and nobody else waits for this child.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let processor_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
    // Linux counts in KiB.
    Ok(Ended { status, peak_memory: usage.ru_maxrss as u64 * 1024, processor_seconds })
}

/// Threads that compute for nothing.
struct Neighbours(Arc<AtomicBool>);

impl Neighbours {
    fn start(count: u32) -> Result<Self> {
        let stop = Self(Arc::default());
        for _ in 0..count {
            let stop = Arc::clone(&stop.0);
            let spin = move || while !stop.load(Ordering::Relaxed) {};
            let thread = thread::Builder::new().name("neighbour".into()).spawn(spin);
            thread.map_err(|e| Failure::refused(format!("a busy thread cannot be started: {e}")))?;
        }
        Ok(stop)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
    }
}
