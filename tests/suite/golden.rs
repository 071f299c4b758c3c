//! The network, its training, pruning and circuits against numbers from PyTorch (`tests/golden/README.md`).
//!
//! Every test runs on the CPU engine and, where there is one, on the GPU. `--nocapture` shows how near each tensor
//! came. Float32 is not one answer: an order of summation moves a result by some units in its last place, PyTorch's
//! own included. A tolerance here is a few times what we measured, and far below what a wrong formula does.

mod check;
mod circuits;
mod fills;
mod gradients;
mod inputs;
mod pruning;
mod spy;
mod training;

use crate::common::{GREY, in_round_one, network, on_every_device, preset, stage, upload};

fn bits(values: &[f32]) -> &[u32] {
    bytemuck::cast_slice(values)
}
