//! The sparse path against the dense one, where nothing but their speed may differ.

use fedcircuit::circuits::{Ablation, Fills, Shown, learn_gates};
use fedcircuit::config::{ModelPreset, presets};
use fedcircuit::data::digits;
use fedcircuit::device::{Case, Device, Kernel};
use fedcircuit::federation::Examples;
use fedcircuit::kernels::shape::Batch;
use fedcircuit::kernels::{
    conv_forward, conv_input_grad, linear_forward, linear_input_grad, sparse_conv_forward, sparse_conv_input_grad,
    sparse_linear_forward, sparse_linear_input_grad,
};
use fedcircuit::model::{
    Density, Depth, Input, LayerSpec, Network, Op, Rows, SpecKind, Survivors, Wants, Weights, Workspace,
    initial_weights,
};

use crate::common::{gpu, in_round_one, network, on_every_device, preset, stage, upload};

/// A sparse kernel leaves out terms that are zero and adds the others in the dense kernel's order: the same bits.
#[test]
fn sparse_shaders_give_the_bits_of_dense_ones() {
    let Some(gpu) = gpu() else { return };
    let couples: [(&'static Kernel, &'static Kernel); 4] = [
        (&sparse_conv_forward::KERNEL, &conv_forward::KERNEL),
        (&sparse_conv_input_grad::KERNEL, &conv_input_grad::KERNEL),
        (&sparse_linear_forward::KERNEL, &linear_forward::KERNEL),
        (&sparse_linear_input_grad::KERNEL, &linear_input_grad::KERNEL),
    ];
    for (sparse, dense) in couples {
        let known = (dense.cases)();
        let mut compared = 0;
        for case in (sparse.cases)() {
            // The dense case of that name says how many workgroups it takes.
            let Some(like) = known.iter().find(|other| other.name == case.name) else { continue };
            let shared = |buffers: Vec<Vec<u32>>| -> Vec<Vec<u32>> {
                let names = sparse.bindings.iter().map(|b| b.name).zip(buffers);
                let has = |name| dense.bindings.iter().any(|b| b.name == name);
                names.filter(|(name, _)| has(*name)).map(|(_, words)| words).collect()
            };
            let same = Case { params: like.params.clone(), buffers: shared(case.buffers.clone()), ..like.clone() };
            let got = shared(crate::kernels::run(gpu, sparse, &case));
            assert!(got == crate::kernels::run(gpu, dense, &same), "{}, case {:?}", sparse.name, case.name);
            compared += 1;
        }
        assert!(compared >= 7, "{}: {compared} cases compared", sparse.name);
    }
}

/// Images of a batch.
const IMAGES: usize = 8;

fn bits(n: usize, value: impl Fn(usize) -> f32) -> Vec<u32> {
    (0..n).map(|i| value(i).to_bits()).collect()
}

/// A pass forward and backward of images, gates and gradients of the logits; the logits and the gates' gradients.
fn pass(
    device: &dyn Device,
    network: &Network,
    space: &Workspace,
    from: Rows<'_>,
    images: impl Fn(usize) -> f32,
    gates: impl Fn(usize) -> f32,
    logits_grad: impl Fn(usize) -> f32,
) -> Vec<Vec<u32>> {
    let batch = Batch { slots: 1, stride: IMAGES, counts_at: 0 };
    let hard = upload(device, &bits(network.layout.gate_words, gates));
    let grads = upload(device, &vec![0; network.layout.gate_words]);
    device.write(space.input.all(), &bits(space.input.words(), images)).unwrap();
    network.forward(device, space, batch, from, Some(hard.all())).unwrap();
    let logits = pollster::block_on(device.read(&[space.logits()])).unwrap().remove(0);
    device.write(space.logits_grad(), &bits(logits.len(), logits_grad)).unwrap();
    network.backward(device, space, batch, from, Wants::Gates { hard: hard.all(), grads: grads.all() }).unwrap();
    let grads = pollster::block_on(device.read(&[grads.all()])).unwrap().remove(0);
    vec![logits, grads]
}

fn numbers(words: &[u32]) -> Vec<f32> {
    words.iter().map(|w| f32::from_bits(*w)).collect()
}

fn closed(gate: usize) -> bool {
    gate.is_multiple_of(3)
}

