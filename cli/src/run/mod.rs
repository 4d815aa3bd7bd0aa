//! `longhand run`: coordinator, store and one worker in one process.

mod advice;
pub(crate) mod args;
mod dry_run;
mod estimate;
pub(crate) mod folder;
pub(crate) mod pipe;
mod pipeline;
mod progress;
mod run_loop;
pub(crate) mod store_failure;
pub(crate) mod stored_corpus;
mod summary;
pub(crate) mod temporary_folder;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::plural;
use longhand_coordinator::control::submit::{self, RunSpec, SubmitError, SubmitReport};
use longhand_coordinator::control::trace;
use longhand_coordinator::dataset::input;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::http::HttpConfig;
use longhand_coordinator::store::{Commit, Filter, Next, RunPolicy, Store};
use longhand_proto::{RunId, WorkerId};
use longhand_worker::engine::Engine;
use serde_json::json;
use tokio::net::TcpListener;

use crate::args::listen::ListenConfig;
use crate::args::recipe;
use crate::display::Display;
use crate::engine;
use crate::serve::http::HttpServer;
use crate::serve::worker::host_name;
use crate::signals::Signals;
use args::RunArgs;
use dry_run::dry_run;
use folder::{Folder, RunClaim};
use pipeline::{Options, Pipeline};
use run_loop::RunLoop;
use store_failure::store_failure;

/// Documents per page when listing the store.
const PAGE: u32 = 64;

/// Runs until every document has ended, or until a signal or an error.
pub(crate) async fn run(args: &RunArgs) -> Result<Code> {
    let recipe = recipe::load(args.recipe.as_deref())?;
    if args.dry_run {
        return dry_run(args, &recipe);
    }
    check_input(args)?;
    let listen = args.access.config()?;
    let http = listen.open_http(args.http.address.as_deref()).await?;
    let engine = engine::open(&args.engine).await?;
    start(args, recipe, engine, listen, http).await
}

/// The same with a recipe and an engine that are loaded already.
pub(crate) async fn run_with(args: &RunArgs, recipe: Recipe, engine: Arc<dyn Engine>) -> Result<Code> {
    let listen = args.access.config()?;
    let http = listen.open_http(args.http.address.as_deref()).await?;
    start(args, recipe, engine, listen, http).await
}

async fn start(
    args: &RunArgs,
    recipe: Recipe,
    engine: Arc<dyn Engine>,
    listen: ListenConfig,
    http: Option<TcpListener>,
) -> Result<Code> {
    let input = input_hash(&args.input)?;
    let mut folder = claim_folder(args, &recipe, engine.as_ref(), input.clone())?;
    if let Some(input) = input {
        folder.add_input(input)?;
    }
    let store = open_store(args, &folder).await?;
    let spec = RunSpec {
        id: folder.identity.run.clone(),
        recipe,
        seed: args.seed,
        candidates: args.candidates,
        policy: RunPolicy::default(),
    };
    let submitted = submit(args, store.as_ref(), &spec).await?;

    release_previous_worker(store.as_ref(), &spec.id, &folder).await?;
    let worker = WorkerId::mint(&host_name());
    folder.save_worker(&worker)?;

    let display = Display::new(args.json, args.quiet);
    announce(&display, &folder, &spec, &submitted, engine.as_ref())?;
    let signals = Signals::listen()?;
    let lease = Duration::from_secs(args.lease_seconds);
    let (slots, trace_content) = (args.engine.max_sequences, args.trace_content);
    let options = Options { worker, slots, price: args.engine.price(), lease, trace_content };
    let run_loop = RunLoop::new(folder, Arc::clone(&store), Arc::clone(&engine), display).await?;
    let pipeline = Pipeline::start(store, engine, options).await?;
    let http = match http {
        Some(listener) => {
            let site = HttpConfig { trace_url: args.http.trace_url.clone(), ..pipeline.site() };
            let http = HttpServer::start(listener, listen, site)?;
            let text = format!("dashboard at {}", http.page(std::io::stderr().is_terminal()));
            let fields = json!({ "url": http.url, "token_file": http.token_file() });
            run_loop.display().event("dashboard", &text, fields)?;
            Some(http)
        }
        None => None,
    };
    let ended = run_loop.run(pipeline, signals).await;
    if let Some(http) = http {
        http.stop().await;
    }
    ended
}

/// Rejects a missing input, and with `--strict` bad rows, before the model is loaded.
fn check_input(args: &RunArgs) -> Result<()> {
    if !args.strict {
        return input::read(&args.input).map(drop).map_err(Failure::refused);
    }
    let summary = input::validate(&args.input).map_err(Failure::refused)?;
    match summary.bad_rows.as_slice() {
        [] => Ok(()),
        rows => Err(Failure::refused(format!(
            "{}\n{} in {}; nothing was started: fix the rows, or run without --strict",
            rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            plural(summary.bad, "bad row"),
            args.input.display(),
        ))),
    }
}

