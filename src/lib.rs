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