/// First weights of which few are left, one of `of` in the large layers.
fn few_weights(network: &Network, of: usize) -> Vec<u32> {
    let mut row = initial_weights(&network.layout, 5);
    for tensor in network.layout.prunable() {
        let of = if tensor.words() < 300 { 2 } else { of };
        let weights = row[tensor.at..][..tensor.words()].iter_mut().enumerate();
        weights.filter(|(i, _)| i % of > 0).for_each(|(_, w)| *w = 0.0);
    }
    row.iter().map(|w| w.to_bits()).collect()
}

/// Room for the lists of one row of weights.
fn survivors(device: &dyn Device, network: &Network, min_alive: usize) -> Survivors {
    Survivors::new(device, network, &Density::pruned(network, 0.995, min_alive), 1, true).unwrap().unwrap()
}

/// Passes over survivors leave the closed channels of the layers `unread` as they were: what another batch left there, even
/// what is not a number, reaches neither logits nor gradients. Those of other layers they fill.
fn check_closed_channels(device: &dyn Device, network: &Network, min_alive: usize, unread: &[usize]) {
    let (weights, rows) = (upload(device, &few_weights(network, 17)), upload(device, &[0]));
    let counts = upload(device, &[IMAGES as u32 - 1]);
    let survivors = survivors(device, network, min_alive);
    let listed = survivors.list(device, network, 1, weights.all(), true).unwrap();
    let from = Rows { weights: listed, rows: rows.all(), counts: counts.all() };
    let fresh = || network.workspace(device, 1, IMAGES, Depth::Gates).unwrap();
    let real = |space: &Workspace| {
        let images = |i: usize| if i % IMAGES < IMAGES - 1 { (i * 37 % 101) as f32 / 101.0 - 0.3 } else { 0.0 };
        let gates = |gate: usize| f32::from(u8::from(!closed(gate)));
        pass(device, network, space, from, images, gates, |i| (i % 7) as f32 - 3.0)
    };
    let want = real(&fresh());
    let space = fresh();
    pass(device, network, &space, from, |_| f32::NAN, |_| 1.0, |_| f32::NAN);
    assert!(real(&space) == want, "{}", device.info().name);
    for words in &want {
        let values = numbers(words);
        assert!(values.iter().all(|v| v.is_finite()));
        assert!(values.iter().filter(|v| **v != 0.0).count() > values.len() / 5);
    }
    for gates in &network.layout.gates {
        let left = numbers(&pollster::block_on(device.read(&[space.output(gates.layer)])).unwrap()[0]);
        let plane = left.len() / gates.channels;
        let nan = |c: &usize| left[c * plane..][..plane].iter().any(|v| v.is_nan());
        let nans: Vec<usize> = (0..gates.channels).filter(nan).collect();
        let left_open = |c: &usize| closed(gates.at + c) && unread.contains(&gates.layer);
        let want: Vec<usize> = (0..gates.channels).filter(left_open).collect();
        assert_eq!(nans, want, "layer {} with at least {min_alive} weights a filter", gates.layer);
    }
}

#[test]
fn what_lies_in_closed_channels_is_nobodys() {
    let simple = preset(ModelPreset::SimpleCnn);
    let conv = |name: &str, channels, kernel, padding| LayerSpec {
        name: name.into(),
        kind: SpecKind::Conv { channels, kernel, padding, pool: 1 },
        relu: true,
    };
    let logits = LayerSpec { name: "fc".into(), kind: SpecKind::Linear { features: 10 }, relu: false };
    // Four weights are few of those of the first two layers' filters, and most of the third's.
    let specs = [conv("conv1", 8, 5, 2), conv("conv2", 5, 3, 1), conv("conv3", 7, 1, 0), logits];
    let mixed = network(&specs, Input { channels: 3, height: 9, width: 10 });
    on_every_device(|device| {
        check_closed_channels(device, &simple, 4, &[0, 1]);
        // Only the last convolution goes over lists, and the others fill their closed channels.
        check_closed_channels(device, &simple, 200, &[]);
        check_closed_channels(device, &mixed, 4, &[0]);
    });
}

