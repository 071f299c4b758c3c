//! The search for a circuit against its definition, in double precision.

use fedcircuit::circuits::{Fills, Shown, learn_gates};
use fedcircuit::config::{self, Circuits};
use fedcircuit::data::digits;
use fedcircuit::federation::Examples;
use fedcircuit::model::{LayerSpec, Network, SpecKind, initial_weights};

use crate::common::{GREY, in_round_one, network, on_every_device, stage, upload};

const UNITS: usize = 24;
const PIXELS: usize = 28 * 28;
const CLASS: usize = 3;
const STEPS: usize = 80;

fn circuits() -> Circuits {
    let text = format!(
        "name = \"hidden\"\ndata.source = \"digits\"\npartition = {{ kind = \"iid\", num_clients = 1 }}\n\
         circuits = {{ classes = [{CLASS}], steps = {STEPS}, lr = 0.2, l0 = 0.05 }}"
    );
    config::load(&text, "hidden", &[]).unwrap().variants.remove(0).experiment.circuits.unwrap()
}

/// One hidden layer, whose gates are all there are, and of whose units each speaks for the class: while all are open the loss
/// is next to nothing, and the price of a gate closes them together.
fn hidden(relu: bool, images: &[Vec<f64>]) -> (Network, Vec<f32>) {
    let layer = |name: &str, features, relu| LayerSpec { name: name.into(), kind: SpecKind::Linear { features }, relu };
    let network = network(&[layer("hidden", UNITS, relu), layer("fc", 10, false)], GREY);
    let mut weights = initial_weights(&network.layout, 2);
    let all = sums(&network, &weights, images);
    let own = &mut weights[network.layout.place(1).weights_at + CLASS * UNITS..][..UNITS];
    for (j, weight) in own.iter_mut().enumerate() {
        *weight = if all.iter().map(|sums| sums[j]).sum::<f64>() > 0.0 { 1.0 } else { -1.0 };
    }
    (network, weights)
}

/// What the hidden units sum up of each image, bias included.
fn sums(network: &Network, weights: &[f32], images: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let place = network.layout.place(0);
    let unit = |image: &[f64], j: usize| {
        let own = weights[place.weights_at + j * PIXELS..][..PIXELS].iter();
        own.zip(image).map(|(w, x)| f64::from(*w) * x).sum::<f64>() + f64::from(weights[place.bias_at + j])
    };
    images.iter().map(|image| (0..UNITS).map(|j| unit(image, j)).collect()).collect()
}

/// The gates' logits after every step, by the formulas of the search: forward m = 1[g > 0], backward as if by sigmoid(g), the
/// mean cross-entropy and `l0` times the sum of sigmoid(g), by Adam. A closed gate's channel is 0, and its gradient is by what
/// it would be: the definition of the ReLU's has 0 at 0.
fn by_definition(
    network: &Network,
    weights: &[f32],
    images: &[Vec<f64>],
    relu: bool,
    asked: &Circuits,
) -> Vec<Vec<f64>> {
    let second = network.layout.place(1);
    let weight = |at: usize| f64::from(weights[at]);
    let sums = sums(network, weights, images);
    let (mut logits, mut moments) = (vec![2.0f64; UNITS], vec![[0.0f64; 2]; UNITS]);
    let mut all = Vec::new();
    for step in 1..=STEPS as i32 {
        let mut grads = vec![0.0; UNITS];
        for sums in &sums {
            let z: Vec<f64> = sums.iter().zip(&logits).map(|(z, g)| if *g > 0.0 { *z } else { 0.0 }).collect();
            let given: Vec<f64> = z.iter().map(|z| if relu { z.max(0.0) } else { *z }).collect();
            let out = |m: usize| {
                let own = |j: usize| weight(second.weights_at + m * UNITS + j) * given[j];
                (0..UNITS).map(own).sum::<f64>() + weight(second.bias_at + m)
            };
            let out: Vec<f64> = (0..10).map(out).collect();
            let total: f64 = out.iter().map(|o| o.exp()).sum();
            let felt = |m: usize| (out[m].exp() / total - f64::from(u8::from(m == CLASS))) / images.len() as f64;
            for j in (0..UNITS).filter(|j| !relu || z[*j] > 0.0) {
                let back: f64 = (0..10).map(|m| felt(m) * weight(second.weights_at + m * UNITS + j)).sum();
                grads[j] += back * sums[j];
            }
        }
        for ((g, grad), [m, v]) in logits.iter_mut().zip(grads).zip(&mut moments) {
            let s = 1.0 / (1.0 + (-*g).exp());
            let d = (grad + asked.l0) * s * (1.0 - s);
            (*m, *v) = (0.9 * *m + 0.1 * d, 0.999 * *v + 0.001 * d * d);
            let (bias1, bias2) = (1.0 - 0.9f64.powi(step), 1.0 - 0.999f64.powi(step));
            *g -= asked.lr * (*m / bias1) / ((*v / bias2).sqrt() + 1e-8);
        }
        all.push(logits.clone());
    }
    all
}

/// Without a ReLU a closed gate still feels what its unit would do, and may open again.
#[test]
fn gates_are_learned_by_the_definition_with_a_relu_and_without() {
    let dataset = digits::generate(300, 1);
    let shown: Vec<u32> =
        (0..300).filter(|n| usize::from(dataset.train.labels[*n as usize]) == CLASS).take(12).collect();
    let pixel = |n: u32, i: usize| {
        let byte = f64::from(dataset.train.pixels[n as usize * PIXELS + i]);
        (byte / 255.0 - f64::from(dataset.mean[0])) / f64::from(dataset.std[0])
    };
    let images: Vec<Vec<f64>> = shown.iter().map(|n| (0..PIXELS).map(|i| pixel(*n, i)).collect()).collect();
    let asked = circuits();
    for relu in [true, false] {
        let (network, weights) = hidden(relu, &images);
        let steps = by_definition(&network, &weights, &images, relu, &asked);
        let reopened = (0..UNITS).filter(|j| steps.iter().any(|g| g[*j] < 0.0) && steps[STEPS - 1][*j] > 0.0).count();
        assert!(if relu { reopened == 0 } else { reopened > 1 }, "{reopened} gates open again");
        on_every_device(|device| {
            let words: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
            let (weights, rows) = (upload(device, &words), upload(device, &[0]));
            let examples = Examples::upload(device, &dataset, &dataset.train).unwrap();
            let stage = stage(device, &network, &examples, &examples);
            let shown = Shown { batches: vec![vec![shown.clone(); STEPS]], targets: vec![CLASS as u32] };
            let (weights, fills) = (weights.all().into(), Fills::zero());
            let found = in_round_one(|pulse| learn_gates(stage, &asked, weights, &rows, &shown, &fills, pulse));
            let got = pollster::block_on(device.read(&[found.logits.all()])).unwrap().remove(0);
            for (got, want) in got.iter().map(|w| f64::from(f32::from_bits(*w))).zip(&steps[STEPS - 1]) {
                assert!((got - want).abs() < 2e-3, "{got} instead of {want}, relu {relu}, {}", device.info().name);
            }
        });
    }
}
