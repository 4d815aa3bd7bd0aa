//! `longhand watch`: the progress of a run, redrawn each second on a terminal; elsewhere one line per change.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use longhand_command::exit::{Code, Result};
use longhand_command::output::{self, duration, grouped, plural};
use longhand_command::terminal;
use longhand_proto::v1;
use serde_json::Value;

use super::client::OperatorClient;
use super::figures::{cost, counting, figures, is_complete};
use super::run_args::OneRunArgs;
use super::runs::{fetch, fields, line, stall, total, unfinished};

/// Time between two polls of the run.
const POLL: Duration = Duration::from_secs(1);
/// Causes shown of each kind; the others are counted.
const CAUSES: usize = 5;
/// Columns of an example of an error.
const EXAMPLE: usize = 90;

/// Follows a run until every document has ended.
pub(super) async fn watch(args: &OneRunArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let bar = (!args.json && std::io::stdout().is_terminal()).then(bar);
    let mut shown = None;
    loop {
        let run = fetch(&client, &args.run).await?;
        let counts = run.counts.unwrap_or_default();
        let mut ended = unfinished(&counts) == 0;
        let state = (counts, run.paused, run.cancelling, run.stall.as_ref().map(|stall| stall.cause.clone()));
        let changed = shown.as_ref() != Some(&state);
        shown = Some(state);
        if bar.is_some() || changed || ended {
            let figures = figures(&client, &args.run).await?;
            // The last word is a whole count.
            let last = ended && is_complete(&figures);
            let show = changed || last;
            ended = last;
            if args.json {
                if show {
                    let mut event = fields(&run);
                    event["figures"] = figures.clone();
                    output::json(&event)?;
                }
            } else if let Some(bar) = &bar {
                bar.set_length(total(&counts));
                bar.set_position(total(&counts) - unfinished(&counts));
                bar.set_prefix(run.id.clone());
                bar.set_message(block(&run, &figures));
            } else if changed {
                let stall = stall(&run).map(|message| format!(" | no progress: {message}")).unwrap_or_default();
                output::line(&format!("{}{}{stall}", line(&run), speed(&figures)))?;
            }
            if ended {
                if let Some(bar) = &bar {
                    bar.finish();
                } else if !args.json {
                    output::line(block(&run, &figures).trim_end())?;
                }
            }
        }
        if ended {
            return Ok(if counts.failed == 0 && counts.accepted > 0 { Code::Ok } else { Code::Partial });
        }
        tokio::time::sleep(POLL).await;
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
    let style = ProgressStyle::with_template("{prefix}  {bar:32}  {pos} of {len} ended\n{msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn number(figures: &Value, pointer: &str) -> u64 {
    figures.pointer(pointer).and_then(Value::as_f64).map_or(0, |number| number.round() as u64)
}

/// Speed and remaining time; empty before the first text.
fn speed(figures: &Value) -> String {
    let mut text = String::new();
    let (words, tokens) = (number(figures, "/words_per_minute"), number(figures, "/tokens_per_second"));
    if words + tokens > 0 {
        text.push_str(&format!(" | {} words/min, {} tok/s", grouped(words), grouped(tokens)));
    }
    if figures["eta_ms"].is_number() {
        text.push_str(&format!(" | about {} left", duration(number(figures, "/eta_ms") / 1_000)));
    }
    text
}

/// The details below the bar.
fn block(run: &v1::Run, figures: &Value) -> String {
    let counts = run.counts.unwrap_or_default();
    let mut text = String::new();
    let states = [
        (counts.accepted, "accepted"),
        (counts.rejected, "rejected"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.leased, "in progress"),
        (counts.ready, "waiting"),
        (counts.delayed, "backing off"),
    ];
    let parts: Vec<String> = states
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", grouped(number)))
        .collect();
    row(&mut text, "documents", &parts.join(", "));
    match stall(run) {
        Some(message) => row(&mut text, "no progress", message),
        None if run.cancelling => {
            row(&mut text, "", &format!("cancelling: {} not ended yet", plural(unfinished(&counts), "document")));
        }
        None if run.paused => row(&mut text, "", "paused: what is in progress is finished"),
        None => {}
    }
    if let Some(counting) = counting(figures, total(&counts)) {
        row(&mut text, "totals", &counting);
    }
    let (written, left) = (number(figures, "/sections"), number(figures, "/sections_left"));
    row(&mut text, "sections", &format!("{} written, {} remaining{}", grouped(written), grouped(left), speed(figures)));
    row(&mut text, "words", &format!("{} in accepted documents", grouped(number(figures, "/words"))));
    let tokens = ["accepted", "open", "dropped", "wasted"].map(|kind| number(figures, &format!("/tokens/{kind}")));
    let share = tokens[3] as f64 / (tokens.iter().sum::<u64>().max(1)) as f64 * 100.0;
    row(
        &mut text,
        "tokens",
        &format!(
            "{} in accepted documents, {} in open ones, {} in dropped ones, {} wasted ({share:.1} %)",
            grouped(tokens[0]),
            grouped(tokens[1]),
            grouped(tokens[2]),
            grouped(tokens[3]),
        ),
    );
    if let Some(per_word) = figures["tokens_per_word"].as_f64() {
        row(&mut text, "", &format!("{per_word:.2} generated for each accepted word"));
    }
    let discarded = figures["discarded"].as_object().into_iter().flatten();
    let discarded: Vec<String> =
        discarded.map(|(cause, tokens)| format!("{} by {cause}", grouped(tokens.as_u64().unwrap_or(0)))).collect();
    if !discarded.is_empty() {
        row(&mut text, "  wasted", &discarded.join(", "));
    }
    if let Some(cost) = cost(figures) {
        row(&mut text, "cost", &cost);
    }
    for (kind, state) in [("failed", "failed"), ("rejected", "rejected")] {
        let causes = figures[kind].as_array().map_or(&[][..], Vec::as_slice);
        for (index, cause) in causes.iter().take(CAUSES).enumerate() {
            let (reason, message) = (&cause["reason"], cause["message"].as_str().unwrap_or_default());
            let example = terminal::cell(message, EXAMPLE);
            let name = if index == 0 { state } else { "" };
            let number = grouped(cause["count"].as_u64().unwrap_or(0));
            row(&mut text, name, &format!("{number} {}: {example}", reason.as_str().unwrap_or_default()));
        }
        if causes.len() > CAUSES {
            row(&mut text, "", &format!("and {}", plural((causes.len() - CAUSES) as u64, "more cause")));
        }
    }
    for fault in figures["faults"].as_array().into_iter().flatten().take(CAUSES) {
        let (class, documents) = (fault["error"].as_str().unwrap_or_default(), fault["count"].as_u64().unwrap_or(0));
        row(&mut text, "errors", &format!("{}: {class}", plural(documents, "document")));
    }
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("  {name:<18} {value}\n"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_block_shows_speed_tokens_causes_and_a_remedy() {
        let counts = v1::Counts { accepted: 380, failed: 10, ready: 572, ..v1::Counts::default() };
        let stall = v1::Stall { cause: "no_worker".into(), message: "no worker is connected; start one".into() };
        let run = v1::Run { id: "ships".into(), counts: Some(counts), stall: Some(stall), ..v1::Run::default() };
        let figures = json!({
            "words_per_minute": 1234.4, "tokens_per_second": 98.0, "eta_ms": 7_500_000, "sections": 4_120,
            "sections_left": 5_700, "words": 812_000,
            "cost": { "total": 12.5, "accepted": 9.0, "dropped": 2.25, "per_document": 0.0329, "per_million_words": 15.394 },
            "tokens": { "accepted": 900, "open": 50, "dropped": 40, "wasted": 10 },
            "failed": [{ "reason": "poison", "count": 7, "message": "lost again" }], "rejected": [], "faults": [],
        });
        let text = block(&run, &figures);
        for part in [
            "380 accepted, 10 failed, 572 waiting",
            "no progress        no worker is connected; start one",
            "4,120 written, 5,700 remaining | 1,234 words/min, 98 tok/s | about 2 h 05 min left",
            "10 wasted (1.0 %)",
            "cost               12.50, 2.25 of it for dropped documents; 0.0329 per accepted document, 15.39 per million accepted words",
            "failed             7 poison: lost again",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(speed(&json!({})), "", "there is no speed before the first text");
    }
}
