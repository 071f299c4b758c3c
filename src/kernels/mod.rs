//! Every kernel, one file each beside its shader: the declaration, the typed call, the plain Rust twin, the cases.
//!
//! Layout of what the kernels share (dimension letters: K clients, B images of a batch, C channels, H, W, P
//! parameters, G gates):
//!
//! - Activations and their gradients are `[K][C][H][W][B]`, the batch innermost: a weight is one number times a
//!   contiguous run of images, and neighbouring GPU threads read neighbouring words. B is a multiple of 4.
//! - A client's batch holds `counts[k]` images; at and beyond that every activation, code and gradient is zero.
//! - Parameters, gradients and optimiser moments are `[K][P]`, each tensor at its offset of the layout.
//! - Argmax codes of the fused ReLU and pooling are `[K][C][H][W][B]` bytes, four to a word: the winner's place in its
//!   window (row-major), or 4 where the ReLU was dead.
//! - Sums over images run in chunks of [`CHUNK`] images whose partial sums are added in order, so that no bit depends
//!   on the padded B, the wave, or the number of threads.

pub mod ablate_forward;
pub mod ablate_grad;
pub mod accumulate;
pub mod adam;
pub mod broadcast;
mod cases;
pub mod channel_sum;
pub mod circuit_edges;
pub mod complement;
pub mod confusion;
pub mod conv_forward;
pub mod conv_input_grad;
pub mod conv_weight_grad;
mod cpu;
pub mod cross_entropy;
pub mod edge_bits;
pub mod filter_norm;
pub mod gate_grad;
pub mod gate_step;
pub mod gather;
pub mod linear_forward;
pub mod linear_input_grad;
pub mod linear_weight_grad;
pub mod loss_summary;
pub mod magnitude_threshold;
pub mod needed;
pub mod nonzeros;
pub mod overlap;
pub mod overlap_all;
pub mod pack_bits;
pub mod patch_channels;
pub mod peak_copy;
pub mod peak_fma;
pub mod pick;
pub mod prune;
pub mod rank_keys;
pub mod ranked_gates;
pub mod reach;
pub mod sgd;
pub mod shape;
pub mod sparse;
pub mod sparse_conv_forward;
pub mod sparse_conv_input_grad;
pub mod sparse_linear_forward;
pub mod sparse_linear_input_grad;
pub mod survivors;
#[cfg(test)]
mod tests;
mod text;
pub mod weight_grad_sum;
mod window_scores;
pub mod without_one;

pub use text::{unroll, unroll_with};

use crate::device::Kernel;

/// Images of one partial sum, and of one unit of work on the CPU.
pub const CHUNK: usize = 32;

/// The code of a pooling window whose ReLU was dead.
pub const DEAD: u8 = 4;

/// All kernels, in the order of a training step and then of the circuits; last, those that only benchmarks run.
pub static ALL: &[&Kernel] = &[
    &broadcast::KERNEL,
    &gather::KERNEL,
    &conv_forward::KERNEL,
    &linear_forward::KERNEL,
    &cross_entropy::KERNEL,
    &linear_input_grad::KERNEL,
    &linear_weight_grad::KERNEL,
    &conv_input_grad::KERNEL,
    &conv_weight_grad::KERNEL,
    &weight_grad_sum::KERNEL,
    &adam::KERNEL,
    &sgd::KERNEL,
    &magnitude_threshold::KERNEL,
    &prune::KERNEL,
    &nonzeros::KERNEL,
    &survivors::KERNEL,
    &reach::KERNEL,
    &needed::KERNEL,
    &sparse_conv_forward::KERNEL,
    &sparse_linear_forward::KERNEL,
    &sparse_linear_input_grad::KERNEL,
    &sparse_conv_input_grad::KERNEL,
    &loss_summary::KERNEL,
    &accumulate::KERNEL,
    &confusion::KERNEL,
    &gate_grad::KERNEL,
    &gate_step::KERNEL,
    &channel_sum::KERNEL,
    &ablate_forward::KERNEL,
    &ablate_grad::KERNEL,
    &complement::KERNEL,
    &edge_bits::KERNEL,
    &pack_bits::KERNEL,
    &circuit_edges::KERNEL,
    &filter_norm::KERNEL,
    &rank_keys::KERNEL,
    &ranked_gates::KERNEL,
    &without_one::KERNEL,
    &pick::KERNEL,
    &overlap::KERNEL,
    &overlap_all::KERNEL,
    &patch_channels::KERNEL,
    &peak_fma::KERNEL,
    &peak_copy::KERNEL,
];

/// Channels of one unit of a twin's work, so that all threads have some. Says nothing about any bit.
fn block(slots: usize, channels: usize) -> usize {
    let wanted = (2 * rayon::current_num_threads()).div_ceil(slots.max(1));
    channels.div_ceil(wanted.max(1)).max(1)
}
