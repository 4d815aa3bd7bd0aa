//! The engine that decodes a local model.

use std::path::Path;
use std::sync::Arc;

use longhand_worker::engine::Engine;
use longhand_worker::engine::local::{EngineOptions, LocalEngine};
use longhand_worker::model::Model;

use crate::device::{DeviceArgs, KvSize, OpenDevice, WeightSource};
use crate::exit::{Failure, Result};

/// Loads a model onto a device and starts its engine, for up to `sequences` documents at a time. Takes seconds to minutes,
/// on a thread of its own: all weights are read and repacked, or copied to the GPU.
///
/// # Errors
/// The model cannot be read, or the device cannot hold it.
pub async fn load(model: &Path, device: &DeviceArgs, kv: KvSize, sequences: Option<usize>) -> Result<Arc<dyn Engine>> {
    let (model, device) = (model.to_owned(), device.clone());
    let loaded = tokio::task::spawn_blocking(move || load_blocking(&model, &device, kv, sequences)).await;
    loaded.map_err(|e| Failure::refused(format!("the model could not be loaded: {e}")))?
}

fn load_blocking(model: &Path, device: &DeviceArgs, kv: KvSize, sequences: Option<usize>) -> Result<Arc<dyn Engine>> {
    let model = Model::open(model).map_err(Failure::refused)?;
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
