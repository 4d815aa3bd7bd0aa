//! `longhand selftest`: whether the compute device gives correct results, and how fast it is.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::device::DeviceArgs;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::cuda::gpu::{DeviceProperties, FP8_GPU, Gpu};
use longhand_worker::cuda::{CudaDevice, WeightFormat, kernels, speed};
use longhand_worker::device::Device;
use longhand_worker::model::Model;
use longhand_worker::selftest::{self, Bounds, CudaMode};
use serde_json::json;

const HELP: &str = "\
Examples:
  longhand selftest
  longhand selftest --device cuda:1
  compute-sanitizer --tool memcheck longhand selftest --device cuda --quick

Checks: on a GPU, every kernel against its reference; on any device, tiny models of each family against a plain float32 \
forward pass (in chunks, token by token, in batches), and sampled tokens against the sampler; with --model, the logits of \
that model against the CPU. Finally, the GPU's copy and matrix multiplication speed is measured.

Exit codes:
  0    all checks passed
  1    a check failed; its line says why
  2    nothing was started: no such device, or an invalid model";

/// Largest difference between two devices' logits of the same model.
const MODEL_BOUND: f64 = 0.08;
/// Largest difference between logits of bf16 weights and of the same weights in float32. Transformers itself is off by 0.012
/// when it computes the models of `worker/gpu/reference.py` in bf16.
const KNOWN_BOUND: f64 = 0.015;
/// Tokens of a hundred that may differ on a GPU because of near ties.
const CUDA_TIES: usize = 3;

/// The device to test, and how much.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct SelftestArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Also compare the logits of this model on the GPU with those on the CPU
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: Option<PathBuf>,

    /// Compare the logits of that model with those in this file (safetensors: tokens.N, and logits.N of their last rows)
    #[arg(long, value_name = "FILE", requires = "model")]
    logits: Option<PathBuf>,

    /// Skip what is slow under a checker such as compute-sanitizer: the model, and the speed
    #[arg(long)]
    quick: bool,

    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a check found: nothing, or what is wrong.
type Outcome = std::result::Result<(), String>;

/// Prints the checks and counts those that failed.
struct Report {
    json: bool,
    failed: usize,
}

impl Report {
    fn add(&mut self, check: &str, outcome: Outcome) -> Result<()> {
        let error = outcome.err();
        self.failed += usize::from(error.is_some());
        if self.json {
            return output::json(&json!({ "check": check, "ok": error.is_none(), "error": error }));
        }
        output::line(&match error {
            None => format!("ok      {check}"),
            Some(error) => format!("FAILED  {check}: {error}"),
        })
    }
}

impl SelftestArgs {
    /// Runs all checks of the device.
    pub(crate) async fn run(self) -> Result<Code> {
        let done = tokio::task::spawn_blocking(move || self.test()).await;
        done.map_err(|e| Failure::stopped(format!("the self-test crashed: {e}")))?
    }

    fn test(&self) -> Result<Code> {
        let mut report = Report { json: self.json, failed: 0 };
        match self.device.gpu()? {
            None => self.test_cpu(&mut report)?,
            Some(gpu) => self.test_gpu(&mut report, gpu)?,
        }
        match report.failed {
            0 => Ok(Code::Ok),
            failed => Err(Failure::stopped(format!("{failed} checks failed"))),
        }
    }

    fn test_cpu(&self, report: &mut Report) -> Result<()> {
        report.add(&self.cpu_name()?, Ok(()))?;
        for (name, model) in selftest::models().map_err(Failure::stopped)? {
            let mut device = self.on_cpu(&model)?;
            let found = Bounds::cpu(&model).and_then(|bounds| selftest::logits(&mut device, &model, bounds.worst));
            report.add(&format!("logits of {name}"), found.map(|_| ()).map_err(|e| e.to_string()))?;
            let found = selftest::sampling(&mut device, 0);
            report.add(&format!("sampling of {name}"), found.map_err(|e| e.to_string()))?;
        }
        Ok(())
    }

