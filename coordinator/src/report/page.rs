//! The report as one page: no network, light and dark, tables that sort, and thresholds to try out where one looks.

use std::fmt::Write;

use serde_json::json;

use super::plot::{self, short};
use super::{Distribution, LanguageSummary, Report, RuleSummary, Summary, rules};
use crate::domain::language;
use crate::domain::rule::Bound;
use crate::text::filter::SCORE_LENGTH;

pub(crate) const CSS: &str = include_str!("assets/report.css");
pub(crate) const JS: &str = include_str!("assets/report.js");

/// Documents whose values go into the page, to try thresholds on; of more a fair sample.
const EMBEDDED: usize = 20_000;
/// Dropped documents that are listed.
const LISTED: usize = 500;

/// What differs between a page of its own and one of the dashboard.
struct Frame<'a> {
    style: &'a str,
    script: &'a str,
    head: String,
}

/// The whole page in one file, which needs nothing else.
pub fn html(report: &Report) -> String {
    let (style, script) = (format!("<style>{CSS}</style>"), format!("<script>{JS}</script>"));
    page(report, &Frame { style: &style, script: &script, head: String::new() })
}

/// The page as a part of the dashboard, whose policy wants scripts and styles as files: `back` leads to the run, `note` says
/// what is special about what was measured.
pub(crate) fn linked(report: &Report, back: &str, note: &str) -> String {
    let style = "<link rel=stylesheet href='/assets/report.css'><link rel=icon href='/assets/icon.svg'>";
    let head = format!("<p><a href='{}'>To the run</a></p><p class=note>{}</p>", escaped(back), escaped(note));
    page(report, &Frame { style, script: "<script src='/assets/report.js'></script>", head })
}

fn page(report: &Report, frame: &Frame<'_>) -> String {
    let summary = report.summary();
    let mut out = String::new();
    write(&mut out, report, &summary, frame).expect("a String takes all that is written");
    out
}

fn write(out: &mut String, report: &Report, summary: &Summary, frame: &Frame<'_>) -> std::fmt::Result {
    let (run, Frame { style, script, head }) = (escaped(&summary.run), frame);
    write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Run {run}: report</title>{style}<body><header>{head}<h1>Run {run}</h1><p>{} documents measured; the \
         filters of recipe {} keep <b id=kept>{}</b>.</p></header>",
        summary.documents,
        escaped(&summary.recipe),
        summary.kept
    )?;
    if summary.documents == 0 {
        return write!(out, "<p>No document of this run has come to a verdict yet.</p></body></html>");
    }
    table(out, summary)?;
    out.push_str("<section class=pair><div><h2>Lengths</h2>");
    if report.rows.iter().any(|row| row.asked.is_some()) {
        out.push_str(&plot::lengths(&report.rows));
        out.push_str(
            "<p class=note><i class=en></i> English <i class=zh></i> Chinese. The line is as many words as were asked for; \
             between the dashed ones S_l is 80 or more.</p>",
        );
    } else {
        out.push_str("<p>No instruction states a length.</p>");
    }
    out.push_str("</div><div><h2>Length score S<sub>l</sub></h2>");
    if let Some(scores) = &summary.score_length {
        out.push_str(&plot::bars(scores, SCORE_LENGTH.threshold(&report.recipe.filters)));
        quantiles(out, scores)?;
    }
    out.push_str("<h2>By language</h2>");
    languages(out, summary)?;
    out.push_str("</div></section><h2>Rule by rule</h2><section class=rules>");
    for rule in &summary.rules {
        details(out, rule)?;
    }
    out.push_str("</section>");
    dropped(out, report)?;
    let data = data(report).to_string().replace('<', "\\u003c");
    write!(out, "<script type=application/json id=data>{data}</script>{script}</body></html>")
}

fn table(out: &mut String, summary: &Summary) -> std::fmt::Result {
    out.push_str(
        "<table id=thresholds class=sortable><thead><tr><th>rule<th>what is measured<th>threshold<th class=n>drops alone\
         <th class=n>drops in order<th class=n>kept if it alone were off</tr></thead><tbody>",
    );
    for rule in &summary.rules {
        let value = rule.threshold.map_or_else(String::new, short);
        write!(
            out,
            "<tr><td><a href='#{name}'>{name}</a><td>{}<td>{} <input type=number step=any value='{value}' \
             placeholder=off aria-label='threshold of {name}'><td class=n>{}<td class=n>{}<td class=n></tr>",
            rule.measures,
            rule.bound,
            rule.alone,
            rule.in_order,
            name = rule.rule
        )?;
    }
    out.push_str(
        "</tbody></table><p class=note>Rules are asked in this order; a document counts under the first that drops it. Try other \
         thresholds: the counts follow. <span id=sample></span></p><details id=recipe hidden><summary>These thresholds, for a \
         recipe</summary><pre></pre></details>",
    );
    Ok(())
}

