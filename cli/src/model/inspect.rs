//! `longhand model inspect`: what a model is, and where it fits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::memory;
use longhand_command::output::{self, grouped};
use longhand_proto::task::RecommendedSampling;
use longhand_worker::cuda;
use longhand_worker::model::{Model, ModelConfig, ModelError, Part, Thinking};
use serde::Serialize;

use crate::gpus::{self, GPUS};

const HELP: &str = "\
Examples:
  longhand model inspect model.gguf
  longhand model inspect Qwen3-8B --words 20000
  longhand model inspect model-00001-of-00003.gguf --json

The numbers of documents are estimates: of documents of --words words, at all stages of writing, with the weights in bf16 on a \
GPU and as in the file on the CPU, and keys and values in bf16.

Exit codes:
  0    the engine runs the model
  2    the model is refused; the message says why, and what to do";

/// The model to inspect.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct InspectArgs {
    /// GGUF file (of several parts the first), or folder with config.json and safetensors
    path: PathBuf,

    /// Words of a document, for the estimate of how many are written at the same time
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    words: u32,

    /// Chat template to use instead of the model's own
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What a model is.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    family: &'static str,
    layers: usize,
    width: usize,
    feed_forward_width: usize,
    /// Of a mixture of experts.
    experts: Option<ExpertShape>,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    vocabulary: usize,
    context: usize,
    recommended_sampling: RecommendedSampling,
    parameters: u64,
    /// What a token is multiplied with: of a mixture, the experts that it passes through alone.
    active_parameters: u64,
    /// Bytes by type of number.
    types: BTreeMap<&'static str, u64>,
    /// Bytes by part.
    parts: BTreeMap<&'static str, u64>,
    kv_bytes_per_token: u64,
    thinking: &'static str,
    end_of_text: Vec<String>,
    devices: Vec<Place>,
    /// Why no GPU runs it.
    refused_on_gpu: Option<String>,
}

/// The experts of a layer.
#[derive(Debug, Serialize)]
struct ExpertShape {
    count: usize,
    /// By each token.
    used: usize,
    width: usize,
}

/// A device, and how many documents it writes at the same time; 0 if the model does not fit.
#[derive(Debug, Serialize)]
struct Place {
    device: String,
    memory_gb: f64,
    documents: u64,
}

/// Most documents that a GPU writes at the same time, as `plan-capacity` assumes.
const MOST: f64 = 4_096.0;
/// Share of the CPU's memory for keys and values.
const CPU_SHARE: f64 = 0.25;

/// Prints what the model is; refuses if the engine would.
pub(super) fn inspect(args: &InspectArgs) -> Result<Code> {
    let model = Model::open_with(&args.path, args.chat_template.as_deref()).map_err(Failure::refused)?;
    let report = report(&model, f64::from(args.words)).map_err(Failure::refused)?;
    output::print(args.json, &report, || table(&report, args.words))?;
    Ok(Code::Ok)
}

fn report(model: &Model, words: f64) -> Result<Report, ModelError> {
    let config = model.config();
    let (mut types, mut parts, mut parameters, mut of_experts) = (BTreeMap::new(), BTreeMap::new(), 0, 0);
    for (weight, info) in model.weights() {
        let bytes = info.range.len() as u64;
        *types.entry(info.dtype.name()).or_default() += bytes;
        *parts.entry(part(weight.part())).or_default() += bytes;
        let numbers = info.shape.iter().product::<usize>() as u64;
        parameters += numbers;
        of_experts += if weight.part() == Part::Experts { numbers } else { 0 };
    }
    let experts = config.experts.as_ref().map(|of| ExpertShape { count: of.count, used: of.used, width: of.ffn });
    let unused = experts.as_ref().map_or(0, |of| of_experts / of.count as u64 * (of.count - of.used) as u64);
    let kv = 2 * 2 * config.layers * config.kv_heads * config.head_dim;
    let tokenizer = model.tokenizer();
    Ok(Report {
        name: model.name().to_owned(),
        family: config.family,
        layers: config.layers,
        width: config.dim,
        feed_forward_width: config.ffn,
        experts,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_width: config.head_dim,
        vocabulary: config.vocab,
        context: config.context,
        recommended_sampling: model.recommended_sampling(),
        parameters,
        active_parameters: parameters - unused,
        kv_bytes_per_token: kv as u64,
        thinking: match model.chat_template().thinking()? {
            Thinking::Unknown => "none",
            Thinking::Off => "switched off",
            Thinking::Always => "always: its thoughts become part of the text",
        },
        end_of_text: tokenizer.eos().iter().map(|token| tokenizer.token_text(*token)).collect(),
        devices: places(config, types.values().sum(), parameters as f64, kv as f64, words),
        refused_on_gpu: cuda::unsupported(config),
        types,
        parts,
    })
}

fn part(part: Part) -> &'static str {
    match part {
        Part::Embedding => "embedding",
        Part::Attention => "attention",
        Part::FeedForward => "feed-forward",
        Part::Router => "routers",
        Part::Experts => "experts",
        Part::Norms => "norms",
        Part::Head => "output head",
    }
}

