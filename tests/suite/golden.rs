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

use std::sync::atomic::AtomicBool;

use fedcircuit::device::Device;
use fedcircuit::federation::{Budget, Examples, Pulse, Stage};
use fedcircuit::model::Network;

use crate::common::{GREY, network, on_every_device, preset, upload};

/// What a federation hands around, for a test without one.
fn stage<'a>(device: &'a dyn Device, network: &'a Network, train: &'a Examples, test: &'a Examples) -> Stage<'a> {
    Stage { device, network, train, test, budget: Budget::new(device.info(), None, None), replicates: 1 }
}

/// Runs `work` in round 1 of a federation that nobody stops.
fn in_round_one<T>(work: impl FnOnce(&mut Pulse<'_>) -> fedcircuit::Result<T>) -> T {
    let stop = AtomicBool::new(false);
    work(&mut Pulse { stop: &stop, round: 1, advance: &mut |_| {} }).unwrap()
}

fn bits(values: &[f32]) -> &[u32] {
    bytemuck::cast_slice(values)
}
