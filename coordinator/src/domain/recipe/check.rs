//! Ranges of a recipe's values. Those of the thresholds stand with their rules.

use longhand_proto::task::{Sampling, SamplingKey};

use super::Recipe;

/// A value outside its range: key, value, range.
pub(crate) type OutOfRange = (String, String, String);

/// The first value out of range, if there is one.
pub(crate) fn ranges(recipe: &Recipe) -> Result<(), OutOfRange> {
    let Recipe { name, method: _, templates: _, plan, section, context, rolling, filters: _, judge, retry } = recipe;
    if name.trim().is_empty() {
        return Err(("name".into(), "\"\"".into(), "a text that is not empty".into()));
    }
    let within = |key: &str, value: f64, least: f64, most: f64| {
        if (least..=most).contains(&value) {
            Ok(())
        } else {
            Err((key.to_owned(), value.to_string(), format!("{least} to {most}")))
        }
    };
    within("plan.max_steps", plan.max_steps.into(), 1.0, 200.0)?;
    within("plan.min_steps", plan.min_steps.into(), 1.0, plan.max_steps.into())?;
    within("plan.max_words", plan.max_words.into(), 20.0, 9_999.0)?;
    within("plan.min_words", plan.min_words.into(), 10.0, plan.max_words.into())?;
    within("plan.headroom", exact(plan.headroom), 0.5, 2.0)?;
    within("plan.max_tokens", plan.max_tokens.into(), 64.0, 131_072.0)?;
    within("plan.max_similarity", exact(plan.max_similarity), 0.0, 1.0)?;
    within("plan.min_on_subject", exact(plan.min_on_subject), 0.0, 1.0)?;
    sampling("plan.sampling", &plan.sampling)?;
    within("section.floor", exact(section.floor), 0.0, 1.0)?;
    within("section.bias", exact(section.bias), 0.0, 100.0)?;
    within("section.ceiling", exact(section.ceiling), 1.0, 10.0)?;
    within("section.hard", exact(section.hard), exact(section.ceiling), 20.0)?;
    within("section.max_tokens_per_word", exact(section.max_tokens_per_word), 1.0, 32.0)?;
    sampling("section.sampling", &section.sampling)?;
    within("context.max_tokens", context.max_tokens.into(), 0.0, 1_000_000.0)?;
    if rolling.max_words > 0 {
        within("rolling.max_words", rolling.max_words.into(), 100.0, 1_000_000.0)?;
        within("rolling.keep_words", rolling.keep_words.into(), 0.0, (rolling.max_words - 1).into())?;
    }
    within("rolling.summary_words", rolling.summary_words.into(), 20.0, 9_999.0)?;
    within("rolling.plan_steps", rolling.plan_steps.into(), 0.0, 200.0)?;
    within("judge.votes", judge.votes.into(), 0.0, 32.0)?;
    within("judge.min", judge.min, 0.0, 100.0)?;
    if judge.votes == 0 && judge.min > 0.0 {
        let range = "0 while `judge.votes` is 0".to_owned();
        return Err(("judge.min".into(), judge.min.to_string(), range));
    }
    within("judge.max_tokens", judge.max_tokens.into(), 64.0, 131_072.0)?;
    sampling("judge.sampling", &judge.sampling)?;
    within("retry.max_errors", retry.max_errors.into(), 1.0, 100.0)?;
    within("retry.max_losses", retry.max_losses.into(), 1.0, 100.0)?;
    within("retry.backoff_ms", retry.backoff_ms as f64, 1.0, 3_600_000.0)?;
    within("retry.max_backoff_ms", retry.max_backoff_ms as f64, retry.backoff_ms as f64, 86_400_000.0)
}

fn sampling(at: &str, sampling: &Sampling) -> Result<(), OutOfRange> {
    let Sampling { temperature, top_k, top_p, min_p, repetition_penalty, penalty_window, no_repeat_ngram, .. } =
        *sampling;
    let Sampling { dry_multiplier, dry_base, dry_allowed_length, dry_penalty_last_n, .. } = *sampling;
    let values = [
        ("temperature", exact(temperature), SamplingKey::Temperature.range()),
        ("top_k", top_k.into(), SamplingKey::TopK.range()),
        ("top_p", exact(top_p), SamplingKey::TopP.range()),
        ("min_p", exact(min_p), SamplingKey::MinP.range()),
        ("repetition_penalty", exact(repetition_penalty), SamplingKey::RepetitionPenalty.range()),
        ("penalty_window", penalty_window.into(), (0.0, 131_072.0)),
        ("no_repeat_ngram", no_repeat_ngram.into(), (0.0, 1_000.0)),
        ("dry_multiplier", exact(dry_multiplier), (0.0, 100.0)),
        ("dry_base", exact(dry_base), (1.0, 10.0)),
        ("dry_allowed_length", dry_allowed_length.into(), (1.0, 1_000.0)),
        ("dry_penalty_last_n", dry_penalty_last_n.into(), (0.0, 131_072.0)),
    ];
    for (key, value, (least, most)) in values {
        if !(least..=most).contains(&value) {
            return Err((format!("{at}.{key}"), value.to_string(), format!("{least} to {most}")));
        }
    }
    Ok(())
}

/// The number as it is written: `0.7` as an f32 is not `0.7` as an f64.
fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::NAN)
}
