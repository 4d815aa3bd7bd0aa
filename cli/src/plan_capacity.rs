//! `longhand plan-capacity`: estimates the GPUs, time and memory that a corpus takes. Pure arithmetic.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use serde::{Deserialize, Serialize};

use crate::gpus::{self, GPUS, Gpu, PROMPT, SECTION_WORDS, TOKENS_PER_WORD};

const HELP: &str = "\
Examples:
  longhand plan-capacity --documents 6000 --words 5000 \\
    --model Qwen3-8B/config.json --gpu h100
  longhand plan-capacity --documents 10000000 --words 5000 \\
    --model llama-3.1-8b --gpu h200 --gpus 64 --gpu-hour 2.50
  longhand plan-capacity --documents 6000 --words 5000 --model config.json \\
    --gpu h100 --tokens-per-second 4200

Without --tokens-per-second, the estimate assumes that each step reads all weights and the KV cache of all concurrent \
documents once, at the fraction of the memory bandwidth that was measured on this card with the nearest shape, or on another \
card if there is none. The output says which. Your own measurement is better: use `longhand bench engine`, or the tokens per \
second of a first run.";

/// Bytes in Redis per waiting document: see coordinator/BENCHMARKS.md.
const WAITING_BYTES: f64 = 1_500.0;
/// Bytes of a word of text.
const BYTES_PER_WORD: f64 = 6.5;
/// Bytes in Redis for each word of a document that ended, which has its sections and its whole text; and for each section, which
/// has its tokens, its times and its attempts.
const ENDED_BYTES_PER_WORD: f64 = 2.0 * BYTES_PER_WORD;
const SECTION_BYTES: f64 = 2_000.0;
/// Fraction of a card's bf16 that prefill reaches: 0.52 on an H100, 0.51 on an H200 (`8x4096+1`, 26 November 2026).
const PREFILL: f64 = 0.5;
/// Assumed commits per second of one coordinator with one Redis: see coordinator/BENCHMARKS.md.
const COMMITS_PER_SECOND: f64 = 3_000.0;

/// One line of worker/BENCHMARKS.md: decoding with that many streams, whose context grows to `context` and 128 tokens.
#[derive(Debug, Clone, Copy)]
struct Measured {
    gpu: &'static str,
    model: &'static str,
    weight_bytes: f64,
    kv_bytes: f64,
    streams: f64,
    context: f64,
    tokens_per_second: f64,
}

/// The day of all of them.
const MEASURED_ON: &str = "26 November 2026";
/// Streams from which on a line stands for a loaded card.
const LOADED: f64 = 32.0;

const fn measured(
    gpu: &'static str,
    model: &'static str,
    bytes: (f64, f64),
    shape: (f64, f64),
    speed: f64,
) -> Measured {
    let ((weight_bytes, kv_bytes), (streams, context)) = (bytes, shape);
    Measured { gpu, model, weight_bytes, kv_bytes, streams, context, tokens_per_second: speed }
}

const MEASURED: [Measured; 10] = [
    measured("h100", "llama-3.1-8b", (2.0, 2.0), (1.0, 1_024.0), 160.0),
    measured("h100", "llama-3.1-8b", (2.0, 2.0), (32.0, 1_024.0), 4_151.0),
    measured("h100", "llama-3.1-8b", (2.0, 2.0), (64.0, 1_024.0), 6_911.0),
    measured("h100", "llama-3.1-8b", (2.0, 2.0), (100.0, 4_096.0), 4_054.0),
    measured("h100", "llama-3.1-8b", (1.0, 2.0), (64.0, 1_024.0), 8_291.0),
    measured("h100", "llama-3.1-8b", (2.0, 1.0), (64.0, 1_024.0), 7_603.0),
    measured("h100", "llama-3.1-8b", (2.0, 1.0), (100.0, 4_096.0), 5_781.0),
    measured("h100", "qwen3-8b", (2.0, 2.0), (64.0, 2_048.0), 4_934.0),
    measured("h200", "llama-3.1-8b", (2.0, 2.0), (1.0, 1_024.0), 221.0),
    measured("h200", "llama-3.1-8b", (2.0, 2.0), (64.0, 1_024.0), 9_281.0),
];

