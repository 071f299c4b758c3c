//! fedcircuit: a laboratory for circuits in federated learning.

pub mod cli;
pub mod config;
pub mod error;
pub mod report;
pub mod rng;

pub use error::{Error, Result};
