//! `longhand run`: the whole job in one process.

use std::sync::Arc;
use std::time::Duration;

use longhand_coordinator::control::submit::{self, RunSpec, SubmitError, SubmitReport};
use longhand_coordinator::control::trace;
use longhand_coordinator::dataset::input;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::http::HttpConfig;
use longhand_coordinator::store::{Commit, Filter, Next, Store, StoreError, Terms};
use longhand_proto::{RunId, WorkerId};
use longhand_worker::engine::Engine;
use serde_json::json;
use tokio::net::TcpListener;

use crate::args::RunArgs;
use crate::display::Display;
use crate::dry_run::dry_run;
use crate::exit::{Code, Failure, Result};
use crate::folder::{Claim, Folder};
use crate::interrupt::Signals;
use crate::job::Job;
use crate::output::grouped;
use crate::pipeline::{Options, Pipeline};
use crate::port::{Door, Http};
use crate::worker::host;
use crate::writer;

/// Documents looked at in one call to the store.
const PAGE: u32 = 64;

/// Runs to the end, to an interruption, or to what makes going on impossible.
pub(crate) async fn run(args: &RunArgs) -> Result<Code> {
    let recipe = match &args.recipe {
        Some(path) => Recipe::load(path).map_err(Failure::refused)?,
        None => Recipe::builtin(),
    };
    if args.dry_run {
        return dry_run(args, &recipe);
    }
    check_input(args)?;
    let door = args.access.door()?;
    let http = door.open_http(args.http.address.as_deref()).await?;
    let engine = writer::open(&args.engine).await?;
    job(args, recipe, engine, door, http).await
}

/// The same with a recipe and an engine that are there already.
pub(crate) async fn work(args: &RunArgs, recipe: Recipe, engine: Arc<dyn Engine>) -> Result<Code> {
    let door = args.access.door()?;
    let http = door.open_http(args.http.address.as_deref()).await?;
    job(args, recipe, engine, door, http).await
}

async fn job(
    args: &RunArgs,
    recipe: Recipe,
    engine: Arc<dyn Engine>,
    door: Door,
    http: Option<TcpListener>,
) -> Result<Code> {
    let folder = claim_folder(args, &recipe, engine.as_ref())?;
    let store = open_store(args, &folder).await?;
    let max_losses = recipe.retry.max_losses;
    let spec = RunSpec {
        id: folder.identity.run.clone(),
        recipe,
        seed: args.seed,
        candidates: args.candidates,
        terms: Terms::default(),
    };
    let submitted = submit(args, store.as_ref(), &spec).await?;

    release_dead(store.as_ref(), &spec.id, &folder).await?;
    let worker = WorkerId::mint(&host());
    folder.note_worker(&worker)?;

    let display = Display::new(args.json, args.quiet);
    announce(&display, &folder, &spec, &submitted, engine.as_ref())?;
    let signals = Signals::listen()?;
    let lease = Duration::from_secs(args.lease_seconds);
    let (slots, trace_content) = (args.engine.max_sequences, args.trace_content);
    let options = Options { worker, slots, lease, max_losses, trace_content };
    let job = Job::begin(folder, Arc::clone(&store), Arc::clone(&engine), display).await?;
    let pipeline = Pipeline::start(store, engine, options).await?;
    let http = match http {
        Some(listener) => {
            let http =
                Http::start(listener, door, HttpConfig { trace_url: args.http.trace_url.clone(), ..pipeline.site() })?;
            job.display().event("dashboard", &format!("dashboard at {}", http.url), json!({ "url": http.url }))?;
            Some(http)
        }
        None => None,
    };
    let ended = job.work(pipeline, signals).await;
    if let Some(http) = http {
        http.stop().await;
    }
    ended
}

/// Finds out that there is no input, and with `--strict` that some of it is bad, before the model is loaded.
fn check_input(args: &RunArgs) -> Result<()> {
    if !args.strict {
        return instruction::read(&args.input).map(drop).map_err(Failure::refused);
    }
    let summary = instruction::validate(&args.input).map_err(Failure::refused)?;
    match summary.bad_rows.as_slice() {
        [] => Ok(()),
        rows => Err(Failure::refused(format!(
            "{}\n{} bad rows, and --strict was given: nothing was started",
            rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            summary.bad
        ))),
    }
}