/// Hash of the input file; none of what is no file, such as a pipe.
fn input_hash(path: &Path) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(None);
    }
    let at = |e: std::io::Error| Failure::refused(format!("{}: {e}", path.display()));
    let mut hash = blake3::Hasher::new();
    hash.update_reader(std::fs::File::open(path).map_err(at)?).map_err(at)?;
    Ok(Some(hash.finalize().to_hex().to_string()))
}

fn claim_folder(args: &RunArgs, recipe: &Recipe, engine: &dyn Engine, input: Option<String>) -> Result<Folder> {
    let model = engine.model();
    let claim = RunClaim {
        run: args.run_id.clone(),
        recipe_hash: &recipe.hash(),
        seed: args.seed,
        model: &model.name,
        weights_hash: &model.weights_hash,
        store: args.store.as_deref(),
        input: input.filter(|_| !args.add),
        format: "",
        new_run: args.new_run,
    };
    Folder::open(&args.output, &claim)
}

async fn open_store(args: &RunArgs, folder: &Folder) -> Result<Arc<dyn Store>> {
    let url = args.store.clone().unwrap_or_else(|| folder.embedded_store());
    args.store_access.open(&url, args.access.insecure()).await
}

async fn submit(args: &RunArgs, store: &dyn Store, spec: &RunSpec) -> Result<SubmitReport> {
    let rows = input::read(&args.input).map_err(Failure::refused)?;
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    submit::submit(store, spec, rows.take(limit)).await.map_err(|error| match error {
        SubmitError::Store(error) => store_failure(&error),
        error @ (SubmitError::Differs { .. }
        | SubmitError::Paused(_)
        | SubmitError::Cancelling(_)
        | SubmitError::Archive(_)
        | SubmitError::Document { .. }) => Failure::refused(error),
    })
}

/// Releases what the previous process of this folder held when it was killed. That process is dead, as this one has the
/// folder's lock; so its documents need not wait for their leases to expire, and no loss is counted against them: a run
/// that is restarted often must not poison the documents it was working on. Checkpoints are kept.
async fn release_previous_worker(store: &dyn Store, run: &RunId, folder: &Folder) -> Result<()> {
    let Some(previous) = folder.previous_worker()? else { return Ok(()) };
    let filter = Filter { state: Some(State::Leased), reason: None };
    let mut after = None;
    loop {
        let page = store.list(run, &filter, after, PAGE).await.map_err(|e| store_failure(&e))?;
        let held = page.records.iter().filter_map(|record| Some((record, record.lease.as_ref()?)));
        for (record, lease) in held.filter(|(_, lease)| lease.worker == previous) {
            let release = Commit {
                lease: lease.id,
                body: None,
                checkpoint: None,
                next: Next::Release,
                detail: json!({ "reason": "the worker's process was killed" }),
                ttl_ms: 0,
            };
            store.commit(&release).await.map_err(|e| store_failure(&e))?;
            trace::abandoned(store, record, lease).await;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn announce(
    display: &Display,
    folder: &Folder,
    spec: &RunSpec,
    submitted: &SubmitReport,
    engine: &dyn Engine,
) -> Result<()> {
    let model = engine.model();
    let documents = submitted.inserted + submitted.existing;
    let mut text = format!(
        "run {}: {}, model {} on {}, output {}",
        spec.id,
        plural(documents, "document"),
        model.name,
        model.device,
        folder.dir().display()
    );
    let Recipe { plan, section, judge, .. } = &spec.recipe;
    for (table, sampling) in [("plan", &plan.sampling), ("section", &section.sampling), ("judge", &judge.sampling)] {
        if !sampling.from_model.is_empty() {
            let recommended = model.sampling.only(sampling.from_model);
            text.push_str(&format!("\n[{table}.sampling] as the model's makers recommend: {recommended}"));
        }
    }
    if folder.resumed {
        text.push_str("\nresuming the run in this folder");
    }
    if submitted.bad_rows > 0 {
        text.push_str(&format!(
            "\n{}, to be listed in failed.jsonl; to see them now, run `longhand validate`",
            plural(submitted.bad_rows, "bad row")
        ));
    }
    if submitted.changed > 0 {
        text.push_str(&format!(
            "\nnot changed: {} whose rows have another instruction now; give these rows new ids, or start a new run with \
             --new-run or another output folder",
            plural(submitted.changed, "document")
        ));
    }
    let fields = json!({
        "run": spec.id,
        "resumed": folder.resumed,
        "documents": documents,
        "new_documents": submitted.inserted,
        "changed_rows": submitted.changed,
        "bad_rows": submitted.bad_rows,
        "recipe": spec.recipe.name,
        "recipe_hash": spec.recipe.hash(),
        "model": model,
        "output": folder.dir(),
    });
    display.event("started", &text, fields)
}
