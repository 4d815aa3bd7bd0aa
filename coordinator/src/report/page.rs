//! The report as one HTML page without network access: sortable tables, and thresholds that can be edited.

use std::fmt::Write;

use longhand_proto::RunId;
use serde_json::json;

use super::plot::{self, rounded};
use super::{Distribution, LanguageSummary, Report, RuleSummary, Summary, rules};
use crate::corpus::{grouped, plural};
use crate::domain::language;
use crate::domain::rule::Bound;
use crate::text::filter::SCORE_LENGTH;

/// Style of a report beside that of the dashboard.
pub(crate) const CSS: &str = include_str!("assets/report.css");
pub(crate) const JS: &str = include_str!("assets/report.js");
const DASHBOARD_CSS: &str = include_str!("../http/assets/style.css");

/// Most documents whose values are embedded in the page; of more an evenly spaced sample.
const MAX_EMBEDDED: usize = 20_000;
/// Most rejected documents that are listed.
const MAX_LISTED: usize = 500;

/// What differs between a standalone page and one of the dashboard.
struct Frame {
    style: String,
    script: String,
    header: String,
    notes: String,
    /// Path of the run in the dashboard.
    run: Option<String>,
    /// More documents are being measured.
    loads_again: bool,
}

/// The page as one self-contained file.
pub fn html(report: &Report) -> String {
    let run = escaped(&report.run);
    let header = format!("<span class=home>Longhand</span><nav> / {run} / report</nav>");
    let (style, script) = (format!("<style>{DASHBOARD_CSS}{CSS}</style>"), format!("<script>{JS}</script>"));
    page(report, &Frame { style, script, header, notes: String::new(), run: None, loads_again: false })
}

/// The page as part of the dashboard, whose content security policy requires scripts and styles as files. `notes` are shown
/// below the title; `loads_again` says that more documents are being measured;
/// a `finished` folder has no workers.
pub(crate) fn dashboard_html(
    report: &Report,
    run: &RunId,
    loads_again: bool,
    finished: bool,
    notes: &[String],
) -> String {
    let workers = if finished { "" } else { "<a href='/workers'>Workers</a>" };
    let path = format!("/runs/{run}");
    let header = format!(
        "<a class=home href='/'><img src='/assets/icon.svg' alt='' width=22 height=22> Longhand</a>\
         <nav aria-label=Breadcrumb> / <a href='{path}'>{run}</a> / <span aria-current=page>report</span></nav>{workers}"
    );
    let style = "<link rel=stylesheet href='/assets/style.css'><link rel=stylesheet href='/assets/report.css'>\
                 <link rel=icon href='/assets/icon.svg'>";
    let script = "<script src='/assets/report.js'></script>".to_owned();
    let notes = notes.iter().map(|note| format!("<p class=note>{}</p>", escaped(note))).collect();
    page(report, &Frame { style: style.into(), script, header, notes, run: Some(path), loads_again })
}

fn page(report: &Report, frame: &Frame) -> String {
    let summary = report.summary();
    let mut out = String::new();
    write(&mut out, report, &summary, frame).expect("a String takes all that is written");
    out
}

fn write(out: &mut String, report: &Report, summary: &Summary, frame: &Frame) -> std::fmt::Result {
    let (run, Frame { style, script, header, notes, .. }) = (escaped(&summary.run), frame);
    let again = if frame.loads_again { " data-again" } else { "" };
    write!(
        out,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width, initial-scale=1'>\
         <meta name=color-scheme content='light dark'><title>Run {run}: report</title>{style}<body class=report{again}>\
         <header>{header}</header><main id=main><div><h1>Run {run}</h1><p>{} measured; the filters of recipe {} keep \
         <b id=kept>{}</b>.</p>{notes}</div>",
        plural(summary.documents as u64, "document"),
        escaped(&summary.recipe),
        count(summary.kept)
    )?;
    if summary.documents == 0 {
        let why = if frame.loads_again {
            "The first documents are being measured."
        } else {
            "No document of this run has a verdict yet."
        };
        return write!(out, "<p>{why}</p></main>{script}</body></html>");
    }
    table(out, summary)?;
    out.push_str("<div class=grid2><section class=card><h2>Words written and requested</h2>");
    if report.rows.iter().any(|row| row.requested.is_some()) {
        out.push_str(&plot::lengths(&report.rows));
        out.push_str(
            "<p class=note><i class=en></i> English <i class=zh></i> Chinese. Solid line: the requested \
             length. Between the dashed lines S<sub>l</sub> is 80 or more.</p>",
        );
    } else {
        out.push_str("<p>No instruction requests a length.</p>");
    }
    out.push_str("</section><section class=card><h2>Length score S<sub>l</sub></h2>");
    if let Some(scores) = &summary.score_length {
        out.push_str(&plot::bars(scores, SCORE_LENGTH.threshold(&report.recipe.filters)));
        quantiles(out, scores)?;
    }
    out.push_str("<h2>By language</h2>");
    languages(out, summary)?;
    out.push_str("</section></div>");
    rejected(out, report, frame)?;
    let data = data(report).to_string().replace('<', "\\u003c");
    write!(out, "</main><script type=application/json id=data>{data}</script>{script}</body></html>")
}

