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

use fedcircuit::config::{Architecture, Model, ModelPreset};
use fedcircuit::device::{Buffer, Cpu, Device};
use fedcircuit::experiment::layer_specs;
use fedcircuit::federation::{Budget, Examples, Pulse, Stage};
use fedcircuit::model::{Input, LayerSpec, Network, chain};

use crate::common::gpu;

const GREY: Input = Input { channels: 1, height: 28, width: 28 };

fn on_every_device(test: impl Fn(&dyn Device)) {
    test(&Cpu::new(Some(2)).unwrap());
    if let Some(gpu) = gpu() {
        test(gpu);
    }
}

fn preset(preset: ModelPreset) -> Network {
    let specs = layer_specs(&Model { init: None, architecture: Architecture::Preset(preset) });
    network(&specs, GREY)
}

fn network(specs: &[LayerSpec], input: Input) -> Network {
    Network::new(chain(specs, input, inputs::CLASSES).unwrap(), input, inputs::CLASSES)
}

/// What a federation hands around, for a test without one.
fn stage<'a>(device: &'a dyn Device, network: &'a Network, train: &'a Examples, test: &'a Examples) -> Stage<'a> {
    Stage { device, network, train, test, budget: Budget::new(device.info(), None, None), replicates: 1 }
}

/// Runs `work` in round 1 of a federation that nobody stops.
fn in_round_one<T>(work: impl FnOnce(&mut Pulse<'_>) -> fedcircuit::Result<T>) -> T {
    let stop = AtomicBool::new(false);
    work(&mut Pulse { stop: &stop, round: 1, advance: &mut |_| {} }).unwrap()
}

fn upload(device: &dyn Device, words: &[u32]) -> Buffer {
    let buffer = device.alloc("golden", words.len()).unwrap();
    device.write(buffer.all(), words).unwrap();
    buffer
}

fn bits(values: &[f32]) -> &[u32] {
    bytemuck::cast_slice(values)
}