impl Measured {
    /// Fraction of the card's bandwidth.
    fn efficiency(&self) -> f64 {
        let (Ok(config), Some(gpu)) = (config(self.model), GPUS.iter().find(|gpu| gpu.name == self.gpu)) else {
            return 0.0;
        };
        let kv = self.streams * (self.context + 64.0) * config.kv_values() * self.kv_bytes;
        let bytes = config.parameters() * self.weight_bytes + kv;
        bytes * self.tokens_per_second / self.streams / (gpu.bandwidth * 1e12)
    }

    /// How far it is from a shape: orders of magnitude, and other number formats.
    fn distance(&self, (weight_bytes, kv_bytes): (f64, f64), (streams, context): (f64, f64)) -> f64 {
        let formats = f64::from(u8::from(self.weight_bytes != weight_bytes) + u8::from(self.kv_bytes != kv_bytes));
        formats + (self.streams / streams).ln().abs() + (self.context / context).ln().abs()
    }
}

/// The fraction of the bandwidth to expect of a card with a shape, and where it is from.
fn efficiency(gpu: &Gpu, bytes: (f64, f64), shape: (f64, f64)) -> (f64, String) {
    let nearest = |card: &'static str| {
        let lines = MEASURED.iter().filter(move |line| line.gpu == card);
        lines.min_by(|a, b| a.distance(bytes, shape).total_cmp(&b.distance(bytes, shape)))
    };
    let here = nearest(gpu.name);
    let loaded: Vec<f64> = MEASURED.iter().filter(|it| it.streams >= LOADED).map(Measured::efficiency).collect();
    let Some(line) = here else {
        let lowest = loaded.iter().copied().fold(1.0, f64::min);
        let text = format!(
            "assumed: {lowest:.2} of the bandwidth, the least that was measured on h100 and h200; not on this card"
        );
        return (lowest, text);
    };
    let share = line.efficiency();
    let text = format!(
        "{share:.2} of the bandwidth, as on one {} on {MEASURED_ON}: {} tokens/s with {}'s shape, {} streams at {} tokens, \
         {} bytes per weight, {} per value of the KV cache",
        line.gpu,
        grouped(line.tokens_per_second as u64),
        line.model,
        line.streams,
        grouped(line.context as u64),
        line.weight_bytes,
        line.kv_bytes
    );
    (share, text)
}

/// The corpus, the model and the GPUs.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CapacityArgs {
    /// Documents to write
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    documents: u64,

    /// Mean words per document
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    words: u64,

    /// The model's config.json, its folder, or one of llama-3.1-8b, qwen3-8b, qwen3-30b-a3b, smollm2-135m
    #[arg(long, value_name = "CONFIG")]
    model: String,

    /// GPU type: a100, a100-40, l40s, rtx4090, rtx6000-ada, h100, h200 or b200
    #[arg(long, value_name = "NAME")]
    gpu: String,

    /// Number of GPUs [default: enough to write the corpus within a day]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    gpus: Option<u64>,

    /// Measured tokens per second of one fully loaded GPU, instead of the estimate
    #[arg(long, value_name = "N")]
    tokens_per_second: Option<f64>,

    /// Fraction of the memory bandwidth that decoding reaches [default: as measured, see above]
    #[arg(long, value_name = "FRACTION")]
    efficiency: Option<f64>,

    /// Fraction of the documents that the filters accept
    #[arg(long, value_name = "FRACTION", default_value_t = 0.9)]
    accepted: f64,

    /// Price of one GPU hour
    #[arg(long, value_name = "PRICE")]
    gpu_hour: Option<f64>,

    /// Bytes per weight: 2 for bf16, 1 for fp8
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    weight_bytes: f64,

    /// Bytes per value of the KV cache: 2 for bf16, 1 for fp8
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    kv_bytes: f64,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The shape of a model, as far as it decides the cost.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
struct Config {
    num_hidden_layers: f64,
    hidden_size: f64,
    intermediate_size: f64,
    num_attention_heads: f64,
    num_key_value_heads: Option<f64>,
    head_dim: Option<f64>,
    vocab_size: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    /// Of a layer of a mixture of experts, under one of two names.
    num_experts: Option<f64>,
    num_local_experts: Option<f64>,
    num_experts_per_tok: Option<f64>,
    /// The feed-forward width if it is not stated.
    moe_intermediate_size: Option<f64>,
    mlp_only_layers: Option<Vec<u64>>,
    decoder_sparse_step: Option<u64>,
}

/// The experts of a model.
#[derive(Debug, Clone, Copy)]
struct Experts {
    layers: f64,
    count: f64,
    used: f64,
    /// Parameters of one.
    parameters: f64,
}

