use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::super::{Budget, Examples, OwnExamples};
use super::*;
use crate::config::Sparsity;
use crate::data::blank;
use crate::device::{Cpu, DeviceInfo, Kernel, Reading, Traffic};
use crate::model::{Input, LayerSpec, SpecKind, chain};

/// The CPU engine, and the words of every buffer that was made.
pub struct Counting {
    cpu: Cpu,
    pub words: Mutex<Vec<usize>>,
}

impl Counting {
    pub fn new() -> Self {
        Self { cpu: Cpu::new(Some(1)).unwrap(), words: Mutex::default() }
    }
}

impl Device for Counting {
    fn info(&self) -> &DeviceInfo {
        self.cpu.info()
    }

    fn alloc(&self, label: &str, words: usize) -> Result<Buffer> {
        self.words.lock().unwrap().push(words);
        self.cpu.alloc(label, words)
    }

    fn write(&self, to: View<'_>, data: &[u32]) -> Result<()> {
        self.cpu.write(to, data)
    }

    fn copy(&self, from: View<'_>, to: View<'_>) -> Result<()> {
        self.cpu.copy(from, to)
    }

    fn clear(&self, view: View<'_>) -> Result<()> {
        self.cpu.clear(view)
    }

    fn dispatch(&self, kernel: &'static Kernel, params: &[u32], buffers: &[View<'_>], groups: [u32; 3]) -> Result<()> {
        self.cpu.dispatch(kernel, params, buffers, groups)
    }

    fn wait(&self) -> Result<()> {
        self.cpu.wait()
    }

    fn read<'a>(&'a self, views: &[View<'a>]) -> Reading<'a> {
        self.cpu.read(views)
    }

    fn traffic(&self) -> Traffic {
        self.cpu.traffic()
    }
}

/// A network for images of 28 x 28 in ten classes.
pub fn network(kinds: &[SpecKind]) -> Network {
    let spec =
        |(i, kind): (usize, &SpecKind)| LayerSpec { name: format!("l{i}"), kind: *kind, relu: i + 1 < kinds.len() };
    let specs: Vec<LayerSpec> = kinds.iter().enumerate().map(spec).collect();
    let input = Input { channels: 1, height: 28, width: 28 };
    Network::new(chain(&specs, input, 10).unwrap(), input, 10)
}

/// The words of every buffer that a wave of so many clients makes, and those that were planned for one of them.
fn took(
    network: &Network,
    optimizer: Optimizer,
    target: f64,
    [clients, examples, batch]: [usize; 3],
) -> (Vec<usize>, (usize, usize)) {
    let (device, dataset) = (Counting::new(), blank(examples, 1, 10));
    let [train, test] =
        [&dataset.train, &dataset.test].map(|split| Examples::upload(&device, &dataset, split).unwrap());
    let training = Training { local_epochs: 2, batch_size: batch, optimizer, lr: 0.001 };
    let recipe = Recipe { lr: 0.001, sparsity: Sparsity { target, anneal: 0.5, min_alive: 0 } };
    let mut local = LocalTraining::new(&device, network, &training, vec![recipe], examples).unwrap();
    let budget = Budget::new(device.info(), None, None);
    let stage = Stage { device: &device, network, train: &train, test: &test, budget, replicates: 1 };
    let (own, steps) = ((0..examples as u32).collect::<Vec<_>>(), local.steps(examples));
    let member =
        |client| Member { replicate: 0, seed: 1, client, examples: OwnExamples::Listed(&own), steps, longest: steps };
    let wave: Vec<Member<'_>> = (0..clients).map(member).collect();
    let global = device.alloc("global", network.layout.words).unwrap();
    let (summary, alive) = local.report_words(clients);
    let [summary, alive] = [summary, alive].map(|words| device.alloc("reports", words).unwrap());
    let planned = local.client_words(stage, steps);
    device.words.lock().unwrap().clear();
    let stop = AtomicBool::new(false);
    let mut pulse = Pulse { stop: &stop, round: 1, advance: &mut |_| {} };
    local.train(stage, &global, &wave, summary.all(), alive.all(), &mut pulse).unwrap();
    let words = device.words.lock().unwrap().clone();
    (words, planned)
}

/// What decides how many clients fit is what they take, to a few words a client; and none of their buffers is larger than
/// was planned.
#[test]
fn a_wave_takes_what_was_planned_for_its_clients() {
    let convs = network(&[
        SpecKind::Conv { channels: 8, kernel: 3, padding: 1, pool: 2 },
        SpecKind::Conv { channels: 40, kernel: 3, padding: 1, pool: 2 },
        SpecKind::Linear { features: 10 },
    ]);
    let linear = network(&[SpecKind::Linear { features: 10 }]);
    let sgd = |momentum| Optimizer::Sgd { momentum, weight_decay: 0.0 };
    for (network, optimizer, target, sizes) in [
        // Pruned so far that there are lists of survivors, and dense.
        (&convs, Optimizer::Adam, 0.995, [3, 20, 8]),
        (&convs, Optimizer::Adam, 0.0, [3, 20, 8]),
        (&convs, sgd(0.9), 0.0, [2, 20, 8]),
        (&convs, sgd(0.0), 0.0, [2, 20, 8]),
        // Steps by the thousand, of which the orders are larger than all weights.
        (&linear, Optimizer::Adam, 0.0, [2, 1100, 1]),
    ] {
        let (words, (total, largest)) = took(network, optimizer, target, sizes);
        let (all, clients) = (words.iter().sum::<usize>(), sizes[0]);
        let what = format!("{optimizer:?} to {target}: {all} words of {clients} clients, {total} planned for one");
        assert!(all.abs_diff(clients * total) <= 12 * clients + 64, "{what}");
        assert!(words.iter().all(|words| *words <= clients * largest + 4), "{what}, {largest} in a buffer");
    }
}

#[test]
fn a_summary_is_of_the_words_that_the_device_left() {
    let of = |right, images, step| LocalSummary::from_words(&[0.75f32.to_bits(), right, images, step]);
    assert_eq!(of(3, 4, u32::MAX), LocalSummary { loss: 0.75, accuracy: 0.75, diverged: None });
    assert_eq!(of(0, 0, 0), LocalSummary { loss: 0.75, accuracy: 0.0, diverged: Some(1) });
    assert_eq!(of(1, 1, 6).diverged, Some(7));
}