/// Whatever its activation, a closed unit is as one that nothing reads: no gate before it feels the loss through it.
#[test]
fn gradients_do_not_pass_closed_units() {
    let conv = SpecKind::Conv { channels: 16, kernel: 3, padding: 1, pool: 2 };
    let layer = |name: &str, kind, relu| LayerSpec { name: name.into(), kind, relu };
    let input = Input { channels: 1, height: 12, width: 12 };
    for relu in [false, true] {
        let hidden = layer("hidden", SpecKind::Linear { features: 64 }, relu);
        let specs = [layer("conv", conv, true), hidden, layer("fc", SpecKind::Linear { features: 10 }, false)];
        let network = network(&specs, input);
        let [first, units] = [0, 1].map(|layer| network.layout.gates_of(layer).unwrap());
        let words = few_weights(&network, 17);
        let mut without = words.clone();
        let read = &mut without[network.layout.place(2).weights_at..][..10 * units.channels];
        let weights = read.iter_mut().enumerate();
        weights.filter(|(i, _)| closed(units.at + i % units.channels)).for_each(|(_, weight)| *weight = 0);
        on_every_device(|device| {
            let (rows, counts) = (upload(device, &[0]), upload(device, &[IMAGES as u32]));
            let grads = |words: &[u32], is_open: &dyn Fn(usize) -> bool, over_lists: bool| {
                let (weights, survivors) = (upload(device, words), survivors(device, &network, 0));
                let listed = survivors.list(device, &network, 1, weights.all(), true).unwrap();
                let weights = if over_lists { listed } else { weights.all().into() };
                let from = Rows { weights, rows: rows.all(), counts: counts.all() };
                let space = network.workspace(device, 1, IMAGES, Depth::Gates).unwrap();
                let images = |i: usize| (i * 37 % 101) as f32 / 101.0 - 0.3;
                let gates = |gate: usize| f32::from(u8::from(is_open(gate)));
                numbers(&pass(device, &network, &space, from, images, gates, |i| (i % 7) as f32 - 3.0)[1])
            };
            for over_lists in [false, true] {
                let shut = grads(&words, &|gate| gate < units.at || !closed(gate), over_lists);
                let unread = grads(&without, &|_| true, over_lists);
                let all = grads(&words, &|_| true, over_lists);
                let conv = first.at..first.at + first.channels;
                let far = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| (**a - **b).abs() > 1e-4).count();
                assert_eq!(far(&shut[conv.clone()], &unread[conv.clone()]), 0, "{}, relu {relu}", device.info().name);
                let apart = far(&shut[conv.clone()], &all[conv.clone()]);
                assert!(apart > first.channels / 4, "{apart} of {} gates", first.channels);
            }
        });
    }
}

/// One weight of so many leaves a good half of conv3's channels of simple-cnn without a reader, and some of conv2's without one
/// that has any itself.
const HARDLY_ANY: usize = 211;

#[test]
fn channels_that_reach_nothing_change_no_bit() {
    let simple = preset(ModelPreset::SimpleCnn);
    on_every_device(|device| {
        let weights = upload(device, &few_weights(&simple, HARDLY_ANY));
        let (rows, counts) = (upload(device, &[0]), upload(device, &[IMAGES as u32]));
        let survivors = survivors(device, &simple, 0);
        let listed = survivors.list(device, &simple, 1, weights.all(), true).unwrap();
        let from = Rows { weights: listed, rows: rows.all(), counts: counts.all() };
        let hard: Vec<f32> = (0..simple.layout.gate_words).map(|gate| f32::from(u8::from(!closed(gate)))).collect();
        let gates = upload(device, bytemuck::cast_slice(&hard));
        simple.reach(device, 1, from, gates.all()).unwrap();
        let reaching = numbers(&pollster::block_on(device.read(&[gates.all()])).unwrap()[0]);
        assert!(hard.iter().zip(&reaching).all(|(hard, reaching)| reaching == hard || *reaching == 0.0));
        let open = |gates: &[f32], i: usize| {
            let range = &simple.layout.gates[i];
            gates[range.at..][..range.channels].iter().filter(|gate| **gate > 0.0).count()
        };
        let [before, after] = [&hard, &reaching].map(|gates| [1, 2].map(|i| open(gates, i)));
        assert!(after[0] < before[0] && 2 * after[1] < before[1], "{before:?} {after:?}");
        let real = |gates: &[f32]| {
            let space = simple.workspace(device, 1, IMAGES, Depth::Gates).unwrap();
            let images = |i: usize| (i * 37 % 101) as f32 / 101.0 - 0.3;
            pass(device, &simple, &space, from, images, |gate| gates[gate], |i| (i % 7) as f32 - 3.0)
        };
        let want = real(&hard);
        assert!(want.iter().all(|words| numbers(words).iter().filter(|v| **v != 0.0).count() > 9));
        assert!(real(&reaching) == want, "{}", device.info().name);
    });
}

