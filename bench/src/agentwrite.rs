//! `longhand bench agentwrite`: documents per hour, written section by section as in a run: each section's prompt contains
//! all text before it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use longhand_command::device::{DeviceArgs, KvSize};
use longhand_command::engine;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, note};
use longhand_proto::DocumentId;
use longhand_proto::clock;
use longhand_proto::task::{LengthControl, Letters, Message, Output, Sampling, Task, TaskKind, Usage};
use longhand_worker::engine::openai::{OpenAiEngine, OpenAiOptions};
use longhand_worker::engine::{Engine, generate};
use serde::Serialize;

use crate::instructions;
use crate::machine::Machine;
use crate::process::die_with_parent;
use crate::results::publish;
use crate::statistics::median;

const HELP: &str = "\
The sections of each document are written one after the other, with greedy sampling and --tokens tokens each; all documents \
are written concurrently. With --peer, llama.cpp's server gets the same instructions, plans and limits, with one slot per \
document and its prompt cache enabled; both sides are measured in turn. Generated tokens are compared, as documents.

Examples:
  longhand bench agentwrite --model model.gguf
  longhand bench agentwrite --model model.gguf --peer build/bin \\
    --peer-model model.Q4_0.gguf --rounds 3";

const PROGRAM: &str = "llama-server";

/// How long the server may take to load its model.
const PATIENCE: Duration = Duration::from_secs(120);

/// The topics of the sections.
const ASPECTS: [&str; 10] = [
    "what it is about, and for whom it matters",
    "where it comes from, and how it came to be as it is",
    "the parts that it consists of",
    "how one part leads to the next",
    "an example that shows all of it, in detail",
    "what people get wrong, and how they notice",
    "what it costs in time, money and care",
    "what others do instead, and how that compares",
    "what is likely to change in the next years",
    "what to remember of it, and what to do first",
];

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct AgentWriteBench {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: PathBuf,

    /// Compute threads [default: the cores available to this process]
    #[arg(long, value_name = "N", env = "LONGHAND_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// Number of documents, written concurrently
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    documents: u32,

    /// Sections per document
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    sections: u32,

    /// Tokens per section
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=4096))]
    tokens: u32,

    /// Folder with llama.cpp's programs, to compare with
    #[arg(long, value_name = "DIR")]
    peer: Option<PathBuf>,

    /// Model for llama.cpp [default: the same file]
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_model: Option<PathBuf>,

    /// Number of times that each side writes all documents
    #[arg(long, value_name = "N", default_value_t = 3, requires = "peer", value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// Save all measurements to this file (JSON)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// The measurement of one round of one side.
#[derive(Debug, Clone, Copy, Serialize)]
struct Measured {
    seconds: f64,
    tokens: u64,
    prompt_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    cached_tokens: u64,
    documents_per_hour: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    documents: u32,
    sections: u32,
    tokens: u32,
    ours: Vec<Measured>,
    theirs: Vec<Measured>,
}

impl AgentWriteBench {
    /// Runs the benchmark.
    pub(crate) async fn run(self) -> Result<Code> {
        let machine = Machine::here();
        let threads = self.threads.map_or(machine.cores, |threads| threads as usize);
        let peer = self.peer.as_ref().map(|folder| folder.join(PROGRAM));
        if let Some(program) = peer.as_ref().filter(|program| !program.is_file()) {
            let path = program.display();
            return Err(Failure::refused(format!("{path} does not exist; run `make bench` to build it")));
        }
        let peer_model = self.peer_model.as_ref().unwrap_or(&self.model);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=if peer.is_some() { self.rounds } else { 1 } {
            note(&format!("round {round}: {} documents with longhand", self.documents));
            let (device, sequences) = (DeviceArgs::cpu(threads), self.documents as usize);
            let engine = engine::load(&self.model, None, &device, KvSize::Default, Some(sequences)).await?;
            ours.push(self.write(&engine).await?);
            // Ends its threads before the other side starts.
            drop(engine);
            if let Some(program) = &peer {
                note(&format!("round {round}: {} documents with llama.cpp", self.documents));
                let server = LlamaServer::start(program, peer_model, threads, self.documents, self.context())?;
                let engine: Arc<dyn Engine> = Arc::new(server.connect(self.documents).await?);
                theirs.push(self.write(&engine).await?);
            }
        }
        let Self { documents, sections, tokens, .. } = self;
        let report = Report { machine, documents, sections, tokens, ours, theirs };
        publish(self.json, self.report.as_deref(), &report, || report.table())
    }

    /// Tokens that a finished document takes: instruction and plan take less than 700.
    fn context(&self) -> u32 {
        (700 + (self.sections + 1) * self.tokens).next_multiple_of(256)
    }

    async fn write(&self, engine: &Arc<dyn Engine>) -> Result<Measured> {
        let instructions = instructions::prompts();
        let begin = clock::now();
        let documents = (0..self.documents).map(|number| {
            let text = instructions[number as usize % instructions.len()].clone();
            self.document(engine, number, text)
        });
        let ended = join_all(documents).await.into_iter().collect::<Result<Vec<Usage>>>()?;
        let seconds = begin.elapsed().as_secs_f64();
        let sum = |of: fn(&Usage) -> u32| ended.iter().map(|usage| u64::from(of(usage))).sum::<u64>();
        let tokens = sum(|usage| usage.generated);
        let each = f64::from(self.sections * self.tokens);
        Ok(Measured {
            seconds,
            tokens,
            prompt_tokens: sum(|usage| usage.prompt),
            cached_tokens: sum(|usage| usage.cached),
            documents_per_hour: tokens as f64 / each / seconds * 3600.0,
        })
    }

