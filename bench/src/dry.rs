//! `longhand bench dry`: what the DRY penalty costs the thread that drives the device, for each step.

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_proto::clock;
use longhand_proto::task::Sampling;
use longhand_worker::engine::dry::Dry;
use longhand_worker::engine::names::NameSet;
use longhand_worker::engine::vocabulary::Vocabulary;
use serde_json::json;

use crate::statistics::median;

/// Tokens of the vocabulary.
const VOCABULARY: u32 = 150_000;
/// Names that the texts keep to.
const NAMES: usize = 64;
/// Steps at the end of the texts that are measured.
const STEPS: usize = 500;

const HELP: &str = "\
Texts have words as frequent as in a natural language, and repeat passages of themselves. The last 500 tokens of each are \
measured, one step of the device after the other.

Example:
  longhand bench dry --sequences 64 --tokens 16000";

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DryBench {
    /// Sequences decoded at the same time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    sequences: u32,

    /// Tokens of each text, prompt included
    #[arg(long, value_name = "N", default_value_t = 8_000, value_parser = clap::value_parser!(u32).range(1_000..=131_072))]
    tokens: u32,

    /// Time of a step of the device that the cost is compared with
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10.0)]
    step_ms: f64,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

impl DryBench {
    pub(crate) fn run(self) -> Result<Code> {
        if self.step_ms.is_nan() || self.step_ms <= 0.0 {
            return Err(Failure::refused(format!("invalid --step-ms {}: expected more than 0", self.step_ms)));
        }
        let texts: Vec<Vec<u32>> =
            (0..self.sequences).map(|number| text(number.into(), self.tokens as usize)).collect();
        let sampling = Sampling { dry_multiplier: 0.8, ..Sampling::default() };
        // One token in twenty ends a sequence, as line ends and colons do.
        let vocabulary = Vocabulary::new(VOCABULARY as usize, |token| if token % 20 == 19 { b"\n" } else { b" a" });
        let names: Vec<String> = (0..NAMES).map(|number| format!("name {number}")).collect();
        let names = NameSet::new(&names);
        let start = texts[0].len() - STEPS;
        let new = |text: &Vec<u32>| Dry::new(&sampling, vocabulary.clone(), &text[..start]);
        let mut states: Vec<Dry> = texts.iter().filter_map(new).collect();
        let mut penalised = 0;
        let mut steps: Vec<f64> = Vec::with_capacity(STEPS);
        for at in start..texts[0].len() {
            let started = clock::now();
            for (state, text) in states.iter_mut().zip(&texts) {
                state.push(text[at]);
                let names = names.after("a name of a name");
                penalised += state.penalties(|_| names.writes_name(b" a")).len();
            }
            steps.push(clock::now().duration_since(started).as_secs_f64());
        }
        let (micros, longest) = (median(steps.iter().copied()) * 1e6, steps.iter().copied().fold(0.0, f64::max) * 1e6);
        let share = micros / self.step_ms / 10.0;
        let tokens = penalised as f64 / (STEPS * states.len()) as f64;
        let found = json!({ "sequences": self.sequences, "tokens": self.tokens, "microseconds": micros, "longest": longest,
                            "step_share": share / 100.0, "penalised": tokens });
        output::print(self.json, &found, || {
            format!(
                "{} sequences of {} tokens: {micros:.0} us a step ({longest:.0} at most), {share:.2} % of a step of {} ms; \
                 {tokens:.1} tokens penalised",
                self.sequences, self.tokens, self.step_ms
            )
        })?;
        Ok(Code::Ok)
    }
}

/// A text by Zipf's law, a twentieth of which repeats earlier passages.
fn text(seed: u64, len: usize) -> Vec<u32> {
    let mut state = seed;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut text: Vec<u32> = Vec::with_capacity(len);
    while text.len() < len {
        if text.len() > 100 && random() < 0.005 {
            let from = (random() * (text.len() - 20) as f64) as usize;
            text.extend_from_within(from..from + 10);
        } else {
            text.push(f64::from(VOCABULARY).powf(random()) as u32);
        }
    }
    text.truncate(len);
    text
}
