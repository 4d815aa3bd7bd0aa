//! Tests that run the `longhand` program as its users do.

mod bad_input;
mod crash;
mod program;
mod stop_and_go;
mod traces;
