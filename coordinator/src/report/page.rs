//! The report as one HTML page without network access: sortable tables, and thresholds that can be edited.

use std::fmt::Write;

use serde_json::json;

use super::plot::{self, rounded};
use super::{Distribution, LanguageSummary, Report, RuleSummary, Summary, rules};
use crate::corpus::{grouped, plural};
use crate::domain::language;
use crate::domain::rule::Bound;
use crate::text::filter::SCORE_LENGTH;

pub(crate) const CSS: &str = include_str!("assets/report.css");
pub(crate) const JS: &str = include_str!("assets/report.js");

/// Most documents whose values are embedded in the page; of more an evenly spaced sample.
const MAX_EMBEDDED: usize = 20_000;
/// Most rejected documents that are listed.
const MAX_LISTED: usize = 500;

/// What differs between a standalone page and one of the dashboard.
struct Frame<'a> {
    style: &'a str,
    script: &'a str,
    head: String,
}

/// The page as one self-contained file.
pub fn html(report: &Report) -> String {
    let (style, script) = (format!("<style>{CSS}</style>"), format!("<script>{JS}</script>"));
    page(report, &Frame { style: &style, script: &script, head: String::new() })
}

/// The page as part of the dashboard, whose content security policy requires scripts and styles as files. `back` is the path
/// of the run; `notes` are shown below it.
pub(crate) fn dashboard_html(report: &Report, back: &str, notes: &[String]) -> String {
    let style = "<link rel=stylesheet href='/assets/report.css'><link rel=icon href='/assets/icon.svg'>";
    let notes: String = notes.iter().map(|note| format!("<p class=note>{}</p>", escaped(note))).collect();
    let head = format!("<p><a href='{}'>Back to the run</a></p>{notes}", escaped(back));
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
         <title>Run {run}: report</title>{style}<body><header>{head}<h1>Run {run}</h1><p>{} measured; the filters \
         of recipe {} keep <b id=kept>{}</b>.</p></header>",
        plural(summary.documents as u64, "document"),
        escaped(&summary.recipe),
        count(summary.kept)
    )?;
    if summary.documents == 0 {
        return write!(out, "<p>No document of this run has a verdict yet.</p></body></html>");
    }
    table(out, summary)?;
    out.push_str("<section class=pair><div><h2>Lengths</h2>");
    if report.rows.iter().any(|row| row.requested.is_some()) {
        out.push_str(&plot::lengths(&report.rows));
        out.push_str(
            "<p class=note><i class=en></i> English <i class=zh></i> Chinese. Solid line: the requested \
             length. Between the dashed lines S_l is 80 or more.</p>",
        );
    } else {
        out.push_str("<p>No instruction requests a length.</p>");
    }
    out.push_str("</div><div><h2>Length score S<sub>l</sub></h2>");
    if let Some(scores) = &summary.score_length {
        out.push_str(&plot::bars(scores, SCORE_LENGTH.threshold(&report.recipe.filters)));
        quantiles(out, scores)?;
    }
    out.push_str("<h2>By language</h2>");
    languages(out, summary)?;
    out.push_str("</div></section><h2>Rules</h2><section class=rules>");
    for rule in &summary.rules {
        details(out, rule)?;
    }
    out.push_str("</section>");
    rejected(out, report)?;
    let data = data(report).to_string().replace('<', "\\u003c");
    write!(out, "<script type=application/json id=data>{data}</script>{script}</body></html>")
}

fn table(out: &mut String, summary: &Summary) -> std::fmt::Result {
    out.push_str(
        "<table id=thresholds class=sortable><thead><tr><th>rule<th>measures<th>threshold<th class=n>rejected alone\
         <th class=n>rejected in order<th class=n>kept with this rule off</tr></thead><tbody>",
    );
    for rule in &summary.rules {
        let value = rule.threshold.map_or_else(String::new, rounded);
        write!(
            out,
            "<tr><td><a href='#{name}'>{name}</a><td>{}<td>{} <input type=number step=any value='{value}' \
             placeholder=off aria-label='threshold of {name}'><td class=n>{}<td class=n>{}<td class=n></tr>",
            rule.measures,
            rule.bound,
            count(rule.alone),
            count(rule.in_order),
            name = rule.rule
        )?;
    }
    out.push_str(
        "</tbody></table><p class=note>Rules are applied in this order; a document counts for the first rule that rejects it. \
         Edit a threshold to update the counts. <span id=sample></span></p><details id=recipe hidden><summary>Recipe with these \
         thresholds</summary><pre></pre></details>",
    );
    Ok(())
}

