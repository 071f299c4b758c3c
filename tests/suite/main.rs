//! The test suite: one binary, a module a subject.

mod common;
mod golden;
mod kernels;
