//! Matrix products by cuBLASLt, with plans of our own: the library's first guess is often not its best, so the candidates
//! of each shape are timed once, and asking it again for each product would cost more than some products do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::time::Duration;

use cudarc::cublaslt::result::{self as lt, CublasError};
use cudarc::cublaslt::sys as lt_sys;
use cudarc::driver::{result, sys};

use super::context::Context;
use super::error::{log_failure, map_error};
use super::timer::Timer;
use crate::cuda::gpu::{Epilogue, Gemm, GpuError, Memory, OperandType, Ptr};

/// What NVIDIA recommends for Hopper.
const WORKSPACE: usize = 32 << 20;
/// Candidates that are timed; the later ones are rarely better.
const CANDIDATES: usize = 8;
/// Times that each is; the median counts.
const ROUNDS: usize = 3;
/// Rows of matrices begin at multiples of this, in bytes.
const ALIGNMENT: u32 = 16;
/// Overwritten before each timing, so that weights come from memory, as they do in a step: more than any GPU's cache.
const FLUSH: usize = 192 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    outputs: usize,
    inputs: usize,
    operands: OperandType,
    epilogue: Epilogue,
}

/// How to do the products of a shape.
#[derive(Debug)]
struct Plan {
    descriptor: lt_sys::cublasLtMatmulDesc_t,
    weight: Layout,
    input: Layout,
    output: Layout,
    algorithm: lt_sys::cublasLtMatmulAlgo_t,
}

#[derive(Debug)]
struct Layout(lt_sys::cublasLtMatrixLayout_t);

