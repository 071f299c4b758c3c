//! Logits, loss and the gradient of every parameter.

use fedcircuit::config::ModelPreset;
use fedcircuit::data::Dataset;
use fedcircuit::device::{Device, f32s};
use fedcircuit::federation::{Examples, Orders};
use fedcircuit::kernels::cross_entropy::{self, cross_entropy};
use fedcircuit::kernels::shape::Rounding;
use fedcircuit::model::{Depth, Input, LayerSpec, Network, Rows, SpecKind, Wants, Weights};

use super::check::{Golden, Within, close, sample};
use super::{GREY, bits, inputs, network, on_every_device, preset, upload};

/// Measured: 1.2e-6.
const LOGITS: Within = Within::OfLargest(4e-6);
/// Measured: 1e-7, one unit in the last place.
const LOSS: Within = Within::OfLargest(5e-7);
/// Of a gradient's largest element. Measured: 2.4e-6; PyTorch's float32 is 1.4e-6 from its float64.
const GRADIENT: Within = Within::OfLargest(8e-6);
/// Error of a whole gradient's norm and of its sum, as shares of the norm. Measured: 5.4e-7 and 7e-6.
const NORM: f64 = 2e-6;
const SUM: f64 = 3e-5;

/// What a batch gave.
struct Passed {
    /// `[images][classes]`, as PyTorch has them.
    logits: Vec<f32>,
    loss: f32,
    /// `[P]`.
    grads: Vec<f32>,
}

/// A pass forward and backward, all batches in the same dispatches: slot k sees the first `counts[k]` images.
fn pass(
    device: &dyn Device,
    network: &Network,
    dataset: &Dataset,
    (counts, stride): (&[u32], usize),
    rounding: Rounding,
) -> Vec<Passed> {
    let slots = counts.len();
    let examples = Examples::upload(device, dataset, &dataset.train).unwrap();
    let batches: Vec<_> = counts.iter().map(|n| vec![(0..*n).collect()]).collect();
    let orders = Orders::upload(device, &batches, stride).unwrap();
    let space = network.workspace(device, slots, stride, Depth::Weights).unwrap();
    let weights = upload(device, bits(&inputs::weights(&network.layout)));
    let rows = upload(device, &vec![0; slots]);
    let grads = device.alloc("gradients", slots * network.layout.words).unwrap();
    let stats = device.alloc("losses", 2 * slots).unwrap();

    let batch = orders.batch(0, slots);
    let weights = Weights { rounding, ..Weights::from(weights.all()) };
    let from = Rows { weights, rows: rows.all(), counts: orders.counts.all() };
    examples.gather(device, &orders, 0, batch, &space).unwrap();
    network.forward(device, &space, batch, from, None).unwrap();
    let loss = cross_entropy::Buffers {
        logits: space.logits(),
        targets: space.targets.all(),
        counts: from.counts,
        grad: space.logits_grad(),
        stats: stats.all(),
    };
    cross_entropy(device, batch, network.classes, 0, &loss).unwrap();
    network.backward(device, &space, batch, from, Wants::Weights(grads.all())).unwrap();

    let read = pollster::block_on(device.read(&[space.logits(), stats.all(), grads.all()])).unwrap();
    let each = f32s(&read[0]).chunks(network.classes * stride).zip(f32s(&read[2]).chunks(network.layout.words));
    let passed = each.zip(read[1].chunks(2)).zip(counts).map(|(((logits, grads), stats), count)| Passed {
        logits: (0..*count as usize).flat_map(|b| logits[b..].iter().step_by(stride).copied()).collect(),
        loss: f32::from_bits(stats[0]) / *count as f32,
        grads: grads.to_vec(),
    });
    passed.collect()
}

fn compare(on: &str, network: &Network, golden: &Golden, case: &str, got: &Passed) {
    golden.close(on, &format!("{case}.logits"), &got.logits, LOGITS);
    golden.close(on, &format!("{case}.loss"), &[got.loss], LOSS);
    for tensor in &network.layout.tensors {
        let grad = &got.grads[tensor.at..tensor.at + tensor.words()];
        golden.close(on, &format!("{case}.grad.{}", tensor.name), &sample(grad), GRADIENT);
        compare_whole(on, golden, &format!("{case}.grad_stats.{}", tensor.name), grad);
    }
}

/// Sum and norm speak for the elements that the file leaves out. A sum may cancel to nothing, so its error is measured
/// by the norm as well.
fn compare_whole(on: &str, golden: &Golden, name: &str, grad: &[f32]) {
    let double = || grad.iter().map(|g| f64::from(*g));
    let (sum, norm) = (double().sum::<f64>(), double().map(|g| g * g).sum::<f64>().sqrt());
    let want = golden.floats(name);
    let scale = f64::from(want[1]);
    let check = |what: &str, got: f64, want: f32, share: f64| {
        close(&[got as f32], &[want], Within::Absolute(share * scale))
            .map(|off| println!("{on}: {name}: {what} {:.1e} of {share:.1e}", off / scale))
            .unwrap_or_else(|e| panic!("{on}: {name}: {what}: {e}"));
    };
    check("sum", sum, want[0], SUM);
    check("norm", norm, want[1], NORM);
}

