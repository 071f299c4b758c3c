//! The sparse path against the dense one, where nothing but their speed may differ.

use fedcircuit::config::ModelPreset;
use fedcircuit::device::{Case, Device, Kernel};
use fedcircuit::kernels::shape::Batch;
use fedcircuit::kernels::{
    conv_forward, conv_input_grad, linear_forward, linear_input_grad, sparse_conv_forward, sparse_conv_input_grad,
    sparse_linear_forward, sparse_linear_input_grad,
};
use fedcircuit::model::{
    Density, Depth, Input, LayerSpec, Network, Rows, SpecKind, Survivors, Wants, Workspace, initial_weights,
};

use crate::common::{gpu, network, on_every_device, preset, upload};

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

/// First weights of which few are left, and half of the small layers'.
fn few_weights(network: &Network) -> Vec<u32> {
    let mut row = initial_weights(&network.layout, 5);
    for tensor in network.layout.prunable() {
        let of = if tensor.words() < 300 { 2 } else { 17 };
        let weights = row[tensor.at..][..tensor.words()].iter_mut().enumerate();
        weights.filter(|(i, _)| i % of > 0).for_each(|(_, w)| *w = 0.0);
    }
    row.iter().map(|w| w.to_bits()).collect()
}

/// Passes over survivors leave the closed channels of the layers `unread` as they were: what another batch left there, even
/// what is not a number, reaches neither logits nor gradients. Those of other layers they fill.
fn check_closed_channels(device: &dyn Device, network: &Network, min_alive: usize, unread: &[usize]) {
    let (weights, rows) = (upload(device, &few_weights(network)), upload(device, &[0]));
    let counts = upload(device, &[IMAGES as u32 - 1]);
    let density = Density::pruned(network, 0.995, min_alive);
    let survivors = Survivors::new(device, network, &density, 1, true).unwrap().unwrap();
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
