//! The plot of requested against written length, as a self-contained page.

use std::fmt::Write;

use super::score::{Case, Report};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 520.0;
/// Space for the axes.
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 48.0;
const MARGIN: f64 = 16.0;
/// Lines of the grid, in words.
const GRID: [u32; 10] = [10, 50, 100, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;\
background:#fff}pre{background:#f4f4f2;padding:1rem;overflow:auto}svg{max-width:100%;height:auto}.grid{stroke:#e2e2de}\
.even{stroke:#888;stroke-dasharray:5 4}text{font:12px system-ui,sans-serif;fill:#555}.direct{fill:#c2571a}\
.agentwrite{fill:#1a6fb5}circle{fill-opacity:.65}.key{font-size:13px}\
@media(prefers-color-scheme:dark){body{background:#181a1b;color:#ddd}pre{background:#232628}.grid{stroke:#33373a}text{fill:#aaa}}";

/// The whole page, with the tables of the text report.
pub(super) fn html(report: &Report, tables: &str) -> String {
    let mut out = String::new();
    draw(&mut out, report, tables).expect("writing to a String cannot fail");
    out
}

fn draw(out: &mut String, report: &Report, tables: &str) -> std::fmt::Result {
    let scale = Scale::of(report.methods.iter().flat_map(|method| &method.cases));
    write!(
        out,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Requested and written length</title><style>{STYLE}</style><h1>Requested and written length</h1>\
         <p>Each point is a prompt; on the dashed line the written length equals the requested length. Failed texts are on the \
         lower edge.</p>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Requested words and written words\">"
    )?;
    grid(out, &scale)?;
    points(out, report, &scale)?;
    write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">requested words</text>\
         <text transform=\"translate(14 {:.1}) rotate(-90)\" text-anchor=\"middle\">written words</text></svg>\
         <h2>Scores</h2><pre>{}</pre></html>",
        (LEFT + WIDTH) / 2.0,
        HEIGHT - 8.0,
        (HEIGHT - BOTTOM) / 2.0,
        escape(tables)
    )
}

/// The grid with its labels, and the line of equal lengths.
fn grid(out: &mut String, scale: &Scale) -> std::fmt::Result {
    for words in GRID.into_iter().filter(|words| scale.holds(*words)) {
        let (x, y) = (scale.x(words), scale.y(words));
        let (top, bottom, right) = (MARGIN, HEIGHT - BOTTOM, WIDTH - MARGIN);
        write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
             <line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{words}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{words}</text>",
            bottom + 18.0,
            LEFT - 8.0,
            y + 4.0
        )?;
    }
    let (low, high) = (scale.min, scale.max);
    write!(
        out,
        "<line class=\"even\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        scale.x(low),
        scale.y(low),
        scale.x(high),
        scale.y(high)
    )
}

/// A point for each prompt, and the key.
fn points(out: &mut String, report: &Report, scale: &Scale) -> std::fmt::Result {
    let cases = report.methods.iter().flat_map(|method| method.cases.iter().map(|case| (method.method.as_str(), case)));
    for (method, case) in cases {
        let what = case.kind.as_deref().unwrap_or("");
        write!(
            out,
            "<circle class=\"{method}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"5\"><title>{method} {} {}: {} requested, {} written, S_l \
             {:.1} {}</title></circle>",
            scale.x(case.asked),
            scale.y(case.written),
            escape(&case.id),
            escape(what),
            case.asked,
            case.written,
            case.score_length,
            escape(&case.failed)
        )?;
    }
    for (index, method) in report.methods.iter().enumerate() {
        let (x, y, name) = (LEFT + 16.0, MARGIN + 16.0 + 20.0 * index as f64, method.method.as_str());
        write!(
            out,
            "<circle class=\"{name}\" cx=\"{x}\" cy=\"{y}\" r=\"5\"/><text class=\"key\" x=\"{}\" y=\"{}\">{name}</text>",
            x + 12.0,
            y + 4.0
        )?;
    }
    Ok(())
}

/// The logarithmic scale of words on both axes.
struct Scale {
    min: u32,
    max: u32,
}

impl Scale {
    fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let (mut min, mut max) = (u32::MAX, 0);
        for words in cases.flat_map(|case| [case.asked, case.written]).filter(|words| *words > 0) {
            (min, max) = (min.min(words), max.max(words));
        }
        let min = (min / 2).clamp(1, 1_000_000);
        Self { min, max: max.saturating_mul(2).max(min + 1) }
    }

    fn holds(&self, words: u32) -> bool {
        (self.min..=self.max).contains(&words)
    }

    /// The position of `words` on an axis: 0 at the minimum, 1 at the maximum.
    fn fraction(&self, words: u32) -> f64 {
        let log = |words: u32| f64::from(words.max(self.min)).ln();
        (log(words) - log(self.min)) / (log(self.max) - log(self.min))
    }

    fn x(&self, words: u32) -> f64 {
        LEFT + self.fraction(words) * (WIDTH - LEFT - MARGIN)
    }

    fn y(&self, words: u32) -> f64 {
        (HEIGHT - BOTTOM) - self.fraction(words) * (HEIGHT - BOTTOM - MARGIN)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::score::Grouping;
    use super::super::score::tests::report;
    use super::*;

    #[test]
    fn every_prompt_is_a_point_and_the_page_is_self_contained() {
        let report = report(Grouping::Bins);
        let page = html(&report, &report.text());
        // Six cases, two entries of the key.
        assert_eq!(page.matches("<circle").count(), 8);
        assert!(page.contains("News &lt;b&gt;") && !page.contains("<b>"));
        assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN"), "{page}");
    }

    #[test]
    fn equal_lengths_are_on_the_line_and_failed_texts_on_the_edge() {
        let report = report(Grouping::Bins);
        let scale = Scale::of(report.methods.iter().flat_map(|method| &method.cases));
        assert!((scale.fraction(400) - scale.fraction(400)).abs() < f64::EPSILON);
        assert_eq!(scale.y(0), HEIGHT - BOTTOM);
        assert!(scale.x(400) < scale.x(2_000) && scale.y(400) > scale.y(2_000));
        assert!(scale.x(20_000) < WIDTH && scale.y(20_000) > 0.0);
    }
}
