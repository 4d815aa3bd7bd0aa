//! The engine that a run's worker decodes with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longhand_worker::cpu::{CpuDevice, CpuOptions, kv_block_bytes};
use longhand_worker::device::BLOCK_TOKENS;
use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::engine::mock::{MockEngine, MockOptions};
use longhand_worker::engine::openai::{OpenAiEngine, OpenAiOptions};
use longhand_worker::model::Model;

use crate::args::{EngineArgs, EngineKind};
use crate::exit::{Failure, Result};
use crate::memory;

/// Tokens of one step: prompts are read in chunks of about this, between which the other documents get their tokens.
const BATCH_TOKENS: usize = 512;

/// Requests that a server is sent at the same time, unless it says that it has no room.
const REMOTE_SEQUENCES: u32 = 16;
/// Time without any text from a server after which the worker ends. Below the time after which a coordinator takes a
/// document away that makes no progress: that would be held against the document.
const REMOTE_PATIENCE: Duration = Duration::from_secs(300);

/// Loads the model that the arguments name.
pub(crate) async fn open(args: &EngineArgs) -> Result<Arc<dyn Engine>> {
    match args.engine {
        EngineKind::Local => {
            let settings = settings(args)?;
            // Reads and repacks all weights: seconds of work.
            let loaded = tokio::task::spawn_blocking(move || load(&settings)).await;
            loaded.map_err(|e| Failure::refused(format!("the model could not be loaded: {e}")))?
        }
        EngineKind::OpenAi => Ok(Arc::new(remote(args).await?)),
        EngineKind::Mock => {
            let mut options = MockOptions { tokens_per_second: args.mock_tokens_per_second, ..MockOptions::default() };
            if let Some(slots) = args.max_sequences {
                options.slots = slots;
            }
            Ok(Arc::new(MockEngine::new(options)))
        }
    }
}

async fn remote(args: &EngineArgs) -> Result<OpenAiEngine> {
    let Some(base_url) = args.base_url.clone() else {
        return Err(Failure::refused(
            "no server is named: give --base-url URL, such as http://127.0.0.1:8000/v1, or set LONGHAND_BASE_URL",
        ));
    };
    let key = |name: &String| {
        std::env::var(name).map_err(|e| Failure::refused(format!("--api-key-env {name}: {e}; want a key in it")))
    };
    let options = OpenAiOptions {
        base_url,
        model: args.model.as_ref().map(|name| name.to_string_lossy().into_owned()),
        api_key: args.api_key_env.as_ref().map(key).transpose()?.map(|key| key.trim().to_owned()),
        slots: args.max_sequences.unwrap_or(REMOTE_SEQUENCES),
        patience: REMOTE_PATIENCE,
    };
    OpenAiEngine::connect(options).await.map_err(Failure::refused)
}

/// A local engine for as many documents at a time, with KV memory for all of them.
pub(crate) async fn open_local(model: &Path, threads: usize, sequences: usize) -> Result<Arc<dyn Engine>> {
    let settings = Settings { model: model.to_owned(), threads: Some(threads), kv_memory: None, sequences };
    let loaded = tokio::task::spawn_blocking(move || load(&settings)).await;
    loaded.map_err(|e| Failure::refused(format!("the model could not be loaded: {e}")))?
}

#[derive(Debug)]
struct Settings {
    model: PathBuf,
    threads: Option<usize>,
    kv_memory: Option<u64>,
    sequences: usize,
}

fn settings(args: &EngineArgs) -> Result<Settings> {
    let Some(model) = args.model.clone() else {
        return Err(Failure::refused(
            "no model is named: give --model PATH (a GGUF file, or a Hugging Face folder), or set LONGHAND_MODEL",
        ));
    };
    Ok(Settings {
        model,
        threads: args.threads.map(|threads| threads as usize),
        kv_memory: args.kv_memory.map(|bytes| bytes.0),
        sequences: args.max_sequences.map_or(EngineOptions::default().max_sequences, |number| number as usize),
    })
}

fn load(settings: &Settings) -> Result<Arc<dyn Engine>> {
    let model = Model::open(&settings.model).map_err(Failure::refused)?;
    let kv_blocks = kv_blocks(&model, settings)?;
    let options = CpuOptions { threads: settings.threads, kv_blocks, max_batch_tokens: BATCH_TOKENS };
    let device = CpuDevice::load(&model, &options).map_err(Failure::refused)?;
    let options = EngineOptions { max_sequences: settings.sequences, ..EngineOptions::default() };
    let engine = LocalEngine::start(Arc::new(model), Box::new(device), &options).map_err(Failure::refused)?;
    Ok(Arc::new(engine))
}

fn kv_blocks(model: &Model, settings: &Settings) -> Result<usize> {
    let block = kv_block_bytes(model.config()) as u64;
    let blocks_each = model.config().context.div_ceil(BLOCK_TOKENS) as u64;
    let bytes = match settings.kv_memory {
        Some(bytes) => bytes,
        None => memory::default_kv(settings.sequences as u64 * blocks_each * block),
    };
    match usize::try_from(bytes / block) {
        Ok(blocks) if blocks > 0 => Ok(blocks),
        _ => Err(Failure::refused(format!(
            "--kv-memory: {bytes} bytes hold not even {BLOCK_TOKENS} tokens of this model; give at least {} MiB",
            (blocks_each * block).div_ceil(1 << 20)
        ))),
    }
}
