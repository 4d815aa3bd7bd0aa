//! Shows the progress of a run: a bar on a terminal, plain lines elsewhere, JSON events, or nothing.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use longhand_proto::clock;
use serde::Serialize;
use serde_json::Value;

use crate::exit::Result;
use crate::output::{self, duration, grouped};
use crate::progress::Snapshot;

/// Time between two plain lines or two events.
const EVERY: Duration = Duration::from_secs(5);

#[derive(Debug)]
enum Kind {
    Bar(ProgressBar),
    Lines,
    Json,
    Quiet,
}

/// Where progress goes.
#[derive(Debug)]
pub(crate) struct Display {
    kind: Kind,
    shown: Option<Instant>,
}

impl Display {
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

    /// Something that happened once; `fields` is an object for readers of JSON, `text` for people.
    pub(crate) fn event(&self, name: &str, text: &str, fields: Value) -> Result<()> {
        match &self.kind {
            Kind::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            Kind::Lines => eprintln!("{text}"),
            Kind::Json => output::json(&Event { event: name, fields })?,
            Kind::Quiet => {}
        }
        Ok(())
    }

    /// How far the run is; `last` shows it even if little time has gone by.
    pub(crate) fn progress(&mut self, snapshot: &Snapshot, last: bool) -> Result<()> {
        if let Kind::Bar(bar) = &self.kind {
            bar.set_length(snapshot.counts.total());
            bar.set_position(snapshot.counts.total() - snapshot.counts.unfinished());
            bar.set_message(line(snapshot));
            return Ok(());
        }
        let now = clock::now();
        if !last && self.shown.is_some_and(|at| now.duration_since(at) < EVERY) {
            return Ok(());
        }
        self.shown = Some(now);
        match &self.kind {
            Kind::Lines => eprintln!("{:>4} s  {}", snapshot.elapsed_s, line(snapshot)),
            Kind::Json => output::json(&Event { event: "progress", fields: snapshot })?,
            Kind::Bar(_) | Kind::Quiet => {}
        }
        Ok(())
    }

    /// The end of a run: a table for people, one event for readers of JSON.
    pub(crate) fn summary(&self, text: &str, fields: Value) -> Result<()> {
        match &self.kind {
            Kind::Bar(_) | Kind::Lines => output::line(text),
            Kind::Json => output::json(&Event { event: "finished", fields }),
            Kind::Quiet => Ok(()),
        }
    }

    /// Leaves the terminal as it was found.
    pub(crate) fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

/// One event: its name stands first, for eyes and for `grep`.
#[derive(Serialize)]
struct Event<'a, T> {
    event: &'a str,
    #[serde(flatten)]
    fields: T,
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(
        ProgressStyle::with_template("{bar:24} {pos}/{len} documents  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    // Steady, so that the bar lives while one long section is written.
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn line(snapshot: &Snapshot) -> String {
    let counts = &snapshot.counts;
    let mut parts = Vec::new();
    for (number, word) in [
        (counts.accepted, "accepted"),
        (counts.rejected, "rejected"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.leased, "in work"),
        (counts.ready + counts.delayed, "waiting"),
    ] {
        if number > 0 {
            parts.push(format!("{} {word}", grouped(number)));
        }
    }
    let documents = parts.join(", ");
    let mut text = format!(
        "{documents} | sections {} written, {} to go | {} tok/s",
        grouped(snapshot.sections),
        grouped(snapshot.sections_left),
        grouped(snapshot.tokens_per_second.round() as u64)
    );
    if let Some(rate) = snapshot.prefix_hit_rate {
        text.push_str(&format!(" | prefix hits {:.0} %", rate * 100.0));
    }
    if let Some(eta) = snapshot.eta_s {
        text.push_str(&format!(" | about {} left", duration(eta)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use longhand_coordinator::store::Counts;

    fn snapshot() -> Snapshot {
        Snapshot {
            counts: Counts { accepted: 2, rejected: 1, leased: 3, ready: 2, ..Counts::default() },
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
    fn a_line_tells_all_that_a_person_waits_for() {
        assert_eq!(
            line(&snapshot()),
            "2 accepted, 1 rejected, 3 in work, 2 waiting | sections 14 written, 21 to go | 1,234 tok/s | prefix hits \
             92 % | about 1 min 30 s left"
        );
    }

    #[test]
    fn an_event_begins_with_its_name() {
        let text = serde_json::to_string(&Event { event: "progress", fields: snapshot() }).unwrap();
        assert!(text.starts_with(r#"{"event":"progress","counts":{"ready":2,"#), "{text}");
    }
}