/// One line a rule, which opens.
fn table(out: &mut String, summary: &Summary) -> std::fmt::Result {
    out.push_str(
        "<section class=card><h2>Rules</h2><div class=scroll><table id=thresholds class=sortable><thead><tr><th>rule<th class=wide>measures\
         <th>threshold<th class='n wide'>rejected alone<th class=n>rejected in order<th class='n wide'>kept with it off</tr></thead>",
    );
    for rule in &summary.rules {
        let value = rule.threshold.map_or_else(String::new, rounded);
        write!(
            out,
            "<tbody id='{name}'><tr class=rule><td><button type=button class=open aria-expanded=false>{name}</button>\
             <td class=wide>{}<td class=nowrap>{} <input type=number step=any value='{value}' placeholder=off aria-label='threshold of \
             {name}'><td class='n wide'>{}<td class=n>{}<td class='n wide'></tr><tr class=more hidden><td colspan=6>",
            rule.measures,
            if rule.bound == "at least" { "≥" } else { "≤" },
            count(rule.alone),
            count(rule.in_order),
            name = rule.rule
        )?;
        details(out, rule)?;
        out.push_str("</tr></tbody>");
    }
    out.push_str(
        "</table></div><p class=note>Rules are applied in this order; a document counts for the first rule that rejects it. \
         Open a rule for its values. Edit a threshold to update the counts. <span id=sample></span></p><details id=recipe hidden \
         open><summary>Recipe with these thresholds</summary><pre></pre><p><button type=button id=copy>Copy</button> \
         <span class=note>for <code>longhand filter CORPUS --recipe FILE</code></span></p></details></section>",
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
        "<div class=scroll><table class=sortable><thead><tr><th>language<th class=n>documents<th class=n>kept<th class=n>mean words<th class=n>mean S\
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
    out.push_str("</tbody></table></div>");
    Ok(())
}

fn details(out: &mut String, rule: &RuleSummary) -> std::fmt::Result {
    write!(out, "<p>{}; key <code>filters.{}</code></p>", rule.measures, rule.key)?;
    let Some(distribution) = &rule.distribution else {
        return write!(out, "<p class=note>No document has a value.</p>");
    };
    out.push_str("<div class=grid2><div>");
    out.push_str(&plot::bars(distribution, rule.threshold));
    quantiles(out, distribution)?;
    write!(
        out,
        "</div><table class=sortable><thead><tr><th class=n>{}<th class=n>kept alone<th class=n>kept with other rules</tr></thead><tbody>",
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
    out.push_str("</tbody></table></div>");
    Ok(())
}

/// Rejected documents, with the rule and its detail.
fn rejected(out: &mut String, report: &Report, frame: &Frame) -> std::fmt::Result {
    let rows = || report.rows.iter().filter_map(|row| Some((row, report.first_rejecting(&row.values)?)));
    let total = rows().count();
    if total == 0 {
        return Ok(());
    }
    write!(out, "<section class=card><h2>Rejected documents ({})</h2>", count(total))?;
    if total > MAX_LISTED {
        write!(out, "<p class=note>The first {MAX_LISTED}.</p>")?;
    }
    out.push_str(
        "<div class=scroll><table class=sortable><thead><tr><th>document<th>rule<th class=n>value<th>detail<th class=wide>language\
         <th class='n wide'>requested<th class='n wide'>written</tr></thead><tbody>",
    );
    let names: Vec<&str> = rules().map(|rule| rule.name).collect();
    for (row, first) in rows().take(MAX_LISTED) {
        let id = row.id.to_string();
        let name = match &frame.run {
            Some(run) => format!("<a href='{run}/documents/{id}'>{}</a>", &id[..12]),
            None => format!("<code>{}</code>", &id[..12]),
        };
        write!(
            out,
            "<tr><td>{name}<td>{}<td class=n>{}<td class=detail>{}<td class=wide>{}<td class='n wide'>{}<td class='n wide'>{}</tr>",
            names[first],
            row.values[first].map_or_else(String::new, rounded),
            escaped(&row.detail),
            language::name(row.language),
            row.requested.map_or_else(String::new, |requested| count(requested as usize)),
            count(row.written as usize)
        )?;
    }
    out.push_str("</tbody></table></div></section>");
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
