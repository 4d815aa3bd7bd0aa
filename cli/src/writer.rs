//! The engine that a run's worker decodes with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};
use longhand_worker::engine::openai::{OpenAiEngine, OpenAiOptions};
use longhand_worker::model::Model;

use crate::args::{EngineArgs, EngineKind};
use crate::device::{DeviceArgs, Kv, Opened, Weights};
use crate::exit::{Failure, Result};

/// Requests that a server is sent at the same time, unless it says that it has no room.
const REMOTE_SEQUENCES: u32 = 16;
/// Time without any text from a server after which the worker ends. Below the time after which a coordinator takes a
/// document away that makes no progress: that would be held against the document.
const REMOTE_PATIENCE: Duration = Duration::from_secs(300);

/// Loads the model that the arguments name.
pub(crate) async fn open(args: &EngineArgs) -> Result<Arc<dyn Engine>> {
    match args.engine {
        EngineKind::Local => {
            let Some(model) = args.model.clone() else {
                return Err(Failure::refused(
                    "no model is named: give --model PATH (a GGUF file, or a Hugging Face folder), or set LONGHAND_MODEL",
                ));
            };
            let (device, kv) = (args.device.clone(), args.kv_memory.map_or(Kv::Default, Kv::Bytes));
            let sequences = args.max_sequences.map(|number| number as usize);
            on_thread(move || load(&model, &device, kv, sequences)).await
        }
        EngineKind::OpenAi => Ok(Arc::new(remote(args).await?)),
        EngineKind::Mock => {
            let faults = Faults { die_after: args.mock_die_after, ..Faults::default() };
            let tokens_per_second = args.mock_tokens_per_second;
            let mut options = MockOptions { tokens_per_second, faults, ..MockOptions::default() };
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
        idle_timeout: REMOTE_PATIENCE,
    };
    OpenAiEngine::connect(options).await.map_err(Failure::refused)
}

/// A local engine on the processor for as many documents at a time, with KV memory for all of them.
pub(crate) async fn open_local(model: &Path, threads: usize, sequences: usize) -> Result<Arc<dyn Engine>> {
    let (model, device) = (model.to_owned(), DeviceArgs::cpu(threads));
    on_thread(move || load(&model, &device, Kv::Default, Some(sequences))).await
}

/// Reads and repacks all weights, or brings them onto a GPU: seconds of work.
async fn on_thread(load: impl FnOnce() -> Result<Arc<dyn Engine>> + Send + 'static) -> Result<Arc<dyn Engine>> {
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.map_err(|e| Failure::refused(format!("the model could not be loaded: {e}")))?
}

fn load(model: &Path, device: &DeviceArgs, kv: Kv, sequences: Option<usize>) -> Result<Arc<dyn Engine>> {
    let model = Model::open(model).map_err(Failure::refused)?;
    let Opened { device, sequences, is_gpu, .. } = device.open(Weights::Model(&model), kv, sequences, false)?;
    let defaults = EngineOptions::default();
    // A GPU writes as many plans at a time as a processor does in all.
    let grammar_threads = if is_gpu { sequences.div_ceil(defaults.max_sequences).min(cores() / 2) } else { 1 };
    let options = EngineOptions { max_sequences: sequences, grammar_threads, ..defaults };
    let engine = LocalEngine::start(Arc::new(model), device, &options).map_err(Failure::refused)?;
    Ok(Arc::new(engine))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
