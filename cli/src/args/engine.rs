//! The engine of a worker.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use longhand_command::byte_size::ByteSize;
use longhand_command::device::DeviceArgs;
use longhand_worker::client::Price;

/// The engine of a worker: the model, where it runs, and how much at a time.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub(crate) struct EngineArgs {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors; with --engine openai, the model's name on the server
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    pub(crate) model: Option<PathBuf>,

    /// Chat template (Jinja) to use instead of the model's own
    #[arg(long, value_name = "FILE", env = "LONGHAND_CHAT_TEMPLATE")]
    pub(crate) chat_template: Option<PathBuf>,

    /// Engine that generates the text
    #[arg(long, value_enum, default_value_t = EngineKind::Local, env = "LONGHAND_ENGINE")]
    pub(crate) engine: EngineKind,

    /// Base URL of the server for --engine openai, such as http://127.0.0.1:8000/v1
    #[arg(long, value_name = "URL", env = "LONGHAND_BASE_URL")]
    pub(crate) base_url: Option<String>,

    /// Environment variable that holds the API key of that server
    #[arg(long, value_name = "VARIABLE", env = "LONGHAND_API_KEY_ENV")]
    pub(crate) api_key_env: Option<String>,

    /// Tokens per second and document of the mock engine; 0 for no delay
    #[arg(long, value_name = "N", default_value_t = 0.0, env = "LONGHAND_MOCK_TOKENS_PER_SECOND", hide = true)]
    pub(crate) mock_tokens_per_second: f64,

    /// Number of tasks after which the mock engine fails as if the device were lost
    #[arg(long, value_name = "N", env = "LONGHAND_MOCK_DIE_AFTER", hide = true)]
    pub(crate) mock_die_after: Option<u32>,

    /// Price of an hour of this worker (its GPUs, or its machine), for the cost of a run
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = price, env = "LONGHAND_GPU_HOUR_PRICE")]
    pub(crate) gpu_hour_price: f64,

    /// Price of a million tokens of prompts and texts on the server of --engine openai
    #[arg(long, value_name = "PRICE", default_value_t = 0.0, value_parser = price, env = "LONGHAND_TOKEN_PRICE")]
    pub(crate) token_price: f64,

    #[command(flatten)]
    pub(crate) device: DeviceArgs,

    /// Memory for the KV cache, such as 512MiB or 2GiB [default: on the CPU what the concurrent documents need, at most a
    /// quarter of the available memory; on a GPU what --gpu-memory-utilization leaves]
    #[arg(long, value_name = "SIZE", env = "LONGHAND_KV_MEMORY")]
    pub(crate) kv_memory: Option<ByteSize>,

    /// Documents to write concurrently [default: as many as fit into the KV cache, at most 16 on the CPU and 256 on a GPU]
    #[arg(long, value_name = "N", env = "LONGHAND_MAX_SEQUENCES", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_sequences: Option<u32>,
}

impl EngineArgs {
    /// What the worker costs.
    pub(crate) fn price(&self) -> Price {
        Price { per_hour: self.gpu_hour_price, per_million_tokens: self.token_price }
    }
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(price) if (0.0..=1e9).contains(&price) => Ok(price),
        _ => Err(format!("invalid price {text:?}: expected a number such as 2.50")),
    }
}

/// What generates the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineKind {
    /// The model given by --model, on this machine
    Local,
    /// A server with an OpenAI-compatible API, given by --base-url: vLLM, SGLang, llama.cpp and others
    #[value(name = "openai")]
    OpenAi,
    /// For tests: deterministic filler words, without a model; the corpus is useless
    Mock,
}