impl Layout {
    fn new(kind: lt_sys::cudaDataType, rows: usize, columns: usize) -> Result<Self, GpuError> {
        lt::create_matrix_layout(kind, rows as u64, columns as u64, rows as i64).map(Self).map_err(failed)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once; host memory only.
        log_failure(unsafe { lt::destroy_matrix_layout(self.0) });
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made by `CublasLt::plan`, destroyed once; host memory only.
        log_failure(unsafe { lt::destroy_matmul_desc(self.descriptor) });
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct CublasLt {
    handle: lt_sys::cublasLtHandle_t,
    plans: RefCell<HashMap<Shape, Plan>>,
    workspace: Memory,
    stream: sys::CUstream,
    context: Arc<Context>,
}

impl CublasLt {
    /// The context must be current.
    pub(super) fn new(context: &Arc<Context>, stream: sys::CUstream) -> Result<Self, GpuError> {
        let workspace = allocate(context, WORKSPACE)?;
        let handle = lt::create_handle().map_err(failed)?;
        Ok(Self { handle, plans: RefCell::default(), workspace, stream, context: Arc::clone(context) })
    }

    pub(super) fn gemm(&self, gemm: &Gemm, capturing: bool) -> Result<(), GpuError> {
        let Gemm { rows, outputs, inputs, operands, epilogue, .. } = *gemm;
        let shape = Shape { rows, outputs, inputs, operands, epilogue };
        if !self.plans.borrow().contains_key(&shape) {
            if capturing {
                return Err(GpuError::Failed(format!("the product {shape:?} is captured, but was never done before")));
            }
            let plan = self.plan(gemm, shape)?;
            self.plans.borrow_mut().insert(shape, plan);
        }
        match self.plans.borrow().get(&shape) {
            Some(plan) => self.run(plan, gemm, &plan.algorithm),
            None => Err(GpuError::Failed(format!("no plan for {shape:?}"))),
        }
    }

    fn run(&self, plan: &Plan, gemm: &Gemm, algorithm: &lt_sys::cublasLtMatmulAlgo_t) -> Result<(), GpuError> {
        let (alpha, beta) = (1.0_f32, if gemm.epilogue == Epilogue::AddF32 { 1.0_f32 } else { 0.0 });
        let at = |ptr: Ptr| ptr.0 as *mut c_void;
        // SAFETY: the caller says that the matrices are there, in the sizes of the layouts; handles live as long as `self`,
        // and both operands are read before the call returns.
        let done = unsafe {
            lt::matmul(
                self.handle,
                plan.descriptor,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                at(gemm.weight),
                plan.weight.0,
                at(gemm.input),
                plan.input.0,
                at(gemm.output),
                plan.output.0,
                at(gemm.output),
                plan.output.0,
                &raw const *algorithm,
                at(self.workspace.ptr()),
                WORKSPACE,
                self.stream.cast(),
            )
        };
        done.map_err(failed)
    }

    /// Times the candidates. The library counts in columns: our rows of numbers are its columns, so what it computes is
    /// the weight, transposed, times the input, and both come out as they lie.
    fn plan(&self, gemm: &Gemm, shape: Shape) -> Result<Plan, GpuError> {
        let Shape { rows, outputs, inputs, operands, epilogue } = shape;
        let factor = match operands {
            OperandType::Bf16 => lt_sys::cudaDataType::CUDA_R_16BF,
            OperandType::E4m3 => lt_sys::cudaDataType::CUDA_R_8F_E4M3,
        };
        let out = match epilogue {
            Epilogue::Bf16 => lt_sys::cudaDataType::CUDA_R_16BF,
            Epilogue::F32 | Epilogue::AddF32 => lt_sys::cudaDataType::CUDA_R_32F,
        };
        let descriptor =
            lt::create_matmul_desc(lt_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, lt_sys::cudaDataType::CUDA_R_32F);
        let mut plan = Plan {
            descriptor: descriptor.map_err(failed)?,
            weight: Layout::new(factor, inputs, outputs)?,
            input: Layout::new(factor, inputs, rows)?,
            output: Layout::new(out, outputs, rows)?,
            algorithm: lt_sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        let transpose = cudarc::cublas::sys::cublasOperation_t::CUBLAS_OP_T;
        // SAFETY: the descriptor was made above; the attribute is of this type.
        unsafe {
            lt::set_matmul_desc_attribute(
                plan.descriptor,
                lt_sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA,
                (&raw const transpose).cast(),
                size_of_val(&transpose),
            )
        }
        .map_err(failed)?;
        let candidates = self.candidates(&plan)?;
        plan.algorithm = match &candidates[..] {
            [] => return Err(GpuError::Failed(format!("cuBLASLt knows no way to multiply {shape:?}"))),
            [only] => *only,
            several => self.fastest(&plan, gemm, several)?,
        };
        Ok(plan)
    }

    /// What the library thinks is fast, best guess first.
    fn candidates(&self, plan: &Plan) -> Result<Vec<lt_sys::cublasLtMatmulAlgo_t>, GpuError> {
        use lt_sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(lt::create_matmul_pref().map_err(failed)?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(WORKSPACE as u64))?;
        // A product that is cut along its inputs is put together in float32, never in the output's bf16.
        let reduction = lt_sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reduction)?;
        for side in [
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ] {
            preference.set(side, &ALIGNMENT)?;
        }
        // SAFETY: a plain struct of numbers, for which zeros are values.
        let mut found: [lt_sys::cublasLtMatmulHeuristicResult_t; CANDIDATES] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        // SAFETY: handles are alive, and there is room for as many results as are asked for.
        unsafe {
            lt_sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                plan.descriptor,
                plan.weight.0,
                plan.input.0,
                plan.output.0,
                plan.output.0,
                preference.0,
                CANDIDATES as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
        }
        .result()
        .map_err(failed)?;
        let found = found.iter().take(count.max(0) as usize);
        Ok(found.filter(|it| it.state.result().is_ok()).map(|it| it.algo).collect())
    }

    fn fastest(
        &self,
        plan: &Plan,
        gemm: &Gemm,
        candidates: &[lt_sys::cublasLtMatmulAlgo_t],
    ) -> Result<lt_sys::cublasLtMatmulAlgo_t, GpuError> {
        let flush = allocate(&self.context, FLUSH)?;
        // The output may hold a residual stream, to which nothing may be added for practice.
        let output = allocate(&self.context, gemm.rows * gemm.outputs * 4)?;
        let practice = Gemm { output: output.ptr(), ..*gemm };
        let timer = Timer::new()?;
        let mut best = (Duration::MAX, candidates[0]);
        for candidate in candidates {
            let mut times = Vec::with_capacity(ROUNDS);
            for _ in 0..=ROUNDS {
                // SAFETY: the memory was allocated above.
                unsafe { result::memset_d8_async(flush.ptr().0, 0, FLUSH, self.stream) }.map_err(map_error)?;
                timer.begin(self.stream)?;
                match self.run(plan, &practice, candidate) {
                    Ok(()) => times.push(timer.end(self.stream)?),
                    // A candidate that does not work here is none.
                    Err(_) => break,
                }
            }
            // The first time loads the code.
            if times.len() > ROUNDS {
                times.remove(0);
                times.sort_unstable();
                if times[ROUNDS / 2] < best.0 {
                    best = (times[ROUNDS / 2], *candidate);
                }
            }
        }
        Ok(best.1)
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made by `new`, destroyed once.
            log_failure(unsafe { lt::destroy_handle(self.handle) });
        }
    }
}

struct Preference(lt_sys::cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(&self, what: lt_sys::cublasLtMatmulPreferenceAttributes_t, value: &T) -> Result<(), GpuError> {
        // SAFETY: alive, and the attribute is of the value's type: 64 bits for sizes, 32 for alignments.
        unsafe { lt::set_matmul_pref_attribute(self.0, what, (&raw const *value).cast(), size_of::<T>()) }
            .map_err(failed)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: made by `candidates`, destroyed once; host memory only.
        log_failure(unsafe { lt::destroy_matmul_pref(self.0) });
    }
}

fn allocate(context: &Arc<Context>, bytes: usize) -> Result<Memory, GpuError> {
    // SAFETY: owned by what is returned; its contents are never read before they are written.
    let ptr = unsafe { result::malloc_sync(bytes) }.map_err(map_error)?;
    Ok(Memory::new(Ptr(ptr), bytes, Arc::clone(context) as _))
}

fn failed(error: CublasError) -> GpuError {
    GpuError::Failed(format!("cuBLASLt: {error}"))
}
