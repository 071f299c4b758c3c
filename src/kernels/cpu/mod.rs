//! How the twins of the heavy kernels compute on this processor: images in registers, packed products, Winograd's
//! convolutions, gradients from the windows' winners. The twins themselves are in the kernels' files.

pub mod conv_products;
pub mod one_channel;
pub mod packed;
pub mod registers;
pub mod sparse_planes;
pub mod turn;
pub mod vectors;
pub mod windows;
pub mod winners;
pub mod winograd;