impl Config {
    fn experts(&self) -> Option<Experts> {
        let (count, used) = (self.num_experts.or(self.num_local_experts)?, self.num_experts_per_tok?);
        let (dense, step) = (self.mlp_only_layers.as_deref().unwrap_or(&[]), self.decoder_sparse_step.unwrap_or(1));
        let has_experts = |layer: &u64| !dense.contains(layer) && (layer + 1).is_multiple_of(step);
        let layers = (0..self.num_hidden_layers as u64).filter(has_experts).count() as f64;
        let width = self.moe_intermediate_size.unwrap_or(self.intermediate_size);
        Some(Experts { layers, count, used, parameters: 3.0 * self.hidden_size * width })
    }

    fn head_dim(&self) -> f64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    fn kv_heads(&self) -> f64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn parameters(&self) -> f64 {
        let (query, kv) = (self.num_attention_heads * self.head_dim(), self.kv_heads() * self.head_dim());
        let attention = self.hidden_size * (2.0 * query + 2.0 * kv);
        let tables = if self.tie_word_embeddings { 1.0 } else { 2.0 };
        let experts = self.experts();
        let dense_layers = self.num_hidden_layers - experts.map_or(0.0, |of| of.layers);
        self.num_hidden_layers * attention
            + dense_layers * 3.0 * self.hidden_size * self.intermediate_size
            + experts.map_or(0.0, |of| of.layers * of.count * (of.parameters + self.hidden_size))
            + tables * self.hidden_size * self.vocab_size
    }

    /// What a token is multiplied with.
    fn active_parameters(&self) -> f64 {
        self.parameters() - self.experts().map_or(0.0, |of| of.layers * (of.count - of.used) * of.parameters)
    }

    /// What a step of so many tokens reads: of experts those that at least one token passes through, if all are as likely.
    fn parameters_read(&self, tokens: f64) -> f64 {
        let unread = |of: Experts| of.layers * of.count * (1.0 - of.used / of.count).powf(tokens) * of.parameters;
        self.parameters() - self.experts().map_or(0.0, unread)
    }

    /// Values per token in the KV cache.
    fn kv_values(&self) -> f64 {
        2.0 * self.num_hidden_layers * self.kv_heads() * self.head_dim()
    }
}

/// The estimate.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Capacity {
    parameters: f64,
    /// For a token.
    active_parameters: f64,
    mixture_of_experts: bool,
    weights_gb: f64,
    kv_kb_per_token: f64,
    /// Of a finished document.
    kv_mb_per_document: f64,
    /// On one GPU.
    documents_in_work: u64,
    tokens_per_second: f64,
    measured: bool,
    /// Where the speed is from.
    basis: String,
    tokens: f64,
    gpu_hours: f64,
    gpus: u64,
    hours: f64,
    price: Option<f64>,
    price_per_million_words: Option<f64>,
    commits_per_second: f64,
    /// When all documents have ended and none was archived: texts stay until then.
    redis_mb: f64,
    /// When none has begun.
    redis_waiting_mb: f64,
    /// Of a coordinator's `--archive`, beside Redis.
    archive_gb: f64,
    corpus_gb: f64,
}

/// Prints the estimate.
pub(crate) fn plan(args: &CapacityArgs) -> Result<Code> {
    let config = config(&args.model)?;
    let name = args.gpu.to_ascii_lowercase();
    let gpu = GPUS.iter().find(|gpu| gpu.name == name).ok_or_else(|| {
        let known: Vec<_> = GPUS.iter().map(|gpu| gpu.name).collect();
        Failure::refused(format!("invalid --gpu {}: expected one of {}", args.gpu, known.join(", ")))
    })?;
    for (flag, share) in [("--efficiency", args.efficiency.unwrap_or(1.0)), ("--accepted", args.accepted)] {
        if !(share > 0.0 && share <= 1.0) {
            return Err(Failure::refused(format!("invalid {flag} {share}: expected a number above 0 and at most 1")));
        }
    }
    let capacity = estimate(args, &config, gpu).map_err(Failure::refused)?;
    output::print(args.json, &capacity, || table(args, gpu, &capacity))?;
    Ok(Code::Ok)
}

