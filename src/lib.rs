//! fedcircuit: a laboratory for circuits in federated learning.

pub mod device;
pub mod error;
pub mod kernels;
pub mod rng;

pub use error::{Error, Result};
