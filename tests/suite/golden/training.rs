//! Local training as a federation does it: Adam with pruning after every step, and SGD.

use fedcircuit::config::{ModelPreset, Optimizer, Sparsity, Training};
use fedcircuit::device::{Device, f32s};
use fedcircuit::federation::{Examples, LocalTraining, Member, OwnExamples, Recipe};
use fedcircuit::model::{Layout, Network, Tensor};
use fedcircuit::rng::{Purpose, stream};
use rand::seq::SliceRandom;

use super::check::{Golden, Within, sample};
use super::spy::Spy;
use super::{bits, in_round_one, inputs, on_every_device, preset, stage, upload};

const BATCH: usize = 32;
const SEED: u64 = 5;

/// What training gave.
struct Trained {
    /// Of every step.
    losses: Vec<f32>,
    /// Weights that were not zero after each pruning, of each prunable tensor.
    kept: Vec<Vec<u32>>,
    /// `[P]`.
    weights: Vec<f32>,
    /// Mean loss, as a client reports it, and nonzero weights of each prunable tensor.
    summary: (f32, Vec<u32>),
}

/// A client's examples in an order that the shuffle of its only epoch turns into 0, 1, 2, ...: step t then sees images
/// 32 t to 32 t + 31, as PyTorch's did.
fn unshuffled(count: usize) -> Vec<u32> {
    let mut from: Vec<usize> = (0..count).collect();
    from.shuffle(&mut stream(SEED, 1, 0, Purpose::Shuffle));
    let mut examples = vec![0; count];
    for (place, from) in (0..).zip(from) {
        examples[from] = place;
    }
    examples
}

/// Trains one client for `steps` steps from the golden weights.
fn train(device: &dyn Device, network: &Network, steps: usize, rule: (Optimizer, f64), target: f64) -> Trained {
    let spy = Spy::new(device, &[("cross_entropy", "stats"), ("prune", "weights")]);
    let dataset = inputs::grey(0..(BATCH * steps) as u32, 0..0);
    let images = Examples::upload(&spy, &dataset, &dataset.train).unwrap();
    let stage = stage(&spy, network, &images, &images);
    let training = Training { local_epochs: 1, batch_size: BATCH, optimizer: rule.0, lr: rule.1 };
    let recipe = Recipe { lr: rule.1, sparsity: Sparsity { target, anneal: 0.5, min_alive: 4 } };
    let examples = unshuffled(BATCH * steps);
    let mut local = LocalTraining::new(&spy, network, &training, vec![recipe], examples.len()).unwrap();
    let steps = local.steps(examples.len());
    let wave = [Member {
        replicate: 0,
        seed: SEED,
        client: 0,
        examples: OwnExamples::Listed(&examples),
        steps,
        longest: steps,
    }];
    let global = upload(device, bits(&inputs::weights(&network.layout)));
    let tensors = network.layout.prunable().count();
    let (summary, alive) = (device.alloc("summary", 4).unwrap(), device.alloc("alive", tensors).unwrap());
    let models = in_round_one(|pulse| local.train(stage, &global, &wave, summary.all(), alive.all(), pulse));
    let read = pollster::block_on(device.read(&[models.weights.values, summary.all(), alive.all()])).unwrap();
    let stats = spy.seen("cross_entropy").pop().unwrap();
    Trained {
        losses: stats.chunks(2).map(|s| f32::from_bits(s[0]) / BATCH as f32).collect(),
        kept: spy.seen("prune").iter().map(|row| survivors(&network.layout, f32s(row))).collect(),
        weights: f32s(&read[0]).to_vec(),
        summary: (f32::from_bits(read[1][0]), read[2].clone()),
    }
}

fn part<'r>(row: &'r [f32], tensor: &Tensor) -> &'r [f32] {
    &row[tensor.at..tensor.at + tensor.words()]
}

fn survivors(layout: &Layout, row: &[f32]) -> Vec<u32> {
    layout.prunable().map(|t| part(row, t).iter().filter(|w| **w != 0.0).count() as u32).collect()
}

