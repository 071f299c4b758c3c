//! fedcircuit: a laboratory for circuits in federated learning.

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
