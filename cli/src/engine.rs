//! The engine that the arguments of a command choose.

use std::sync::Arc;
use std::time::Duration;

use longhand_command::device::KvSize;
use longhand_command::engine::load;
use longhand_command::exit::{Failure, Result};
use longhand_worker::engine::Engine;
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};
use longhand_worker::engine::openai::{OpenAiEngine, OpenAiOptions};

use crate::args::engine::{EngineArgs, EngineKind};

/// Concurrent requests to a server, unless it reports that it is full.
const REMOTE_SEQUENCES: u32 = 16;
/// Time without any text from a server after which the worker ends. Below a coordinator's no-progress limit, which would
/// count against the document.
const REMOTE_PATIENCE: Duration = Duration::from_secs(300);

/// Opens the engine: loads the model, or connects to the server.
pub(crate) async fn open(args: &EngineArgs) -> Result<Arc<dyn Engine>> {
    if args.chat_template.is_some() && args.engine != EngineKind::Local {
        return Err(Failure::refused(
            "--chat-template is for --engine local: a server applies the template that it was started with",
        ));
    }
    match args.engine {
        EngineKind::Local => {
            let Some(model) = &args.model else {
                return Err(Failure::refused(
                    "no model given: use --model PATH (a GGUF file, or a Hugging Face folder), or set LONGHAND_MODEL",
                ));
            };
            let kv = args.kv_memory.map_or(KvSize::Default, KvSize::Bytes);
            let sequences = args.max_sequences.map(|number| number as usize);
            load(model, args.chat_template.as_deref(), &args.device, kv, sequences).await
        }
        EngineKind::OpenAi => Ok(Arc::new(connect(args).await?)),
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

async fn connect(args: &EngineArgs) -> Result<OpenAiEngine> {
    let Some(base_url) = args.base_url.clone() else {
        return Err(Failure::refused(
            "no server given: use --base-url URL, such as http://127.0.0.1:8000/v1, or set LONGHAND_BASE_URL",
        ));
    };
    let key = |name: &String| {
        std::env::var(name)
            .map_err(|e| Failure::refused(format!("--api-key-env {name}: {e}; set the variable to the API key")))
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
