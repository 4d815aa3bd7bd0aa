//! The display of a command: events and progress, as a bar on a terminal, plain lines elsewhere, JSON events, or nothing.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use longhand_command::exit::Result;
use longhand_command::output::{self, duration, grouped};
use longhand_coordinator::store::Counts;
use longhand_proto::clock;
use serde::Serialize;
use serde_json::Value;

/// Steps of the bar.
const BAR: u64 = 1_000;
/// Time between two plain lines or two events.
const EVERY: Duration = Duration::from_secs(5);

/// The progress of a run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) counts: Counts,
    /// Part of the run that is done, counted in tokens.
    pub(crate) done: f64,
    /// Tokens generated since this process started.
    pub(crate) tokens: u64,
    /// Tokens that the run still needs, as far as is known.
    pub(crate) tokens_left: u64,
    /// Sections written since this process started.
    pub(crate) sections: u64,
    /// Sections that the plans of open documents still need.
    pub(crate) sections_left: u64,
    /// Documents that the engine is writing now.
    pub(crate) running: u32,
    pub(crate) tokens_per_second: f64,
    /// Fraction of the prompt tokens found in the prefix cache.
    pub(crate) prefix_hit_rate: Option<f64>,
    pub(crate) elapsed_s: u64,
    pub(crate) eta_s: Option<u64>,
}

#[derive(Debug)]
enum Kind {
    Bar(ProgressBar),
    Lines,
    Json,
    Quiet,
}

/// Where events and progress are shown.
#[derive(Debug)]
pub(crate) struct Display {
    kind: Kind,
    shown: Option<Instant>,
}

impl Display {
    /// JSON events, nothing (`quiet`), or what suits stderr.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let kind = if json {
            Kind::Json
        } else if quiet {
            Kind::Quiet
        } else if std::io::stderr().is_terminal() {
            Kind::Bar(bar())
        } else {
            Kind::Lines
        };
        Self { kind, shown: None }
    }

    /// Shows one event: `text` for people, `fields`, an object, as JSON.
    pub(crate) fn event(&self, name: &str, text: &str, fields: Value) -> Result<()> {
        match &self.kind {
            Kind::Bar(bar) => bar.suspend(|| output::note(text)),
            Kind::Lines => output::note(text),
            Kind::Json => output::json(&Event { event: name, fields })?,
            Kind::Quiet => {}
        }
        Ok(())
    }

    /// Shows the progress at most every few seconds; `last` shows it in any case.
    pub(crate) fn progress(&mut self, snapshot: &Snapshot, last: bool) -> Result<()> {
        if let Kind::Bar(bar) = &self.kind {
            bar.set_position((snapshot.done * BAR as f64) as u64);
            bar.set_prefix(head(snapshot));
            bar.set_message(states(&snapshot.counts));
            return Ok(());
        }
        let now = clock::now();
        if !last && self.shown.is_some_and(|at| now.duration_since(at) < EVERY) {
            return Ok(());
        }
        self.shown = Some(now);
        match &self.kind {
            Kind::Lines => output::note(&format!("{:>4} s  {}", snapshot.elapsed_s, line(snapshot))),
            Kind::Json => output::json(&Event { event: "progress", fields: snapshot })?,
            Kind::Bar(_) | Kind::Quiet => {}
        }
        Ok(())
    }

    /// Shows the end of a run: a table for people, or one JSON event.
    pub(crate) fn summary(&self, text: &str, fields: Value) -> Result<()> {
        match &self.kind {
            Kind::Bar(_) | Kind::Lines => output::line(text),
            Kind::Json => output::json(&Event { event: "finished", fields }),
            Kind::Quiet => Ok(()),
        }
    }

    /// Removes the progress bar from the terminal.
    pub(crate) fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

/// One event: its name comes first, for people and for `grep`.
#[derive(Serialize)]
struct Event<'a, T> {
    event: &'a str,
    #[serde(flatten)]
    fields: T,
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(BAR);
    // The second line is cut to the terminal; the first fits 80 columns.
    bar.set_style(
        ProgressStyle::with_template("{bar:12} {prefix}\n{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    // Steady, so that the bar moves while one long section is written.
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// How far the run is, how fast, and how long it still takes: at most 80 columns with the bar.
fn head(snapshot: &Snapshot) -> String {
    let (total, unfinished) = (snapshot.counts.total(), snapshot.counts.unfinished());
    let mut text = format!(
        "{:>3} %  {}/{} documents  {} tok/s",
        (snapshot.done * 100.0).floor(),
        grouped(total - unfinished),
        grouped(total),
        grouped(snapshot.tokens_per_second.round() as u64)
    );
    match snapshot.eta_s {
        Some(eta) => text.push_str(&format!("  {} left", duration(eta))),
        None if unfinished == 0 => text.push_str(&format!("  in {}", duration(snapshot.elapsed_s))),
        None => {}
    }
    text
}

fn states(counts: &Counts) -> String {
    let mut parts = Vec::new();
    for (number, word) in [
        (counts.accepted, "accepted"),
        (counts.rejected, "rejected"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.leased, "in progress"),
        (counts.ready + counts.delayed, "waiting"),
    ] {
        if number > 0 {
            parts.push(format!("{} {word}", grouped(number)));
        }
    }
    parts.join(", ")
}

fn line(snapshot: &Snapshot) -> String {
    let mut text = format!("{}  {}", head(snapshot), states(&snapshot.counts));
    if let Some(rate) = snapshot.prefix_hit_rate {
        text.push_str(&format!("; prefix hits {:.0} %", rate * 100.0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        Snapshot {
            counts: Counts { accepted: 2, rejected: 1, leased: 3, ready: 2, ..Counts::default() },
            done: 0.4119,
            tokens: 30_000,
            tokens_left: 42_000,
            sections: 14,
            sections_left: 21,
            running: 3,
            tokens_per_second: 1234.4,
            prefix_hit_rate: Some(0.917),
            elapsed_s: 60,
            eta_s: Some(90),
        }
    }

    #[test]
    fn a_line_shows_counts_speed_and_remaining_time() {
        assert_eq!(
            line(&snapshot()),
            " 41 %  3/8 documents  1,234 tok/s  1 min 30 s left  2 accepted, 1 rejected, 3 in progress, 2 waiting; prefix hits 92 %"
        );
        let counts = Counts { accepted: 7, rejected: 1, ..Counts::default() };
        let last =
            Snapshot { counts, done: 1.0, tokens_left: 0, sections_left: 0, running: 0, eta_s: None, ..snapshot() };
        assert!(line(&last).starts_with("100 %  8/8 documents  1,234 tok/s  in 1 min 00 s"), "{}", line(&last));
    }

    #[test]
    fn a_large_run_fits_eighty_columns() {
        let counts = Counts { accepted: 90_000, ready: 10_000, ..Counts::default() };
        let large = Snapshot { counts, tokens_per_second: 99_999.0, eta_s: Some(359_999), ..snapshot() };
        // The bar and its space.
        let columns = 12 + 1 + head(&large).len();
        assert!(columns <= 80, "{columns} columns: {}", head(&large));
    }

    #[test]
    fn the_name_of_an_event_comes_first() {
        let text = serde_json::to_string(&Event { event: "progress", fields: snapshot() }).unwrap();
        assert!(text.starts_with(r#"{"event":"progress","counts":{"ready":2,"#), "{text}");
    }
}