fn agrees(device: &dyn Device, network: &Network, dataset: &Dataset, golden: &Golden, case: &str, count: u32) {
    let stride = (count as usize).next_multiple_of(4);
    // Only the CPU engine has two ways.
    let ways = [Rounding::Componentwise, Rounding::Normwise];
    for rounding in ways.into_iter().take(if device.info().kind == "cpu" { 2 } else { 1 }) {
        let got = pass(device, network, dataset, (&[count], stride), rounding);
        compare(&format!("{}, {rounding:?}", device.info().kind), network, golden, case, &got[0]);
    }
}

/// The program folds PyTorch's two operations, minus the mean and by the deviation, into one multiplication and one
/// addition: at most two units in the last place of a number below 4.
#[test]
fn golden_pictures_are_normalised() {
    let (dataset, count) = (inputs::grey(0..32, 0..0), 32);
    let network = preset(ModelPreset::Mlp2nn);
    let norm = |p: &u8| (f32::from(*p) / 255.0 - inputs::MEAN) / inputs::STD;
    let want: Vec<f32> = dataset.train.pixels.iter().map(norm).collect();
    on_every_device(|device| {
        let examples = Examples::upload(device, &dataset, &dataset.train).unwrap();
        let orders = Orders::upload(device, &[vec![(0..count).collect()]], count as usize).unwrap();
        let space = network.workspace(device, 1, count as usize, Depth::Forward).unwrap();
        examples.gather(device, &orders, 0, orders.batch(0, 1), &space).unwrap();
        let read = pollster::block_on(device.read(&[space.input.all(), space.targets.all()])).unwrap();
        let pixels = f32s(&read[0]);
        let got: Vec<f32> = (0..count as usize).flat_map(|b| pixels[b..].iter().step_by(32).copied()).collect();
        close(&got, &want, Within::Absolute(5e-7)).unwrap_or_else(|e| panic!("{}: {e}", device.info().kind));
        assert_eq!(read[1], (0..count).map(|n| u32::from(inputs::label(n))).collect::<Vec<_>>());
    });
}

/// Both batches alone, and both as slots of the same dispatches, the shorter one padded further.
#[test]
fn golden_simple_cnn() {
    let (golden, network) = (Golden::open("simple_cnn"), preset(ModelPreset::SimpleCnn));
    let dataset = inputs::grey(0..32, 0..0);
    on_every_device(|device| {
        agrees(device, &network, &dataset, &golden, "batch32", 32);
        agrees(device, &network, &dataset, &golden, "batch19", 19);
        let together = pass(device, &network, &dataset, (&[32, 19], 32), Rounding::default());
        let on = format!("{}, together", device.info().kind);
        compare(&on, &network, &golden, "batch32", &together[0]);
        compare(&on, &network, &golden, "batch19", &together[1]);
    });
    golden.all_used("");
}

/// The networks of `odd_cnns`: its two first layers differ, and what reaches the linear ones.
fn odd_cnn(padding: usize, input: Input) -> Network {
    let conv = |name: &str, channels, kernel, padding, pool| LayerSpec {
        name: name.into(),
        kind: SpecKind::Conv { channels, kernel, padding, pool },
        relu: true,
    };
    let linear =
        |name: &str, features, relu| LayerSpec { name: name.into(), kind: SpecKind::Linear { features }, relu };
    let specs = [
        conv("conv1", 6, 5, padding, 2),
        conv("conv2", 5, 3, 0, 1),
        conv("conv3", 7, 3, 1, 2),
        linear("fc1", 16, true),
        linear("fc2", 10, false),
    ];
    network(&specs, input)
}

#[test]
fn golden_odd_cnns() {
    let golden = Golden::open("odd_cnns");
    let grey = odd_cnn(2, GREY);
    let colour = odd_cnn(0, Input { channels: 3, height: 20, width: 20 });
    on_every_device(|device| {
        agrees(device, &grey, &inputs::grey(0..13, 0..0), &golden, "grey", 13);
        agrees(device, &colour, &inputs::colour(), &golden, "colour", 13);
    });
    golden.all_used("");
}

#[test]
fn golden_mlp_2nn() {
    let (golden, network) = (Golden::open("mlp_2nn"), preset(ModelPreset::Mlp2nn));
    on_every_device(|device| agrees(device, &network, &inputs::grey(0..32, 0..0), &golden, "batch32", 32));
    golden.all_used("batch32.");
}

#[test]
fn golden_cnn_mcmahan() {
    let (golden, network) = (Golden::open("cnn_mcmahan"), preset(ModelPreset::CnnMcmahan));
    on_every_device(|device| agrees(device, &network, &inputs::grey(0..8, 0..0), &golden, "batch8", 8));
    golden.all_used("");
}
