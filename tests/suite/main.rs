//! The test suite: one binary, a module a subject.

mod analyses;
mod bench;
mod browser;
mod circuits;
mod cli;
mod cohorts;
mod common;
mod docs;
mod failures;
mod faults;
mod federation;
mod golden;
mod kernels;
mod many_clients;
mod measures;
mod mnist;
mod mutated;
mod properties;
mod reference;
mod resume;
mod searches;
mod seeds;
mod small;
mod sparse;
mod together;