fn claim_folder(args: &RunArgs, recipe: &Recipe, engine: &dyn Engine) -> Result<Folder> {
    let model = engine.model();
    let claim = Claim {
        run: args.run_id.clone(),
        recipe_hash: &recipe.hash(),
        seed: args.seed,
        model: &model.name,
        weights_hash: &model.weights_hash,
        store: args.store.as_deref(),
        new_run: args.new_run,
    };
    Folder::open(&args.output, &claim)
}

async fn open_store(args: &RunArgs, folder: &Folder) -> Result<Arc<dyn Store>> {
    let url = args.store.clone().unwrap_or_else(|| folder.embedded_store());
    args.access_to_store.open(&url).await
}

async fn submit(args: &RunArgs, store: &dyn Store, spec: &RunSpec) -> Result<SubmitReport> {
    let rows = instruction::read(&args.input).map_err(Failure::refused)?;
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    run::submit(store, spec, rows.take(limit)).await.map_err(|error| match error {
        SubmitError::Store(error) => out_of_store(&error),
        error @ (SubmitError::Differs { .. }
        | SubmitError::Paused(_)
        | SubmitError::Archive(_)
        | SubmitError::Document { .. }) => Failure::refused(error),
    })
}

/// Gives back what the previous process of this folder still held when it was killed. It is dead, as this one has the
/// folder's lock; so its documents need not wait for their leases to run out, and the loss is not theirs: a run that
/// is restarted often must not poison the documents it happens to be at. Checkpoints are kept.
async fn release_dead(store: &dyn Store, run: &RunId, folder: &Folder) -> Result<()> {
    let Some(dead) = folder.dead_worker()? else { return Ok(()) };
    let filter = Filter { state: Some(State::Leased), reason: None };
    let mut after = None;
    loop {
        let page = store.list(run, &filter, after, PAGE).await.map_err(|e| out_of_store(&e))?;
        let held = page.records.iter().filter_map(|record| Some((record, record.lease.as_ref()?)));
        for (record, lease) in held.filter(|(_, lease)| lease.worker == dead) {
            let release = Commit {
                lease: lease.id,
                body: None,
                checkpoint: None,
                next: Next::Release,
                detail: json!({ "reason": "the worker's process ended without a word" }),
                ttl_ms: 0,
            };
            store.commit(&release).await.map_err(|e| out_of_store(&e))?;
            trace::given_up(store, record, lease).await;
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// What a store's error means for a run that was begun.
pub(crate) fn out_of_store(error: &StoreError) -> Failure {
    let remedy = match error {
        StoreError::Full(_) => "make room, then give the same command again: it goes on where it stopped",
        StoreError::Unreachable(_) => "when it is back, give the same command again: it goes on where it stopped",
        StoreError::NotFound { .. } => {
            "the store was emptied or set back while the run was at work; give the same command again: it submits the \
             rows anew and keeps what stands in the corpus"
        }
        StoreError::Refused(_) | StoreError::Other(_) => "nothing that was acknowledged is lost",
    };
    Failure::stopped(format!("{error}; {remedy}"))
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
        "run {}: {} documents, model {} on {}, into {}",
        spec.id,
        grouped(documents),
        model.name,
        model.device,
        folder.dir().display()
    );
    if folder.resumed {
        text.push_str("\ngoing on with what is there");
    }
    if submitted.bad_rows > 0 {
        text.push_str(&format!(
            "\n{} bad rows: they will be listed in failed.jsonl; `longhand validate` shows them now",
            grouped(submitted.bad_rows)
        ));
    }
    let fields = json!({
        "run": spec.id,
        "resumed": folder.resumed,
        "documents": documents,
        "new_documents": submitted.inserted,
        "bad_rows": submitted.bad_rows,
        "recipe": spec.recipe.name,
        "recipe_hash": spec.recipe.hash(),
        "model": model,
        "output": folder.dir(),
    });
    display.event("started", &text, fields)
}
