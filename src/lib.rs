//! fedcircuit: a laboratory for circuits in federated learning.

pub mod config;
pub mod error;
pub mod rng;

pub use error::{Error, Result};
