//! Two engines on the same work in turn, one process at a time. Ratios are taken within a round, so that other load on the
//! machine affects both sides.

use std::io::Read;
use std::process::Stdio;

use longhand_command::exit::{Failure, Result};
use longhand_command::output::{self, note};
use longhand_proto::clock;
use serde::Serialize;

use crate::background_load::BackgroundLoad;
use crate::contender::{Contender, Speed};
use crate::machine::Machine;
use crate::process::{Exited, wait};
use crate::shape::Shape;
use crate::statistics::median;

/// The measurement of one process.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    #[serde(flatten)]
    speed: Speed,
    /// Wall-clock time of the process.
    seconds: f64,
    /// Peak memory in bytes.
    peak_memory: u64,
}

/// All measurements of one shape: one pair per round.
#[derive(Debug, Clone, Serialize)]
struct Row {
    shape: Shape,
    ours: Vec<Measured>,
    theirs: Vec<Measured>,
}

/// All measurements of a comparison.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Comparison {
    machine: Machine,
    names: [&'static str; 2],
    /// Busy threads of other load during the measurements.
    busy: u32,
    rows: Vec<Row>,
}

impl Comparison {
    /// Measures every shape on both sides in each round.
    pub(crate) fn run(
        longhand: &dyn Contender,
        peer: &dyn Contender,
        shapes: &[Shape],
        rounds: u32,
        busy: u32,
    ) -> Result<Self> {
        let _load = BackgroundLoad::start(busy)?;
        let row = |&shape: &Shape| Row { shape, ours: Vec::new(), theirs: Vec::new() };
        let mut rows: Vec<Row> = shapes.iter().map(row).collect();
        for round in 1..=rounds {
            for row in &mut rows {
                note(&format!("round {round} of {rounds}: {}", row.shape));
                row.ours.push(measure(longhand, row.shape)?);
                row.theirs.push(measure(peer, row.shape)?);
            }
        }
        Ok(Self { machine: Machine::here(), names: [longhand.name(), peer.name()], busy, rows })
    }

    /// Medians, for people.
    pub(crate) fn table(&self) -> String {
        let Machine { processor, cores, version, .. } = &self.machine;
        let mut text = format!("longhand {version} and {}, {processor}, {cores} cores", self.names[1]);
        if self.busy > 0 {
            text.push_str(&format!(", {} of them busy with other load", self.busy));
        }
        text.push_str("\nmedians of tokens per second; ratio: median, minimum and maximum over the rounds\n\n");
        let head = ["shape", "", self.names[0], self.names[1], "ratio", "min", "max"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for row in &self.rows {
            let mut line = |what: &str, of: &dyn Fn(&Measured) -> f64, digits: usize, inverse: bool| {
                let (ours, theirs) = (median(row.ours.iter().map(of)), median(row.theirs.iter().map(of)));
                let ratio = |(a, b): (&Measured, &Measured)| if inverse { of(b) / of(a) } else { of(a) / of(b) };
                let mut ratios: Vec<f64> = row.ours.iter().zip(&row.theirs).map(ratio).collect();
                ratios.sort_by(f64::total_cmp);
                let mut cells = vec![row.shape.to_string(), what.to_owned()];
                cells.extend([ours, theirs].map(|x| format!("{x:.digits$}")));
                let (min, max) = (ratios.first(), ratios.last());
                cells.push(format!("{:.2}", median(ratios.iter().copied())));
                cells.extend([min, max].map(|x| format!("{:.2}", x.copied().unwrap_or(f64::NAN))));
                lines.push(cells);
            };
            line("prefill", &|m| m.speed.prefill, 0, false);
            if row.shape.tokens > 1 {
                line("decode", &|m| m.speed.decode, 0, false);
            } else {
                line("wall time, s (ratio: theirs / ours)", &|m| m.seconds, 2, true);
            }
            line("peak MB (ratio: ours / theirs)", &|m| m.peak_memory as f64 / 1e6, 0, false);
        }
        text.push_str(&output::table(&lines));
        text
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
    let Exited { status, peak_memory, .. } = wait(&child).map_err(|e| failed(e.to_string()))?;
    if status != 0 {
        return Err(failed(format!("it ended with status {status}; to see its output, run: {command:?}")));
    }
    let speed =
        of.parse(&text).ok_or_else(|| failed(format!("no result in its output; to see it, run: {command:?}")))?;
    Ok(Measured { speed, seconds: begin.elapsed().as_secs_f64(), peak_memory })
}
