//! fedcircuit: a laboratory for circuits in federated learning.
//!
//! Every client of a simulated federation trains at the same time, in the same kernels, on one device; the circuits
//! inside the clients' networks are found, ablated and compared there, and one small buffer comes back a round.
//!
//! Where to begin:
//!
//! - [`experiment`]: a federation from its configuration to its results. [`experiment::Federation`] is the library's door.
//! - [`config`]: the experiment as plain data; every key with its meaning, default and range.
//! - [`federation`]: the round: waves of clients, local training, averaging, and the observers that may watch.
//! - [`circuits`]: finding, ablating and comparing circuits, and what they have to beat.
//! - [`model`]: layers that chain, and the passes forward and backward as kernel calls.
//! - [`kernels`]: every kernel beside its shader: declaration, checked call, plain Rust twin, test cases.
//! - [`device`]: the GPU, the CPU engine, and a shadow device that compares the two.
//! - [`data`] and [`report`]: what goes in, and what comes out.
//! - [`bench`]: how fast a device is.
//!
//! Modules import those below them and never above: cli, bench, experiment, report and circuits, federation, model and data,
//! kernels, device.

pub mod bench;
pub mod circuits;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod experiment;
pub mod federation;
pub mod kernels;
pub mod model;
pub mod report;
pub mod rng;

pub use error::{Error, Result};

/// The README's example, compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