    fn test_gpu(&self, report: &mut Report, gpu: Box<dyn Gpu>) -> Result<()> {
        let DeviceProperties { name, versions, capability, multiprocessors, memory, .. } = gpu.properties().clone();
        let (major, minor) = capability;
        let gpu_name = format!(
            "{name}, compute capability {major}.{minor}, {multiprocessors} multiprocessors, {:.1} GiB; {versions}",
            memory as f64 / f64::from(1 << 30)
        );
        report.add(&gpu_name, Ok(()))?;
        for (name, check) in kernels::CHECKS {
            report.add(&format!("kernel {name}"), check(&*gpu).map_err(|e| e.to_string()))?;
        }
        let mut gpu = Some(gpu);
        for (name, model) in selftest::models().map_err(Failure::stopped)? {
            for mode in CudaMode::ALL {
                if mode.weight_format == WeightFormat::Fp8 && capability < FP8_GPU {
                    continue;
                }
                let mut device = self.on_cuda(self.next_gpu(&mut gpu)?, &model, mode)?;
                let found = mode.bounds(&model);
                let found = found.and_then(|bounds| selftest::logits(&mut device, &model, bounds.worst));
                let mode = mode.name;
                report.add(&format!("logits of {name}{mode}"), found.map(|_| ()).map_err(|e| e.to_string()))?;
                let found = selftest::sampling(&mut device, CUDA_TIES);
                report.add(&format!("sampling of {name}{mode}"), found.map_err(|e| e.to_string()))?;
                gpu = Some(device.into_gpu());
            }
        }
        if let Some(path) = &self.model {
            gpu = Some(self.test_model(report, self.next_gpu(&mut gpu)?, path)?);
        }
        if !self.quick {
            for measured in speed::measure(&*self.next_gpu(&mut gpu)?).map_err(Failure::stopped)? {
                report.add(&measured.to_string(), Ok(()))?;
            }
        }
        Ok(())
    }

    /// Compares the logits of a model with those in a file, and with those of the CPU. Gives the GPU back.
    fn test_model(&self, report: &mut Report, gpu: Box<dyn Gpu>, path: &Path) -> Result<Box<dyn Gpu>> {
        let model = Model::open(path).map_err(Failure::refused)?;
        let mode = CudaMode { deterministic: self.device.deterministic, ..CudaMode::PLAIN };
        let mut device = self.on_cuda(gpu, &model, mode)?;
        if let Some(file) = &self.logits {
            let known = selftest::known(file).map_err(Failure::refused)?;
            let found = selftest::compare_known(&mut device, &known, KNOWN_BOUND).map(|_| ());
            let check = format!("logits of {} compared with {}", path.display(), file.display());
            report.add(&check, found.map_err(|e| e.to_string()))?;
        }
        if !self.quick {
            let found = self.compare_with_cpu(&mut device, &model)?;
            report.add(&format!("logits of {} compared with the CPU", path.display()), found)?;
        }
        Ok(device.into_gpu())
    }

    /// The GPU that the previous device gave back, or opened again.
    fn next_gpu(&self, gpu: &mut Option<Box<dyn Gpu>>) -> Result<Box<dyn Gpu>> {
        let opened = match gpu.take() {
            Some(gpu) => Some(gpu),
            None => self.device.gpu()?,
        };
        opened.ok_or_else(|| Failure::stopped("the GPU is no longer available"))
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

    fn compare_with_cpu(&self, device: &mut dyn Device, model: &Model) -> Result<Outcome> {
        let mut cpu = self.on_cpu(model)?;
        let worst = selftest::max_distance(device, &mut cpu).map_err(Failure::stopped)?;
        let error = format!("they differ by {worst:.4} of their spread; at most {MODEL_BOUND} is allowed");
        Ok(if worst < MODEL_BOUND { Ok(()) } else { Err(error) })
    }
}
