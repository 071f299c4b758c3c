//! What is tested of several kernels together, and the definitions in float64 that twins are held to.

mod invariance;
pub mod reference;
mod sparse;