/// The survivors are PyTorch's to the last index in the end, and by number after every step. Weights are within 1e-5 of
/// its: Adam divides a gradient by its own size, which blows up the rounding of small ones. Measured: 2.2e-6 in
/// conv3.weight, 9e-8 elsewhere; PyTorch's float32 is itself 6.3e-7 from its float64. Losses measured: 2.1e-7.
fn pruned(run: &str, steps: usize, target: f64) {
    let (golden, network) = (Golden::open("pruned_training"), preset(ModelPreset::SimpleCnn));
    on_every_device(|device| {
        let on = device.info().kind;
        let got = train(device, &network, steps, (Optimizer::Adam, 1e-3), target);
        if on == "gpu" && !device.info().software {
            return nearly(&golden, run, &network, &got);
        }
        golden.close(on, &format!("{run}.loss"), &got.losses, Within::OfLargest(1e-6));
        golden.close(on, &format!("{run}.loss_float64"), &got.losses, Within::OfLargest(1e-6));
        let kept = golden.words(&format!("{run}.kept")).chunks(network.layout.prunable().count());
        assert_eq!(got.kept, kept.collect::<Vec<_>>(), "{on}: {run}: survivors of each step");
        assert_eq!(Some(&got.summary.1), got.kept.last(), "{on}: {run}: survivors reported");
        let mean = golden.floats(&format!("{run}.loss")).iter().sum::<f32>() / steps as f32;
        assert!((got.summary.0 - mean).abs() <= 1e-6 * mean, "{on}: {run}: mean loss {} {mean}", got.summary.0);
        for tensor in &network.layout.tensors {
            let mut values = part(&got.weights, tensor).to_vec();
            if !tensor.is_bias() {
                let index: Vec<u32> = (0..).zip(&values).filter(|(_, w)| **w != 0.0).map(|(i, _)| i).collect();
                let name = format!("{run}.index.{}", tensor.name);
                assert!(index == golden.words(&name), "{on}: {name}: other survivors than PyTorch's");
                values.retain(|w| *w != 0.0);
            }
            golden.close(on, &format!("{run}.value.{}", tensor.name), &values, Within::Absolute(1e-5));
        }
    });
    golden.all_used(&format!("{run}."));
}

/// Steps before anything jumps on any hardware that was tried.
const SMOOTH: usize = 3;

/// A hardware GPU fuses multiplications and additions as its driver sees fit, so of two places of a pooling window that are
/// nearly equal the other may win, and of two weights at the threshold the other may stay: from then on it is another run of
/// the same training. On an NVIDIA H200 a window of one filter went the other way in the second step, and one weight of
/// `fc.weight` stayed for another (3.944986e-3, 3.945020e-3) in the fourth; losses were off by 1e-7 until then, afterwards by
/// up to 5e-4 (`s995`) and 3e-2 (`s90`), and 97 to 100% of the survivors of `s995` were PyTorch's. By chance it would be 0.5%.
fn nearly(golden: &Golden, run: &str, network: &Network, got: &Trained) {
    let losses = golden.floats(&format!("{run}.loss"));
    let off = |(got, want): (&f32, &f32)| ((got - want) / want).abs();
    let off: Vec<f32> = got.losses.iter().zip(losses).map(off).collect();
    let (before, after) = off.split_at(SMOOTH);
    assert!(before.iter().all(|off| *off <= 1e-6), "{run}: losses off by {off:?}");
    assert!(after.iter().all(|off| *off <= 0.1), "{run}: losses off by {off:?}");
    let kept = golden.words(&format!("{run}.kept")).chunks(network.layout.prunable().count());
    assert_eq!(got.kept.len(), kept.len());
    for (step, (got, want)) in got.kept.iter().zip(kept).enumerate() {
        let close = got.iter().zip(want).all(|(got, want)| got.abs_diff(*want) <= want / 50);
        assert!(close, "{run}: step {step} keeps {got:?}, PyTorch {want:?}");
    }
    for tensor in network.layout.prunable() {
        let values = part(&got.weights, tensor);
        let index = golden.words(&format!("{run}.index.{}", tensor.name));
        let shared = index.iter().filter(|i| values[**i as usize] != 0.0).count();
        assert!(5 * shared >= 4 * index.len(), "{run}: {}: {shared} of {} survivors", tensor.name, index.len());
    }
}

#[test]
fn golden_pruned_training_to_995() {
    pruned("s995", 20, 0.995);
}

#[test]
fn golden_pruned_training_to_90() {
    pruned("s90", 40, 0.9);
}

/// Measured: losses 1e-7, weights 2.3e-7.
#[test]
fn golden_sgd() {
    let (golden, network) = (Golden::open("mlp_2nn"), preset(ModelPreset::Mlp2nn));
    let rule = (Optimizer::Sgd { momentum: 0.9, weight_decay: 1e-3 }, 0.05);
    on_every_device(|device| {
        let on = device.info().kind;
        let got = train(device, &network, 5, rule, 0.0);
        assert!(got.kept.is_empty(), "{on}: pruned, though nothing was to be");
        golden.close(on, "sgd.loss", &got.losses, Within::OfLargest(5e-7));
        for tensor in &network.layout.tensors {
            let values = sample(part(&got.weights, tensor));
            golden.close(on, &format!("sgd.value.{}", tensor.name), &values, Within::OfLargest(1e-6));
        }
    });
    golden.all_used("sgd.");
}