/// This machine's CPU, and all GPUs that the estimates know.
fn places(config: &ModelConfig, file_bytes: u64, parameters: f64, kv: f64, words: f64) -> Vec<Place> {
    let fit = |room: f64| gpus::documents(room, kv, words).min(MOST) as u64;
    let memory = memory::available().unwrap_or(0) as f64;
    let on_cpu = if memory > file_bytes as f64 { fit((memory - file_bytes as f64).min(memory * CPU_SHARE)) } else { 0 };
    let cpu = Place { device: "cpu (this machine)".into(), memory_gb: memory / 1e9, documents: on_cpu };
    let known = if cuda::unsupported(config).is_none() { &GPUS[..] } else { &[] };
    let weights = parameters * 2.0;
    let on_gpus = known.iter().map(|gpu| Place {
        device: gpu.name.to_owned(),
        memory_gb: gpu.memory,
        documents: fit(gpu.room(weights)),
    });
    std::iter::once(cpu).chain(on_gpus).collect()
}

fn table(it: &Report, words: u32) -> String {
    let megabytes = |bytes: &BTreeMap<&'static str, u64>| {
        let each = bytes.iter().map(|(name, bytes)| format!("{name} {:.1} MB", *bytes as f64 / 1e6));
        each.collect::<Vec<_>>().join(", ")
    };
    let billions = |parameters: u64| format!("{:.2} billion", parameters as f64 / 1e9);
    let (feed_forward, parameters) = match &it.experts {
        None => (format!("feed-forward {}", it.feed_forward_width), billions(it.parameters)),
        Some(ExpertShape { count, used, width }) => (
            format!("{count} experts {width} wide, {used} of them used by a token"),
            format!("{}, {} of them active for a token", billions(it.parameters), billions(it.active_parameters)),
        ),
    };
    let heads = format!("{} heads on {} KV heads, {} wide", it.heads, it.kv_heads, it.head_width);
    let mut rows = vec![
        ("model", it.name.clone()),
        ("family", it.family.to_owned()),
        ("shape", format!("{} layers, {} wide, {feed_forward}, {heads}", it.layers, it.width)),
        ("parameters", parameters),
        ("context", format!("{} tokens", grouped(it.context as u64))),
        ("types", megabytes(&it.types)),
        ("parts", megabytes(&it.parts)),
        ("KV cache", format!("{:.1} kB per token in bf16", it.kv_bytes_per_token as f64 / 1e3)),
        (
            "vocabulary",
            format!("{} tokens, a text ends with {}", grouped(it.vocabulary as u64), it.end_of_text.join(" or ")),
        ),
        ("thinking", it.thinking.to_owned()),
        ("recommended sampling", it.recommended_sampling.to_string()),
    ];
    if let Some(why) = &it.refused_on_gpu {
        rows.push(("GPUs", format!("refused: {why}")));
    }
    for place in &it.devices {
        let fits = match place.documents {
            0 => "does not fit".into(),
            count => format!("{} documents of {} words at a time", grouped(count), grouped(words.into())),
        };
        rows.push((&place.device, format!("{:.0} GB: {fits}", place.memory_gb)));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().map(|(name, text)| format!("{name:<width$}  {text}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open(name: &str) -> Model {
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/tests/fixtures/tiny");
        Model::open(&tiny.join(name)).unwrap()
    }

    #[test]
    fn a_model_is_reported_as_what_its_files_hold() {
        let it = report(&open("k_mix.gguf"), 5_000.0).unwrap();
        assert_eq!((it.family, it.layers, it.heads, it.kv_heads, it.vocabulary), ("llama", 1, 8, 1, 288));
        assert_eq!(it.types.keys().copied().collect::<Vec<_>>(), ["F32", "Q4_0", "Q4_K", "Q5_K", "Q6_K"]);
        assert_eq!(it.parts.values().sum::<u64>(), it.types.values().sum::<u64>());
        assert_eq!(it.parts["embedding"], 288 * 256 / 32 * 18);
        assert_eq!(it.end_of_text, ["<|im_end|>", "<|endoftext|>"]);
        // Keys and values of one head of 32, in 2 bytes each.
        assert_eq!(it.kv_bytes_per_token, 2 * 32 * 2);
        assert!(it.devices.iter().all(|place| place.documents > 0), "{:?}", it.devices);
        let text = table(&it, 5_000);
        assert!(text.contains("8 heads on 1 KV heads") && text.contains("h100") && text.contains("Q4_K"), "{text}");
    }

    #[test]
    fn a_mixture_of_experts_has_parts_of_its_own_and_fewer_active_parameters() {
        let model = open("qwen3-moe-k_mix.gguf");
        let it = report(&model, 5_000.0).unwrap();
        // Eight experts of three matrices of 256 x 64, two of them used.
        let expert = 3 * 256 * 64;
        assert_eq!(it.parameters - it.active_parameters, 6 * expert);
        assert_eq!(it.parts["routers"], 8 * 256 * 4);
        // Gate and up in Q4_K, down in Q5_0.
        assert_eq!(it.parts["experts"], 8 * (2 * 256 * 64 / 256 * 144 + 256 * 64 / 32 * 22));
        assert!(!it.parts.contains_key("feed-forward") && it.devices.len() == 1, "{it:?}");
        let text = table(&it, 5_000);
        for part in ["8 experts 64 wide, 2 of them used", "active for a token", "mixtures of experts are not supported"]
        {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        let dense = report(&open("k_mix.gguf"), 5_000.0).unwrap();
        assert_eq!(dense.parameters, dense.active_parameters);
    }

    #[test]
    fn a_model_that_no_gpu_runs_says_why() {
        let mut config = open("llama").config().clone();
        config.head_dim = 48;
        let places = places(&config, 1, 1.0, 1.0, 5_000.0);
        assert_eq!(places.len(), 1, "the CPU alone");
        assert!(cuda::unsupported(&config).is_some_and(|why| why.contains("48")));
    }
}
