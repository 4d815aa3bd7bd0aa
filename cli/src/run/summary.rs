//! The summary at the end of a run: results, speed, and where the files are.

use std::path::Path;

use longhand_command::exit::Code;
use longhand_command::output::{duration, grouped, table};
use longhand_coordinator::corpus::{RunTiming, Stats};

use super::advice;

/// The table printed after the last document.
pub(crate) fn text(stats: &Stats, timing: RunTiming, dir: &Path) -> String {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let documents = &stats.documents;
    let mut rows = vec![
        row("documents", grouped(documents.total())),
        row("  accepted", grouped(documents.accepted)),
        row("  rejected", grouped(documents.rejected)),
    ];
    rows.extend(stats.rejected.iter().map(|(rule, number)| row(&format!("    by {rule}"), grouped(*number))));
    rows.push(row("  failed", grouped(documents.failed)));
    rows.extend(stats.failed.iter().map(|(class, number)| row(&format!("    {class}"), grouped(*number))));
    if documents.cancelled > 0 {
        rows.push(row("  cancelled", grouped(documents.cancelled)));
    }
    rows.push(row("words accepted", grouped(stats.words.sum)));
    rows.push(row("  mean per document", grouped(stats.words.mean.round() as u64)));
    if let Some(score) = stats.score_length {
        rows.push(row("length score S_l, mean", format!("{score:.1}")));
    }
    if let Some(score) = stats.score_quality {
        rows.push(row("quality score S_q, mean", format!("{score:.1}")));
    }
    if stats.votes_unread > 0 {
        rows.push(row("  unparsable votes", grouped(stats.votes_unread)));
    }
    rows.push(row("tokens generated", grouped(stats.tokens.generated)));
    if let Some(tokens) = stats.tokens_per_word {
        rows.push(row("  per accepted word", format!("{tokens:.2}")));
    }
    if stats.tokens.dropped > 0 {
        rows.push(row("  in dropped documents", grouped(stats.tokens.dropped)));
    }
    rows.extend(stats.wasted.iter().map(|(cause, tokens)| row(&format!("  wasted by {cause}"), grouped(*tokens))));
    if let Some(speed) = timing.tokens_per_second {
        rows.push(row("  per second", grouped(speed.round() as u64)));
    }
    if let Some(reuse) = stats.prefix_reuse {
        rows.push(row("prefix reuse, of ideal", format!("{:.1} %", reuse * 100.0)));
    }
    if let Some(cost) = &stats.cost {
        rows.push(row("cost", format!("{:.2}", cost.total)));
        rows.push(row("  of dropped documents", format!("{:.2}", cost.dropped)));
        if let (Some(document), Some(words)) = (cost.per_document, cost.per_million_words) {
            rows.push(row("  per accepted document", format!("{document:.4}")));
            rows.push(row("  per million accepted words", format!("{words:.2}")));
        }
    }
    rows.push(row("time", duration(timing.ended_ms.saturating_sub(timing.started_ms) / 1000)));

    let at = |name: &str| dir.join(name).display().to_string();
    let mut files = vec![row("corpus", at("data/"))];
    if documents.rejected > 0 {
        files.push(row("rejected", at("rejected.jsonl")));
    }
    if documents.failed > 0 {
        files.push(row("failed", at("failed.jsonl")));
    }
    files.push(row("stats", at("stats.json")));
    // Paths are left-aligned, unlike the numbers.
    let files: String = files.iter().map(|row| format!("{:<9} {}\n", row[0], row[1])).collect();
    let advice = advice::text(stats, dir).map_or_else(String::new, |text| format!("\n\n{text}"));
    format!("\n{}\n{}{advice}", table(&rows), files.trim_end())
}

/// Success if every document was accepted or rejected, and at least one was accepted.
pub(crate) fn code(stats: &Stats) -> Code {
    let documents = &stats.documents;
    if documents.failed + documents.cancelled == 0 && documents.accepted > 0 { Code::Ok } else { Code::Partial }
}
