//! What several modules of the suite need.

use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use fedcircuit::config::{Architecture, Model, ModelPreset};
use fedcircuit::device::{Buffer, Choice, Cpu, Device, GpuOptions, open};
use fedcircuit::experiment::layer_specs;
use fedcircuit::federation::{Budget, Examples, Pulse, Stage};
use fedcircuit::model::{Input, LayerSpec, Network, chain};

/// Of the networks here.
pub const CLASSES: usize = 10;
/// Images as MNIST has them.
pub const GREY: Input = Input { channels: 1, height: 28, width: 28 };

/// The first GPU (software Vulkan included) with shader checks on, opened once for the whole suite; or `None`, said
/// aloud. Under `FEDCIRCUIT_REQUIRE_GPU=1` a missing adapter is a failure.
pub fn gpu() -> Option<&'static dyn Device> {
    static GPU: OnceLock<Option<Box<dyn Device>>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match open(&Choice::Gpu, GpuOptions { checked: true, ..Default::default() }, None) {
        Ok((device, _)) => Some(device),
        Err(e) if std::env::var_os("FEDCIRCUIT_REQUIRE_GPU").is_some() => panic!("a GPU adapter is required: {e}"),
        Err(e) => {
            println!("skipped: {e}");
            None
        }
    });
    gpu.as_deref()
}

/// Runs `test` on the CPU engine and, where there is one, on the GPU.
pub fn on_every_device(test: impl Fn(&dyn Device)) {
    test(&Cpu::new(Some(2)).unwrap());
    if let Some(gpu) = gpu() {
        test(gpu);
    }
}

/// A network of a preset, for [`GREY`] images.
pub fn preset(preset: ModelPreset) -> Network {
    let specs = layer_specs(&Model { init: None, architecture: Architecture::Preset(preset) });
    network(&specs, GREY)
}

pub fn network(specs: &[LayerSpec], input: Input) -> Network {
    Network::new(chain(specs, input, CLASSES).unwrap(), input, CLASSES)
}

/// A buffer of these words.
pub fn upload(device: &dyn Device, words: &[u32]) -> Buffer {
    let buffer = device.alloc("test", words.len()).unwrap();
    device.write(buffer.all(), words).unwrap();
    buffer
}

/// What a federation hands around, for a test without one.
pub fn stage<'a>(device: &'a dyn Device, network: &'a Network, train: &'a Examples, test: &'a Examples) -> Stage<'a> {
    Stage { device, network, train, test, budget: Budget::new(device.info(), None, None), replicates: 1 }
}

/// Runs `work` in round 1 of a federation that nobody stops.
pub fn in_round_one<T>(work: impl FnOnce(&mut Pulse<'_>) -> fedcircuit::Result<T>) -> T {
    let stop = AtomicBool::new(false);
    work(&mut Pulse { stop: &stop, round: 1, advance: &mut |_| {} }).unwrap()
}
