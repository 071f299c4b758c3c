//! The test suite: one binary, a module a subject.

mod cli;
mod common;
mod golden;
mod kernels;