/// Of each layer's outputs, those that a path of surviving weights leads from to the logits: followed from the logits back,
/// window by window. All of a block of four outputs that are not pooled are, where one is.
fn needed_by_hand(network: &Network, words: &[u32]) -> Vec<Vec<bool>> {
    let weights = |layer: usize| &words[network.layout.place(layer).weights_at..];
    let last = network.layers.len() - 1;
    let mut all = vec![vec![true; network.classes]];
    for layer in (1..=last).rev() {
        let mut inputs = vec![false; network.layers[layer].sizes().0];
        let outputs = all.last().unwrap();
        match network.layers[layer].op {
            Op::Linear(linear) => {
                let alive = |n: usize| (0..linear.outputs).any(|m| weights(layer)[m * linear.inputs + n] != 0);
                inputs.iter_mut().enumerate().for_each(|(n, needed)| *needed = alive(n));
            }
            Op::Conv(c) => {
                let ((h, w), square) = (c.pooled(), c.kernel * c.kernel);
                // Sum (y, x) of filter m.
                let sums = (0..c.out_channels * h * w * c.pool * c.pool).map(|i| {
                    let (m, at) = (i / (h * w * c.pool * c.pool), i % (h * w * c.pool * c.pool));
                    (m, at / (w * c.pool), at % (w * c.pool))
                });
                for (m, y, x) in sums.filter(|(m, y, x)| outputs[(m * h + y / c.pool) * w + x / c.pool]) {
                    for i in (0..c.in_channels * square).filter(|i| weights(layer)[m * c.in_channels * square + i] != 0)
                    {
                        let at = |from: usize, k: usize, end| (from + k).checked_sub(c.padding).filter(|at| *at < end);
                        let [row, column] = [at(y, i % square / c.kernel, c.height), at(x, i % c.kernel, c.width)];
                        if let (Some(row), Some(column)) = (row, column) {
                            inputs[(i / square * c.height + row) * c.width + column] = true;
                        }
                    }
                }
            }
        }
        if let Op::Conv(c) = network.layers[layer - 1].op
            && c.pool == 1
        {
            let ((h, w), read) = (c.pooled(), inputs.clone());
            for (i, needed) in inputs.iter_mut().enumerate() {
                let (m, y, x) = (i / (h * w), i / w % h / 2 * 2, i % w / 2 * 2);
                *needed = (y..h.min(y + 2)).any(|y| (x..w.min(x + 2)).any(|x| read[(m * h + y) * w + x]));
            }
        }
        all.push(inputs);
    }
    all.reverse();
    all
}

