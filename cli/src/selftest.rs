//! `longhand selftest`: whether what computes here computes what it should, and as fast as it can.

use std::path::PathBuf;

use clap::Args;
use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::cuda::gpu::{DeviceProperties, FP8_GPU, Gpu};
use longhand_worker::cuda::{CudaDevice, WeightFormat, kernels, speed};
use longhand_worker::device::Device;
use longhand_worker::model::Model;
use longhand_worker::selftest::{self, Bounds, CudaMode};
use serde_json::json;

use crate::device::DeviceArgs;
use crate::exit::{Code, Failure, Result};
use crate::output;

const HELP: &str = "\
Examples:
  longhand selftest
  longhand selftest --device cuda:1
  compute-sanitizer --tool memcheck longhand selftest --device cuda --quick

Checked: on a GPU every kernel against its reference; then, on any device, tiny models of each family against a plain
float32 forward pass (in chunks, token by token, in company) and chosen tokens against the sampler; with --model, the
logits of that model against those of the processor. Then the GPU's speed at copying and multiplying is measured.

Exit codes:
  0    all is as it should be
  1    something is not; the line says what
  2    nothing was started: no such device, or a model of no use";

/// How far two devices' logits of the same model may be apart.
const MODEL_BOUND: f64 = 0.08;
/// How far logits of bf16 weights may be from those that float32 makes of the same weights. Transformers itself is 0.012 off
/// when it computes the models of `worker/gpu/reference.py` in bf16.
const KNOWN_BOUND: f64 = 0.015;
/// Of a hundred tokens, those that near ties may decide otherwise from step to step on a GPU.
const CUDA_TIES: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SelftestArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Also compare the logits of this model with the processor's (a GPU only)
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: Option<PathBuf>,

    /// Compare the logits of that model with those in this file (safetensors: tokens.N, and logits.N of their last rows)
    #[arg(long, value_name = "FILE", requires = "model")]
    logits: Option<PathBuf>,

    /// Leave out what takes long under a checker such as compute-sanitizer: the model, and speed
    #[arg(long)]
    quick: bool,

    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// One line of the report.
struct Line {
    what: String,
    wrong: Option<String>,
}

impl SelftestArgs {
    pub(crate) async fn run(self) -> Result<Code> {
        let done = tokio::task::spawn_blocking(move || self.test()).await;
        done.map_err(|e| Failure::stopped(format!("the self-test crashed: {e}")))?
    }

