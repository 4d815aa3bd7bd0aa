//! Plots as inline SVG with the colours of the page.

use std::fmt::Write;

use super::{Distribution, Row};
use crate::corpus::{grouped, plural};
use crate::domain::language::Language;

/// Size of the drawing of a distribution, in its own units.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 90.0;

/// A histogram with a line at the threshold.
pub(super) fn bars(distribution: &Distribution, threshold: Option<f64>) -> String {
    let Distribution { min, max, bars, count, .. } = distribution;
    // The axis includes the threshold.
    let (from, to) = threshold.map_or((*min, *max), |it| (min.min(it), max.max(it)));
    let span = if to > from { to - from } else { 1.0 };
    let x = |value: f64| (value - from) / span * WIDTH;
    let tallest = bars.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = ((max - min) / span * WIDTH / bars.len() as f64).max(2.0);
    let mut out = format!(
        "<svg class=bars viewBox='-4 -14 {} {}' role=img aria-label='distribution of {}' data-from={from} data-span={span}>",
        WIDTH + 8.0,
        HEIGHT + 32.0,
        plural(*count as u64, "value")
    );
    for (at, bar) in bars.iter().enumerate().filter(|(_, bar)| **bar > 0) {
        let start = min + (max - min) * at as f64 / bars.len() as f64;
        let end = min + (max - min) * (at + 1) as f64 / bars.len() as f64;
        // A bar of one document among thousands must be visible.
        let height = (*bar as f64 / tallest * HEIGHT).max(2.0);
        write!(
            out,
            "<rect x={:.1} y={:.1} width={:.1} height={height:.1}><title>{} to {}: {bar}</title></rect>",
            x(start),
            HEIGHT - height,
            (width - 0.5).max(1.5),
            rounded(start),
            rounded(end)
        )
        .expect("a String takes all that is written");
    }
    let line = threshold.map_or_else(String::new, |it| {
        let x = x(it);
        format!(
            "<line class=threshold x1={x:.1} x2={x:.1} y1=-12 y2={HEIGHT}><title>threshold {}</title></line>",
            rounded(it)
        )
    });
    let base = format!("<line class=axis x1=0 x2={WIDTH} y1={HEIGHT} y2={HEIGHT} />");
    let ends = format!(
        "<text x=0 y={y}>{}</text><text x={WIDTH} y={y} text-anchor=end>{}</text>",
        rounded(from),
        rounded(to),
        y = HEIGHT + 14.0
    );
    format!("{out}{base}{line}{ends}</svg>")
}

/// Words written over words requested, both on a logarithmic scale.
// Longer than 60 lines: one drawing from its grid to its labels, in one coordinate system.
pub(super) fn lengths(rows: &[Row]) -> String {
    const SIDE: f64 = 420.0;
    let points: Vec<(f64, f64, Language)> = rows
        .iter()
        .filter_map(|row| Some((f64::from(row.requested?), f64::from(row.written.max(1)), row.language)))
        .collect();
    let all = || points.iter().flat_map(|(requested, written, _)| [*requested, *written]);
    let (least, most) = (all().fold(1e9, f64::min).max(10.0), all().fold(100.0, f64::max));
    // Rounded to whole decades, most of the plot would be empty.
    let (from, to) = ((least * 0.8).ln(), (most * 1.25).ln());
    let x = |words: f64| (words.ln() - from) / (to - from) * SIDE;
    let y = |words: f64| SIDE - x(words);
    let mut out = format!(
        "<svg class=lengths viewBox='-58 -8 {} {}' role=img aria-label='words written over words requested'>",
        SIDE + 70.0,
        SIDE + 52.0
    );
    let ticks = [100_u32, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];
    for tick in ticks.into_iter().filter(|tick| (from..=to).contains(&f64::from(*tick).ln())) {
        let at = f64::from(tick);
        write!(
            out,
            "<line class=grid x1=0 x2={SIDE} y1={y:.1} y2={y:.1} /><line class=grid y1=0 y2={SIDE} x1={x:.1} x2={x:.1} />\
             <text x=-6 y={:.1} text-anchor=end>{label}</text><text x={x:.1} y={:.1} text-anchor=middle>{label}</text>",
            y(at) + 4.0,
            SIDE + 16.0,
            label = grouped(tick.into()),
            x = x(at),
            y = y(at)
        )
        .expect("a String takes all that is written");
    }
    // The requested length; and where S_l is 80: five sevenths and eight fifths of it.
    for (class, share) in [("requested", 1.0), ("bound", 5.0 / 7.0), ("bound", 1.6)] {
        let (left, right) = (from.exp().max(from.exp() / share), to.exp().min(to.exp() / share));
        write!(
            out,
            "<line class={class} x1={:.1} y1={:.1} x2={:.1} y2={:.1} />",
            x(left),
            y(left * share),
            x(right),
            y(right * share)
        )
        .expect("a String takes all that is written");
    }
    for (requested, written, language) in &points {
        let class = crate::domain::language::name(*language);
        write!(
            out,
            "<circle class={class} cx={:.1} cy={:.1} r=3><title>{requested} words requested, {written} written</title></circle>",
            x(*requested),
            y(*written)
        )
        .expect("a String takes all that is written");
    }
    write!(
        out,
        "<text x={} y={} text-anchor=middle>words requested</text><text transform='translate(-46 {}) rotate(-90)' \
         text-anchor=middle>words written</text></svg>",
        SIDE / 2.0,
        SIDE + 36.0,
        SIDE / 2.0
    )
    .expect("a String takes all that is written");
    out
}

/// A number with three significant digits.
pub(super) fn rounded(value: f64) -> String {
    if value == value.round() && value.abs() < 1e15 {
        return format!("{value}");
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