fn quantiles(out: &mut String, values: &Distribution) -> std::fmt::Result {
    write!(
        out,
        "<p class=note>{} values: least {}, 5 % {}, 25 % {}, median {}, 75 % {}, 95 % {}, most {}</p>",
        values.count,
        short(values.min),
        short(values.p5),
        short(values.p25),
        short(values.median),
        short(values.p75),
        short(values.p95),
        short(values.max)
    )
}

fn languages(out: &mut String, summary: &Summary) -> std::fmt::Result {
    out.push_str(
        "<table class=sortable><thead><tr><th>language<th class=n>documents<th class=n>kept<th class=n>words, mean<th class=n>S\
         <sub>l</sub>, mean</tr></thead><tbody>",
    );
    for (name, LanguageSummary { documents, kept, words, score_length }) in &summary.languages {
        let score = score_length.map_or_else(String::new, |score| format!("{score:.1}"));
        write!(
            out,
            "<tr><td>{name}<td class=n>{documents}<td class=n>{kept}<td class=n>{words:.0}<td class=n>{score}</tr>"
        )?;
    }
    out.push_str("</tbody></table>");
    Ok(())
}

fn details(out: &mut String, rule: &RuleSummary) -> std::fmt::Result {
    write!(
        out,
        "<article id='{0}'><h3>{0}</h3><p>{1}; key <code>filters.{2}</code></p>",
        rule.rule, rule.measures, rule.key
    )?;
    let Some(distribution) = &rule.distribution else {
        return write!(out, "<p class=note>No document has anything to measure.</p></article>");
    };
    out.push_str(&plot::bars(distribution, rule.threshold));
    quantiles(out, distribution)?;
    write!(
        out,
        "<table class=sortable><thead><tr><th class=n>{}<th class=n>would keep alone<th class=n>with all others</tr></thead><tbody>",
        rule.bound
    )?;
    for other in &rule.others {
        let class = if rule.threshold == Some(other.threshold) { " class=used" } else { "" };
        write!(
            out,
            "<tr{class}><td class=n>{}<td class=n>{}<td class=n>{}</tr>",
            short(other.threshold),
            other.alone,
            other.together
        )?;
    }
    out.push_str("</tbody></table></article>");
    Ok(())
}

/// Documents that a rule drops, with what it saw.
fn dropped(out: &mut String, report: &Report) -> std::fmt::Result {
    let rows = || report.rows.iter().filter_map(|row| Some((row, report.first(&row.values)?)));
    let count = rows().count();
    write!(out, "<h2>Dropped documents ({count})</h2>")?;
    if count > LISTED {
        write!(out, "<p class=note>The first {LISTED} of them.</p>")?;
    }
    out.push_str(
        "<table class=sortable><thead><tr><th>document<th>rule<th class=n>value<th>seen<th>language<th class=n>asked<th class=n>\
         written</tr></thead><tbody>",
    );
    let names: Vec<&str> = rules().map(|rule| rule.name).collect();
    for (row, first) in rows().take(LISTED) {
        write!(
            out,
            "<tr><td><code>{}</code><td>{}<td class=n>{}<td>{}<td>{}<td class=n>{}<td class=n>{}</tr>",
            &row.id.to_string()[..12],
            names[first],
            row.values[first].map_or_else(String::new, short),
            escaped(&row.detail),
            language::name(row.language),
            row.asked.map_or_else(String::new, |asked| asked.to_string()),
            row.written
        )?;
    }
    out.push_str("</tbody></table>");
    Ok(())
}

/// What the page needs to count by itself.
fn data(report: &Report) -> serde_json::Value {
    let step = report.rows.len().div_ceil(EMBEDDED).max(1);
    let rules: Vec<serde_json::Value> = rules()
        .map(|rule| {
            json!({
                "name": rule.name,
                "key": rule.key,
                "least": rule.bound == Bound::AtLeast,
                "switch": rule.is_switch(),
            })
        })
        .collect();
    let rounded = |value: f64| (value * 1e6).round() / 1e6;
    let values: Vec<Vec<Option<f64>>> = report
        .rows
        .iter()
        .step_by(step)
        .map(|row| row.values.iter().map(|value| value.map(rounded)).collect())
        .collect();
    json!({ "rules": rules, "values": values, "documents": report.rows.len() })
}

/// Text of a run inside HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