    /// Writes one document; returns the token usage of all its sections.
    async fn document(&self, engine: &Arc<dyn Engine>, number: u32, instruction: String) -> Result<Usage> {
        let plan: String = (0..self.sections).map(|index| plan_line(index, self.tokens)).collect();
        let (mut text, mut total) = (String::new(), Usage::default());
        for section in 0..self.sections {
            let line = plan_line(section, self.tokens);
            let content = format!(
                "You write a long document section by section.\n\nThe instruction:\n{instruction}\n\nThe plan:\n{plan}\n\
                 What is written so far:\n{text}\n\nWrite the next section, and nothing else. {line}"
            );
            let Output { text: new, usage, .. } = finish(engine, self.task(number, section, content)).await?;
            text.push_str(new.trim());
            text.push_str("\n\n");
            total.prompt += usage.prompt;
            total.cached += usage.cached;
            total.generated += usage.generated;
        }
        Ok(total)
    }

    fn task(&self, number: u32, section: u32, content: String) -> Task {
        // Twice the words that the tokens can make: the text never ends before the token limit.
        let length = LengthControl { target_words: 2 * self.tokens, floor: 1.0, bias: 0.0, ceiling: 10.0, hard: 10.0 };
        Task {
            run: "bench".parse().unwrap_or_else(|_| unreachable!("a plain word is a valid run id")),
            document: DocumentId::from_bytes(u128::from(number).to_be_bytes()),
            kind: TaskKind::Section,
            section,
            attempt: 1,
            messages: vec![Message { role: "user".into(), content }],
            sampling: Sampling { temperature: 0.0, repetition_penalty: 1.2, ..Sampling::default() },
            length: Some(length),
            constraint: None,
            ban: Vec::new(),
            max_tokens: self.tokens,
            seed: 0,
            letters: Letters::Any,
            words_left: 0,
            names: Vec::new(),
            traceparent: String::new(),
        }
    }
}

fn plan_line(index: u32, tokens: u32) -> String {
    let aspect = ASPECTS[index as usize % ASPECTS.len()];
    format!("Paragraph {} - Main Point: {aspect} - Word Count: {} words\n", index + 1, tokens * 3 / 4)
}

async fn finish(engine: &Arc<dyn Engine>, task: Task) -> Result<Output> {
    let ended = generate(engine.as_ref(), task).await.map_err(Failure::stopped)?;
    ended.map_err(|failure| Failure::stopped(failure.message))
}

/// A running llama-server; killed when it is dropped.
#[derive(Debug)]
struct LlamaServer {
    child: Child,
    url: String,
}

impl LlamaServer {
    fn start(program: &Path, model: &Path, threads: usize, slots: u32, context: u32) -> Result<Self> {
        let refused = |e: std::io::Error| Failure::refused(format!("{}: {e}", program.display()));
        // A port that was free a moment ago is still free on a quiet machine.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).map_err(refused)?.port();
        let mut command = Command::new(program);
        command.arg("-m").arg(model).args(["--host", "127.0.0.1", "--cache-prompt"]);
        let threads = threads as u32;
        for (name, number) in
            [("-t", threads), ("-tb", threads), ("--port", port.into()), ("--parallel", slots), ("-c", slots * context)]
        {
            command.arg(name).arg(number.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        die_with_parent(&mut command);
        let child = command.spawn();
        Ok(Self { child: child.map_err(refused)?, url: format!("http://127.0.0.1:{port}/v1") })
    }

    /// Retries until the model is loaded.
    async fn connect(&self, slots: u32) -> Result<OpenAiEngine> {
        let begin = clock::now();
        loop {
            let base_url = self.url.clone();
            let options = OpenAiOptions { base_url, model: None, api_key: None, slots, idle_timeout: PATIENCE };
            match OpenAiEngine::connect(options).await {
                Ok(engine) => return Ok(engine),
                Err(error) if begin.elapsed() > PATIENCE => return Err(Failure::stopped(error)),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        // Fails if the process has ended already, which is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Report {
    fn table(&self) -> String {
        let Machine { processor, cores, version, .. } = &self.machine;
        let Self { documents, sections, tokens, .. } = self;
        let mut text = format!(
            "longhand {version}, {processor}, {cores} cores: {documents} documents of {sections} sections of {tokens} tokens\n\n"
        );
        let head = ["", "documents/h", "tokens/s", "prompt cached", "missing tokens"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for (name, written) in [("longhand", &self.ours), ("llama.cpp", &self.theirs)] {
            if written.is_empty() {
                continue;
            }
            let all = f64::from(documents * sections * tokens);
            let of = |value: &dyn Fn(&Measured) -> f64| median(written.iter().map(value));
            lines.push(vec![
                name.to_owned(),
                format!("{:.1}", of(&|w| w.documents_per_hour)),
                format!("{:.0}", of(&|w| w.tokens as f64 / w.seconds)),
                format!("{:.1} %", of(&|w| 100.0 * w.cached_tokens as f64 / (w.prompt_tokens as f64).max(1.0))),
                format!("{:.1} %", of(&|w| 100.0 * (1.0 - w.tokens as f64 / all))),
            ]);
        }
        text.push_str(&output::table(&lines));
        let ratios: Vec<f64> = self.ours.iter().zip(&self.theirs).map(ratio).collect();
        if !ratios.is_empty() {
            let (min, max) = ratios.iter().fold((f64::MAX, 0.0_f64), |(a, b), &r| (a.min(r), b.max(r)));
            let middle = median(ratios.iter().copied());
            text.push_str(&format!("\nratio: {middle:.2} (median of the rounds; {min:.2} to {max:.2})"));
        }
        text
    }
}

fn ratio((ours, theirs): (&Measured, &Measured)) -> f64 {
    ours.documents_per_hour / theirs.documents_per_hour
}