/// A built-in shape, or one read from a file.
fn config(name: &str) -> Result<Config> {
    let shape = |layers, hidden, ffn, heads, kv_heads, head_dim, vocab, tied| Config {
        num_hidden_layers: layers,
        hidden_size: hidden,
        intermediate_size: ffn,
        num_attention_heads: heads,
        num_key_value_heads: Some(kv_heads),
        head_dim: Some(head_dim),
        vocab_size: vocab,
        tie_word_embeddings: tied,
        ..Config::default()
    };
    match &*name.to_ascii_lowercase() {
        "llama-3.1-8b" => return Ok(shape(32.0, 4096.0, 14336.0, 32.0, 8.0, 128.0, 128_256.0, false)),
        "qwen3-8b" => return Ok(shape(36.0, 4096.0, 12288.0, 32.0, 8.0, 128.0, 151_936.0, false)),
        "qwen3-30b-a3b" => {
            let shape = shape(48.0, 2048.0, 6144.0, 32.0, 4.0, 128.0, 151_936.0, false);
            let (num_experts, num_experts_per_tok, width) = (Some(128.0), Some(8.0), Some(768.0));
            return Ok(Config { num_experts, num_experts_per_tok, moe_intermediate_size: width, ..shape });
        }
        "smollm2-135m" => return Ok(shape(30.0, 576.0, 1536.0, 9.0, 3.0, 64.0, 49_152.0, true)),
        _ => {}
    }
    let path = Path::new(name);
    let path = if path.is_dir() { path.join("config.json") } else { PathBuf::from(path) };
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::refused(format!("--model {}: {e}; expected a config.json, or a name listed by --help", path.display()))
    })?;
    serde_json::from_str(&text).map_err(|e| {
        Failure::refused(format!("--model {}: {e}; expected the config.json of a language model", path.display()))
    })
}

fn estimate(args: &CapacityArgs, config: &Config, gpu: &Gpu) -> Result<Capacity, String> {
    let (documents, words) = (args.documents as f64, args.words as f64);
    let parameters = config.parameters();
    let weights = parameters * args.weight_bytes;
    let kv = config.kv_values() * args.kv_bytes;
    let text = words * TOKENS_PER_WORD;
    let kv_document = kv * (PROMPT + text);
    let in_work = gpus::documents(gpu.room(weights), kv, words);
    if in_work < 1.0 {
        return Err(format!(
            "a {} with {} GB is too small: weights take {:.1} GB and one document {:.2} GB; use a larger GPU, fp8 \
             (--weight-bytes 1 --kv-bytes 1) or shorter documents",
            gpu.name,
            gpu.memory,
            weights / 1e9,
            kv_document / 1e9
        ));
    }
    // No more than there are documents, or than an engine runs concurrently.
    let in_work = in_work.min(documents).min(4_096.0);
    let context = PROMPT + text / 2.0;
    let bytes = config.parameters_read(in_work) * args.weight_bytes + in_work * kv * context;
    let (share, basis) = match (args.tokens_per_second, args.efficiency) {
        (Some(_), given) => (given.unwrap_or(1.0), "as given with --tokens-per-second".to_owned()),
        (None, Some(given)) => (given, format!("{given} of the bandwidth, as given with --efficiency")),
        (None, None) => efficiency(gpu, (args.weight_bytes, args.kv_bytes), (in_work, context)),
    };
    let memory_time = bytes / (gpu.bandwidth * 1e12 * share);
    let active = config.active_parameters();
    let compute_time = 2.0 * active * in_work / (gpu.tflops * 1e12 * share);
    let speed = args.tokens_per_second.unwrap_or(in_work / memory_time.max(compute_time));
    // Each section adds about 100 prompt tokens; each plan is prefilled once.
    let sections = (words / SECTION_WORDS).ceil();
    let tokens = documents * (text + PROMPT / 3.0);
    let prefill = documents * (PROMPT + sections * 100.0) * 2.0 * active / (gpu.tflops * 1e12 * PREFILL);
    let seconds = tokens / speed + prefill;
    let gpus = args.gpus.unwrap_or_else(|| (seconds / 86_400.0).ceil().max(1.0) as u64);
    let hours = seconds / 3_600.0 / gpus as f64;
    let price = args.gpu_hour.map(|price| price * seconds / 3_600.0);
    Ok(Capacity {
        parameters,
        active_parameters: active,
        mixture_of_experts: config.experts().is_some(),
        weights_gb: weights / 1e9,
        kv_kb_per_token: kv / 1e3,
        kv_mb_per_document: kv_document / 1e6,
        documents_in_work: in_work as u64,
        tokens_per_second: speed,
        measured: args.tokens_per_second.is_some(),
        basis,
        tokens,
        gpu_hours: seconds / 3_600.0,
        gpus,
        hours,
        price,
        price_per_million_words: price.map(|price| price / (documents * words * args.accepted / 1e6)),
        commits_per_second: documents * (sections + 1.0) / (hours * 3_600.0),
        redis_mb: documents * (WAITING_BYTES + words * ENDED_BYTES_PER_WORD + (sections + 1.0) * SECTION_BYTES) / 1e6,
        redis_waiting_mb: documents * WAITING_BYTES / 1e6,
        archive_gb: documents * args.accepted * words * BYTES_PER_WORD * 2.0 / 1e9,
        corpus_gb: documents * args.accepted * words * BYTES_PER_WORD * 2.2 / 1e9,
    })
}

