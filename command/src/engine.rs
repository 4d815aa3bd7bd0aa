//! The engine that decodes a local model.

use std::path::Path;
use std::sync::Arc;

use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::model::Model;

use crate::device::{DeviceArgs, KvSize, OpenDevice, WeightSource};
use crate::exit::{Failure, Result};

/// Loads a model, with the chat template of another file if one is given, onto a device and starts its engine, for up to `sequences` documents at a time. Takes seconds to minutes,
/// on a thread of its own: all weights are read and repacked, or copied to the GPU.
///
/// # Errors
/// The model cannot be read, or the device cannot hold it.
pub async fn load(
    model: &Path,
    chat_template: Option<&Path>,
    device: &DeviceArgs,
    kv: KvSize,
    sequences: Option<usize>,
) -> Result<Arc<dyn Engine>> {
    let (model, chat_template, device) = (model.to_owned(), chat_template.map(Path::to_owned), device.clone());
    let load = move || {
        let model = Model::open_with(&model, chat_template.as_deref()).map_err(Failure::refused)?;
        start(model, &device, kv, sequences)
    };
    let loaded = tokio::task::spawn_blocking(load).await;
    loaded.map_err(|e| Failure::refused(format!("the model could not be loaded: {e}")))?
}

fn start(model: Model, device: &DeviceArgs, kv: KvSize, sequences: Option<usize>) -> Result<Arc<dyn Engine>> {
    let OpenDevice { device, sequences, is_gpu, .. } =
        device.open(WeightSource::Model(&model), kv, sequences, false)?;
    let defaults = EngineOptions::default();
    // A GPU writes as many plans at a time as a CPU does documents in all.
    let grammar_threads = if is_gpu { sequences.div_ceil(defaults.max_sequences).min(cores() / 2) } else { 1 };
    let options = EngineOptions { max_sequences: sequences, grammar_threads, ..defaults };
    let engine = LocalEngine::start(Arc::new(model), device, &options).map_err(Failure::refused)?;
    Ok(Arc::new(engine))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
