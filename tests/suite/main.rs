//! The test suite: one binary, a module a subject.

mod circuits;
mod common;
mod failures;
mod federation;
mod kernels;
mod mnist;
mod reference;
mod small;