fn table(args: &CapacityArgs, gpu: &Gpu, it: &Capacity) -> String {
    let active = match it.mixture_of_experts {
        true => format!(" ({:.2} billion active for a token)", it.active_parameters / 1e9),
        false => String::new(),
    };
    let mut rows = vec![
        ("model", format!("{:.2} billion parameters{active}, {:.1} GB of weights", it.parameters / 1e9, it.weights_gb)),
        ("KV cache", format!("{:.0} kB per token, {:.0} MB per document", it.kv_kb_per_token, it.kv_mb_per_document)),
        ("per GPU", format!("{} at a time", plural(it.documents_in_work, "document"))),
        ("speed per GPU", format!("{} tokens/s", grouped(it.tokens_per_second as u64))),
        ("  basis", it.basis.clone()),
        ("total", format!("{:.0} million tokens, {:.1} GPU hours", it.tokens / 1e6, it.gpu_hours)),
        ("GPUs", format!("{} {}, {:.1} hours", grouped(it.gpus), gpu.name, it.hours)),
    ];
    if it.mixture_of_experts {
        let why = "the built-in engine runs mixtures of experts on the CPU only: on GPUs, serve the model with vLLM and use \
                   --engine openai";
        rows.push(("engine", why.into()));
    }
    if let (Some(price), Some(words)) = (it.price, it.price_per_million_words) {
        rows.push(("price", format!("{price:.0}, {words:.2} per million accepted words")));
    }
    let [waiting, ended] = [it.redis_waiting_mb, it.redis_mb].map(|mb| grouped(mb.ceil() as u64));
    rows.push((
        "Redis",
        format!("{waiting} MB at first, {ended} MB when all is written; {:.1} commits/s", it.commits_per_second),
    ));
    rows.push(("", "texts stay in it until `longhand archive`".into()));
    rows.push((
        "with --archive",
        format!("{:.1} GB more on disk, as a copy if Redis is lost; Redis needs the same", it.archive_gb),
    ));
    rows.push(("corpus on disk", format!("{:.1} GB (JSONL and Parquet)", it.corpus_gb)));
    rows.push(("limiting factor", limiting_factor(args, it)));
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, text)| format!("{name:<width$}  {text}")).collect::<Vec<_>>().join("\n")
}