    fn test(&self) -> Result<Code> {
        let gpu = self.device.gpu()?;
        let mut wrong = 0;
        let mut report = |what: String, found: std::result::Result<(), String>| {
            let line = Line { what, wrong: found.err() };
            wrong += usize::from(line.wrong.is_some());
            self.say(&line)
        };
        match gpu {
            None => {
                report(self.cpu_name()?, Ok(()))?;
                for (name, model) in selftest::models().map_err(Failure::stopped)? {
                    let mut device = self.on_cpu(&model)?;
                    let found =
                        Bounds::cpu(&model).and_then(|bounds| selftest::logits(&mut device, &model, bounds.worst));
                    report(format!("logits of {name}"), found.map(|_| ()).map_err(|e| e.to_string()))?;
                    let found = selftest::sampling(&mut device, 0);
                    report(format!("sampling of {name}"), found.map_err(|e| e.to_string()))?;
                }
            }
            Some(gpu) => {
                let DeviceProperties { name, versions, capability: (major, minor), multiprocessors, memory, .. } =
                    gpu.properties().clone();
                let about = format!(
                    "{name}, compute capability {major}.{minor}, {multiprocessors} multiprocessors, {:.1} GiB; {versions}",
                    memory as f64 / f64::from(1 << 30)
                );
                report(about, Ok(()))?;
                for (name, check) in kernels::CHECKS {
                    report(format!("kernel {name}"), check(&*gpu).map_err(|e| e.to_string()))?;
                }
                let mut gpu = Some(gpu);
                for (name, model) in selftest::models().map_err(Failure::stopped)? {
                    for mode in CudaMode::ALL {
                        if mode.weight_format == WeightFormat::Fp8 && (major, minor) < FP8_GPU {
                            continue;
                        }
                        let one = self.next_gpu(&mut gpu)?;
                        let mut device = self.on_cuda(one, &model, mode)?;
                        let found = mode.bounds(&model);
                        let found = found.and_then(|bounds| selftest::logits(&mut device, &model, bounds.worst));
                        let mode = mode.name;
                        report(format!("logits of {name}{mode}"), found.map(|_| ()).map_err(|e| e.to_string()))?;
                        let found = selftest::sampling(&mut device, CUDA_TIES);
                        report(format!("sampling of {name}{mode}"), found.map_err(|e| e.to_string()))?;
                        gpu = Some(device.into_gpu());
                    }
                }
                if let Some(path) = &self.model {
                    let model = Model::open(path).map_err(Failure::refused)?;
                    let mode = CudaMode { deterministic: self.device.deterministic, ..CudaMode::PLAIN };
                    let mut device = self.on_cuda(self.next_gpu(&mut gpu)?, &model, mode)?;
                    if let Some(file) = &self.logits {
                        let known = selftest::known(file).map_err(Failure::refused)?;
                        let found = selftest::compare_known(&mut device, &known, KNOWN_BOUND).map(|_| ());
                        let what = format!("logits of {} against {}", path.display(), file.display());
                        report(what, found.map_err(|e| e.to_string()))?;
                    }
                    if !self.quick {
                        let found = self.against_cpu(&mut device, &model)?;
                        report(format!("logits of {} against the processor's", path.display()), found)?;
                    }
                    gpu = Some(device.into_gpu());
                }
                if !self.quick {
                    for measured in speed::measure(&*self.next_gpu(&mut gpu)?).map_err(Failure::stopped)? {
                        report(measured.to_string(), Ok(()))?;
                    }
                }
            }
        }
        if wrong > 0 {
            return Err(Failure::stopped(format!("{wrong} checks failed")));
        }
        Ok(Code::Ok)
    }

    fn say(&self, line: &Line) -> Result<()> {
        let Line { what, wrong } = line;
        if self.json {
            return output::json(&json!({ "check": what, "ok": wrong.is_none(), "error": wrong }));
        }
        output::line(&match wrong {
            None => format!("ok      {what}"),
            Some(wrong) => format!("FAILED  {what}: {wrong}"),
        })
    }

    /// The GPU that the device before gave back, or else opened anew.
    fn next_gpu(&self, gpu: &mut Option<Box<dyn Gpu>>) -> Result<Box<dyn Gpu>> {
        let opened = match gpu.take() {
            Some(gpu) => Some(gpu),
            None => self.device.gpu()?,
        };
        opened.ok_or_else(|| Failure::stopped("the GPU is gone"))
    }

    fn on_cpu(&self, model: &Model) -> Result<CpuDevice> {
        let options = CpuOptions {
            threads: self.device.threads.map(|threads| threads as usize),
            kv_blocks: selftest::BLOCKS,
            max_batch_tokens: selftest::STEP_TOKENS,
        };
        CpuDevice::load(model, &options).map_err(Failure::refused)
    }

    fn cpu_name(&self) -> Result<String> {
        let models = selftest::models().map_err(Failure::stopped)?;
        let (_, model) = models.first().ok_or_else(|| Failure::stopped("there is no tiny model"))?;
        Ok(self.on_cpu(model)?.name())
    }

    fn on_cuda(&self, gpu: Box<dyn Gpu>, model: &Model, mode: CudaMode) -> Result<CudaDevice> {
        let mode = CudaMode { graphs: !self.device.eager, ..mode };
        CudaDevice::load(gpu, model, &mode.options()).map_err(Failure::refused)
    }

    fn against_cpu(&self, device: &mut dyn Device, model: &Model) -> Result<std::result::Result<(), String>> {
        let mut cpu = self.on_cpu(model)?;
        let worst = selftest::max_distance(device, &mut cpu).map_err(Failure::stopped)?;
        let wrong = format!("{worst:.4} of their spread apart, where {MODEL_BOUND} is allowed");
        Ok(if worst < MODEL_BOUND { Ok(()) } else { Err(wrong) })
    }
}
