//! How shaders become texts: inner loops written out, the types and cuts of the variants put in.

pub mod conv_tile;
pub mod quads;
mod unroll;

pub use unroll::{unroll, unroll_with};
