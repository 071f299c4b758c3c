//! fedcircuit: a laboratory for circuits in federated learning.

pub mod circuits;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod federation;
pub mod kernels;
pub mod model;
pub mod rng;

pub use error::{Error, Result};
