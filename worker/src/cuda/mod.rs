//! The CUDA device: weights in bf16, a paged KV pool, and whole steps on the GPU, sampling included.
//!
//! A step, kernel by kernel. All of it lies in memory that was allocated at the start, so that it can be recorded; what
//! changes from step to step (tokens, positions, block tables, sampling) is read from there, never from arguments.
//!
//! ```text
//!   tokens ──embed──▶ x                       f32  [rows][dim]: the residual stream
//!   each layer:
//!     x ──norm──▶ normed                      bf16 [rows][dim]
//!     normed ──product──▶ qkv                 bf16 [rows][q + k + v]
//!     qkv ──bias, head norm, rope──▶ queries  bf16 [rows][heads * head_dim], and keys and values into the pool
//!     queries ──attention──▶ attended         bf16 [rows][heads * head_dim]
//!     attended ──product──▶ x                 added
//!     x ──norm──▶ normed ──product──▶ both    bf16 [rows][gate + up]
//!     both ──silu * up──▶ hidden ──product──▶ bf16 [rows][ffn], then added to x
//!   x ──last rows, norm──▶ product ──▶ logits f32  [samples][vocab] ──sample──▶ token ids and errors
//! ```

pub mod driver;
pub mod gpu;
pub mod host;
pub mod kernels;
pub mod nvrtc;
