//! `longhand plan-capacity`: estimates the GPUs, time and memory that a corpus takes. Pure arithmetic.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use serde::{Deserialize, Serialize};

use crate::gpus::{self, GPUS, Gpu, PROMPT, SECTION_WORDS, TOKENS_PER_WORD};

const HELP: &str = "\
Examples:
  longhand plan-capacity --documents 6000 --words 5000 --model Qwen3-8B/config.json --gpu h100
  longhand plan-capacity --documents 10000000 --words 5000 --model llama-3.1-8b --gpu h200 --gpus 64 --gpu-hour 2.50
  longhand plan-capacity --documents 6000 --words 5000 --model config.json --gpu h100 --tokens-per-second 4200

Without --tokens-per-second, the estimate assumes that each step reads all weights and the KV cache of all concurrent
documents once, at the fraction of the memory bandwidth given by --efficiency. A measured speed is better: use `longhand
bench engine`, or the tokens per second of a first run.";

/// Assumed bytes in Redis: per waiting document, and per word of a document in progress.
const WAITING_BYTES: f64 = 1_500.0;
const BYTES_PER_WORD: f64 = 6.5;
/// Assumed commits per second of one coordinator with one Redis: see coordinator/BENCHMARKS.md.
const COMMITS_PER_SECOND: f64 = 3_000.0;

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

    /// The model's config.json, its folder, or one of llama-3.1-8b, qwen3-8b, smollm2-135m
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

    /// Fraction of the memory bandwidth that decoding reaches
    #[arg(long, value_name = "FRACTION", default_value_t = 0.6)]
    efficiency: f64,

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
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
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
}

impl Config {
    fn head_dim(&self) -> f64 {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    fn kv_heads(&self) -> f64 {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    fn parameters(&self) -> f64 {
        let (query, kv) = (self.num_attention_heads * self.head_dim(), self.kv_heads() * self.head_dim());
        let layer = self.hidden_size * (2.0 * query + 2.0 * kv + 3.0 * self.intermediate_size);
        let tables = if self.tie_word_embeddings { 1.0 } else { 2.0 };
        self.num_hidden_layers * layer + tables * self.hidden_size * self.vocab_size
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
    weights_gb: f64,
    kv_kb_per_token: f64,
    /// Of a finished document.
    kv_mb_per_document: f64,
    /// On one GPU.
    documents_in_work: u64,
    tokens_per_second: f64,
    measured: bool,
    tokens: f64,
    gpu_hours: f64,
    gpus: u64,
    hours: f64,
    price: Option<f64>,
    price_per_million_words: Option<f64>,
    commits_per_second: f64,
    redis_mb: f64,
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
    for (flag, share) in [("--efficiency", args.efficiency), ("--accepted", args.accepted)] {
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
    };
    match &*name.to_ascii_lowercase() {
        "llama-3.1-8b" => return Ok(shape(32.0, 4096.0, 14336.0, 32.0, 8.0, 128.0, 128_256.0, false)),
        "qwen3-8b" => return Ok(shape(36.0, 4096.0, 12288.0, 32.0, 8.0, 128.0, 151_936.0, false)),
        "smollm2-135m" => return Ok(shape(30.0, 576.0, 1536.0, 9.0, 3.0, 64.0, 49_152.0, true)),
        _ => {}
    }
    let path = Path::new(name);
    let path = if path.is_dir() { path.join("config.json") } else { PathBuf::from(path) };
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Failure::refused(format!("--model {}: {e}; expected a config.json, or a name listed by --help", path.display()))
    })?;
    serde_json::from_str(&text).map_err(|e| {
        Failure::refused(format!("--model {}: {e}; expected the config.json of a dense model", path.display()))
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
    let bytes = weights + in_work * kv * (PROMPT + text / 2.0);
    let memory_time = bytes / (gpu.bandwidth * 1e12 * args.efficiency);
    let compute_time = 2.0 * parameters * in_work / (gpu.tflops * 1e12 * args.efficiency);
    let speed = args.tokens_per_second.unwrap_or(in_work / memory_time.max(compute_time));
    // Each section adds about 100 prompt tokens; each plan is prefilled once.
    let sections = (words / SECTION_WORDS).ceil();
    let tokens = documents * (text + PROMPT / 3.0);
    let prefill = documents * (PROMPT + sections * 100.0) * 2.0 * parameters / (gpu.tflops * 1e12 * 0.4);
    let seconds = tokens / speed + prefill;
    let gpus = args.gpus.unwrap_or_else(|| (seconds / 86_400.0).ceil().max(1.0) as u64);
    let hours = seconds / 3_600.0 / gpus as f64;
    let price = args.gpu_hour.map(|price| price * seconds / 3_600.0);
    let in_redis = (in_work * gpus as f64).min(documents);
    Ok(Capacity {
        parameters,
        weights_gb: weights / 1e9,
        kv_kb_per_token: kv / 1e3,
        kv_mb_per_document: kv_document / 1e6,
        documents_in_work: in_work as u64,
        tokens_per_second: speed,
        measured: args.tokens_per_second.is_some(),
        tokens,
        gpu_hours: seconds / 3_600.0,
        gpus,
        hours,
        price,
        price_per_million_words: price.map(|price| price / (documents * words * args.accepted / 1e6)),
        commits_per_second: documents * (sections + 1.0) / (hours * 3_600.0),
        redis_mb: (documents * WAITING_BYTES + in_redis * words * BYTES_PER_WORD) / 1e6,
        corpus_gb: documents * args.accepted * words * BYTES_PER_WORD * 2.2 / 1e9,
    })
}

fn table(args: &CapacityArgs, gpu: &Gpu, it: &Capacity) -> String {
    let basis = if it.measured { "measured" } else { "estimate" };
    let mut rows = vec![
        ("model", format!("{:.2} billion parameters, {:.1} GB of weights", it.parameters / 1e9, it.weights_gb)),
        ("KV cache", format!("{:.0} kB per token, {:.0} MB per document", it.kv_kb_per_token, it.kv_mb_per_document)),
        ("per GPU", format!("{} concurrent documents", grouped(it.documents_in_work))),
        ("speed per GPU", format!("{} tokens/s ({basis})", grouped(it.tokens_per_second as u64))),
        ("total", format!("{:.0} million tokens, {:.1} GPU hours", it.tokens / 1e6, it.gpu_hours)),
        ("GPUs", format!("{} {}, {:.1} hours", grouped(it.gpus), gpu.name, it.hours)),
    ];
    if let (Some(price), Some(words)) = (it.price, it.price_per_million_words) {
        rows.push(("price", format!("{price:.0}, {words:.2} per million accepted words")));
    }
    rows.push(("Redis", format!("{:.0} MB, {:.1} commits/s", it.redis_mb, it.commits_per_second)));
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
        return "Redis memory: submit several runs, or use a Redis Cluster (the keys of a run share one hash tag)"
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
        // 128 KiB a token for Llama-3.1-8B in bf16.
        assert_eq!(config("llama-3.1-8b").unwrap().kv_values() * 2.0, 131_072.0);
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