fn limiting_factor(args: &CapacityArgs, it: &Capacity) -> String {
    if it.commits_per_second > COMMITS_PER_SECOND / 2.0 {
        return format!(
            "Redis: one instance commits about {} per second; split the corpus into runs with a Redis each",
            grouped(COMMITS_PER_SECOND as u64)
        );
    }
    if it.redis_mb > 16_000.0 {
        return "Redis memory: submit several runs and archive each when it has ended (`longhand archive`), or use a Redis Cluster"
            .into();
    }
    if it.documents_in_work < 16 {
        return "KV cache: use fp8 (--kv-bytes 1), or a GPU with more memory".into();
    }
    if it.documents_in_work * it.gpus > args.documents {
        return "documents: too few for this many GPUs, which will be partly idle".into();
    }
    "GPU hours: the time scales with the number of GPUs".into()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: CapacityArgs,
    }

    fn plan(more: &str) -> Result<Capacity, String> {
        let line = format!("x --documents 6000 --words 5000 --model llama-3.1-8b --gpu h100 {more}");
        let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
        estimate(&args, &config(&args.model).unwrap(), &GPUS[5])
    }

    #[test]
    fn built_in_models_have_their_known_size() {
        assert!((config("llama-3.1-8b").unwrap().parameters() / 8.03e9 - 1.0).abs() < 0.01);
        assert!((config("qwen3-8b").unwrap().parameters() / 8.19e9 - 1.0).abs() < 0.01);
        assert!((config("smollm2-135m").unwrap().parameters() / 134.5e6 - 1.0).abs() < 0.01);
        // Of 30.5 billion parameters a token meets 3.3 billion; a step of many tokens reads nearly all.
        let mixture = config("qwen3-30b-a3b").unwrap();
        assert!((mixture.parameters() / 30.53e9 - 1.0).abs() < 0.01, "{}", mixture.parameters());
        assert!((mixture.active_parameters() / 3.35e9 - 1.0).abs() < 0.01, "{}", mixture.active_parameters());
        assert!((mixture.parameters_read(1.0) / mixture.active_parameters() - 1.0).abs() < 1e-9);
        assert!((0.98..1.0).contains(&(mixture.parameters_read(64.0) / mixture.parameters())));
        // 128 KiB a token for Llama-3.1-8B in bf16.
        assert_eq!(config("llama-3.1-8b").unwrap().kv_values() * 2.0, 131_072.0);
    }

    #[test]
    fn an_estimate_agrees_with_what_was_measured() {
        for line in MEASURED {
            let (config, gpu) = (config(line.model).unwrap(), GPUS.iter().find(|gpu| gpu.name == line.gpu).unwrap());
            let (share, basis) = efficiency(gpu, (line.weight_bytes, line.kv_bytes), (line.streams, line.context));
            let kv = line.streams * (line.context + 64.0) * config.kv_values() * line.kv_bytes;
            let bytes = config.parameters() * line.weight_bytes + kv;
            let speed = line.streams * gpu.bandwidth * 1e12 * share / bytes;
            assert!((speed / line.tokens_per_second - 1.0).abs() < 0.01, "{line:?}: {speed}");
            assert!((0.5..0.95).contains(&share) && basis.contains(line.gpu), "{basis}");
        }
        // 79 documents of 5,000 words at a time: near the line with 100 streams at 4k.
        let plan = plan("").unwrap();
        assert!((3_400.0..4_100.0).contains(&plan.tokens_per_second), "{}", plan.tokens_per_second);
        assert!(plan.basis.contains("4,054 tokens/s"), "{}", plan.basis);
        let (share, basis) = efficiency(&GPUS[2], (2.0, 2.0), (64.0, 1_024.0));
        assert!(basis.contains("not on this card") && share < 0.8, "{share} {basis}");
    }

    #[test]
    fn whole_texts_are_counted_in_redis() {
        let plan = plan("").unwrap();
        // 6,000 documents of 5,000 words in 11 tasks each, their text twice.
        assert!((plan.redis_mb - 6_000.0 * (1_500.0 + 65_000.0 + 22_000.0) / 1e6).abs() < 1.0, "{}", plan.redis_mb);
        assert_eq!(plan.redis_waiting_mb, 9.0);
    }

    #[test]
    fn a_mixture_of_experts_is_planned_for_a_server() {
        let plan = |model: &str| {
            let line = format!("x --documents 6000 --model {model} --gpu h200");
            let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
            let it = estimate(&args, &config(&args.model).unwrap(), &GPUS[6]).unwrap();
            table(&args, &GPUS[6], &it)
        };
        let text = plan("qwen3-30b-a3b");
        assert!(text.contains("billion active") && text.contains("--engine openai"), "{text}");
        assert!(!plan("qwen3-8b").contains("--engine openai"));
    }

    #[test]
    fn more_gpus_take_less_time_and_the_same_gpu_hours() {
        let (one, eight) = (plan("--gpus 1").unwrap(), plan("--gpus 8").unwrap());
        assert_eq!(one.gpu_hours, eight.gpu_hours);
        assert!((one.hours / eight.hours - 8.0).abs() < 1e-9);
        assert!(eight.commits_per_second > one.commits_per_second);
    }

    #[test]
    fn a_measured_speed_replaces_the_estimate() {
        let measured = plan("--tokens-per-second 1000 --gpu-hour 2").unwrap();
        assert!(measured.measured);
        let decoding = measured.tokens / 1_000.0 / 3_600.0;
        assert!(measured.gpu_hours > decoding && measured.gpu_hours < decoding * 1.05);
        assert!((measured.price.unwrap() / measured.gpu_hours - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_gpu_that_is_too_small_is_rejected_with_a_remedy() {
        let line = "x --documents 10 --words 5000 --model llama-3.1-8b --gpu rtx4090 --weight-bytes 4";
        let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
        let error = estimate(&args, &config(&args.model).unwrap(), &GPUS[3]).unwrap_err();
        assert!(error.contains("fp8"), "{error}");
    }
}