/// Passes with gates leave what nothing needs as it was, all of it but in the first layer, and end in the same bits.
#[test]
fn what_nothing_needs_is_left_and_missed_by_nobody() {
    let layer = |name: &str, kind, relu| LayerSpec { name: name.into(), kind, relu };
    let conv = |channels, kernel, padding, pool| SpecKind::Conv { channels, kernel, padding, pool };
    let specs = [
        layer("conv1", conv(8, 3, 1, 2), true),
        layer("conv2", conv(20, 5, 2, 1), false),
        layer("conv3", conv(24, 3, 0, 2), true),
        layer("hidden", SpecKind::Linear { features: 12 }, true),
        layer("fc", SpecKind::Linear { features: 10 }, false),
    ];
    let mixed = network(&specs, Input { channels: 2, height: 19, width: 22 });
    for (network, of) in [(preset(ModelPreset::SimpleCnn), HARDLY_ANY), (mixed, 157)] {
        let words = few_weights(&network, of);
        let by_hand = needed_by_hand(&network, &words);
        on_every_device(|device| {
            let (weights, rows) = (upload(device, &words), upload(device, &[0]));
            let counts = upload(device, &[IMAGES as u32]);
            let survivors = survivors(device, &network, 0);
            let listed = survivors.list(device, &network, 1, weights.all(), true).unwrap();
            let from = Rows { weights: listed, rows: rows.all(), counts: counts.all() };
            let (batch, read) = (Batch { slots: 1, stride: IMAGES, counts_at: 0 }, |view| {
                numbers(&pollster::block_on(device.read(&[view])).unwrap()[0])
            });
            let open = upload(device, &vec![1.0f32.to_bits(); network.layout.gate_words]);
            let space = network.workspace(device, 1, IMAGES, Depth::Gates).unwrap();
            device
                .write(space.input.all(), &bits(space.input.words(), |i| (i * 37 % 101) as f32 / 101.0 - 0.3))
                .unwrap();
            network.forward(device, &space, batch, from, None).unwrap();
            let want = read(space.logits());
            for (layer, _) in network.layers.iter().enumerate() {
                let output = space.output(layer);
                device.write(output, &vec![f32::NAN.to_bits(); output.words]).unwrap();
            }
            network.forward(device, &space, batch, from, Some(open.all())).unwrap();
            assert!(read(space.logits()) == want && want.iter().all(|v| v.is_finite()), "{}", device.info().name);
            for (layer, needed) in by_hand.iter().enumerate() {
                let written = read(space.output(layer)).chunks(IMAGES).map(|v| !v[0].is_nan()).collect::<Vec<_>>();
                let conv = matches!(network.layers[layer].op, Op::Conv(_));
                let want = if conv && layer > 0 { needed } else { &vec![true; needed.len()] };
                assert!(written == *want, "{}, layer {layer}", device.info().name);
                let few = needed.iter().filter(|needed| **needed).count();
                assert!(!conv || layer == 0 || (few > 9 && 4 * few < 3 * needed.len()), "{few} of {}", needed.len());
            }
        });
    }
}

/// Searches over survivors leave channels that reach nothing out of their passes, and find what searches over all weights do.
#[test]
fn searches_find_the_same_circuits_over_survivors() {
    const STEPS: usize = 25;
    let network = preset(ModelPreset::SimpleCnn);
    let dataset = digits::generate(200, 3);
    let of_class = |class: u8| (0..200).filter(|n| dataset.train.labels[*n as usize] == class).take(IMAGES).collect();
    let batches: Vec<Vec<Vec<u32>>> = [1, 4].map(|class| vec![of_class(class); STEPS]).to_vec();
    let paper = presets::get("paper-iid").unwrap().load(&[]).unwrap().variants.remove(0).experiment;
    let circuits = paper.circuits.unwrap();
    on_every_device(|device| {
        let words = few_weights(&network, HARDLY_ANY);
        let (weights, rows) = (upload(device, &words), upload(device, &[0, 0]));
        let examples = Examples::upload(device, &dataset, &dataset.train).unwrap();
        let stage = stage(device, &network, &examples, &examples);
        let survivors = survivors(device, &network, 0);
        let listed = survivors.list(device, &network, 1, weights.all(), true).unwrap();
        // The gates' logits and the circuits after some steps, and right answers of the network under the latter.
        let search = |weights: Weights<'_>, steps: usize| {
            let batches = batches.iter().map(|own| own[..steps].to_vec()).collect();
            let shown = Shown { batches, targets: vec![1, 4] };
            let found =
                in_round_one(|pulse| learn_gates(stage, &circuits, weights, &rows, &shown, &Fills::zero(), pulse));
            let ablation = Ablation::new(stage, weights, &rows, &[1, 4], &dataset.train.by_class(10)).unwrap();
            let counted = ablation.count(stage, found.hard.all()).unwrap();
            pollster::block_on(device.read(&[found.logits.all(), found.hard.all(), counted.all()])).unwrap()
        };
        for steps in [3, STEPS] {
            let (over_survivors, over_all) = (search(listed, steps), search(weights.all().into(), steps));
            assert_eq!(over_survivors[1..], over_all[1..], "{steps} steps on {}", device.info().name);
            let open = numbers(&over_all[1]).iter().filter(|gate| **gate > 0.0).count();
            // No channel's gate closes within three steps, whether anything reads it or not.
            assert!(if steps == 3 { open == over_all[1].len() } else { open < over_all[1].len() / 2 }, "{open}");
            match device.info().kind {
                "cpu" => {
                    let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-4;
                    assert!(!numbers(&over_survivors[0]).iter().zip(&numbers(&over_all[0])).any(far));
                }
                _ => assert!(over_survivors[0] == over_all[0], "{steps} steps"),
            }
        }
    });
}