fn quantiles(out: &mut String, values: &Distribution) -> std::fmt::Result {
    write!(
        out,
        "<p class=note>{}: minimum {}, 5 % {}, 25 % {}, median {}, 75 % {}, 95 % {}, maximum {}</p>",
        plural(values.count as u64, "value"),
        rounded(values.min),
        rounded(values.p5),
        rounded(values.p25),
        rounded(values.median),
        rounded(values.p75),
        rounded(values.p95),
        rounded(values.max)
    )
}

fn languages(out: &mut String, summary: &Summary) -> std::fmt::Result {
    out.push_str(
        "<table class=sortable><thead><tr><th>language<th class=n>documents<th class=n>kept<th class=n>mean words<th class=n>mean S\
         <sub>l</sub></tr></thead><tbody>",
    );
    for (name, LanguageSummary { documents, kept, words, score_length }) in &summary.languages {
        let score = score_length.map_or_else(String::new, |score| format!("{score:.1}"));
        write!(
            out,
            "<tr><td>{name}<td class=n>{}<td class=n>{}<td class=n>{}<td class=n>{score}</tr>",
            count(*documents),
            count(*kept),
            count(words.round() as usize)
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
        return write!(out, "<p class=note>No document has a value.</p></article>");
    };
    out.push_str(&plot::bars(distribution, rule.threshold));
    quantiles(out, distribution)?;
    write!(
        out,
        "<table class=sortable><thead><tr><th class=n>{}<th class=n>kept alone<th class=n>kept with other rules</tr></thead><tbody>",
        rule.bound
    )?;
    for other in &rule.others {
        let class = if rule.threshold == Some(other.threshold) { " class=used" } else { "" };
        write!(
            out,
            "<tr{class}><td class=n>{}<td class=n>{}<td class=n>{}</tr>",
            rounded(other.threshold),
            count(other.alone),
            count(other.together)
        )?;
    }
    out.push_str("</tbody></table></article>");
    Ok(())
}

/// Rejected documents, with the rule and its detail.
fn rejected(out: &mut String, report: &Report) -> std::fmt::Result {
    let rows = || report.rows.iter().filter_map(|row| Some((row, report.first_rejecting(&row.values)?)));
    let total = rows().count();
    write!(out, "<h2>Rejected documents ({})</h2>", count(total))?;
    if total > MAX_LISTED {
        write!(out, "<p class=note>The first {MAX_LISTED}.</p>")?;
    }
    out.push_str(
        "<table class=sortable><thead><tr><th>document<th>rule<th class=n>value<th>detail<th>language<th class=n>words requested<th class=n>words \
         written</tr></thead><tbody>",
    );
    let names: Vec<&str> = rules().map(|rule| rule.name).collect();
    for (row, first) in rows().take(MAX_LISTED) {
        write!(
            out,
            "<tr><td><code>{}</code><td>{}<td class=n>{}<td>{}<td>{}<td class=n>{}<td class=n>{}</tr>",
            &row.id.to_string()[..12],
            names[first],
            row.values[first].map_or_else(String::new, rounded),
            escaped(&row.detail),
            language::name(row.language),
            row.requested.map_or_else(String::new, |requested| count(requested as usize)),
            count(row.written as usize)
        )?;
    }
    out.push_str("</tbody></table>");
    Ok(())
}

/// Data for the script of the page.
fn data(report: &Report) -> serde_json::Value {
    let step = report.rows.len().div_ceil(MAX_EMBEDDED).max(1);
    let rules: Vec<serde_json::Value> = rules()
        .map(|rule| {
            json!({
                "name": rule.name,
                "key": rule.key,
                "least": rule.bound == Bound::AtLeast,
                "switch": rule.is_switch(),
                "off": rule.off,
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

/// A count with thousands separators.
fn count(number: usize) -> String {
    grouped(number as u64)
}

/// Text of a run, escaped for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
