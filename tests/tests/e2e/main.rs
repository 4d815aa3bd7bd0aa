//! End to end: the real service on a loopback port, the real worker, the real store; only the model is a double.

mod lease;
mod pipeline;
mod sandbox;
mod shutdown;
