//! Circuits where a closed channel gives its mean, or what it gives for another image, instead of zero.

use fedcircuit::circuits::{Ablation, Donors, Fills};
use fedcircuit::config::ModelPreset;
use fedcircuit::device::{Buffer, Device, f32s};
use fedcircuit::federation::{Examples, Stage};
use fedcircuit::model::{Network, Weights};

use super::check::{Golden, Within};
use super::circuits::{STEPS, penalised, same_answers, search, weights};
use super::inputs::CLASSES;
use super::spy::Spy;
use super::{bits, inputs, on_every_device, preset, stage, upload};

const MEANS_OF: u32 = 512;
const DONOR: u32 = 7;

/// For pairs in row `row` of `weights`, one for each of `shown`: the images its means are over, and its donor.
fn fills(kind: &str, stage: Stage<'_>, weights: Weights<'_>, shown: &[(u32, u32, u32)]) -> Fills {
    match kind {
        "mean" => {
            let examples: Vec<Vec<u32>> = shown.iter().map(|(_, images, _)| (0..*images).collect()).collect();
            let pairs: Vec<_> = shown.iter().zip(&examples).map(|((row, ..), e)| (*row, &e[..])).collect();
            Fills::means(stage, weights, &pairs).unwrap()
        }
        _ => {
            // Of one example, chance can only draw that one.
            let donors = |(_, _, donor): &(u32, u32, u32)| Donors { examples: vec![*donor], seed: 1, round: 1, who: 1 };
            Fills::resample(shown.iter().map(donors).collect())
        }
    }
}

/// Another network in row 0, and that of the golden file in row 1.
fn both(device: &dyn Device, network: &Network) -> Buffer {
    upload(device, bits(&[inputs::weights(&network.layout), weights(&network.layout)].concat()))
}

/// Measured: 8.4e-7. PyTorch's float32 is 5e-7 from its float64, which the file holds.
#[test]
fn golden_means() {
    let (golden, network) = (Golden::open("filled_gates"), preset(ModelPreset::SimpleCnn));
    let dataset = inputs::grey(0..MEANS_OF, 0..0);
    on_every_device(|device| {
        let spy = Spy::new(device, &[("channel_sum", "sums")]);
        let images = Examples::upload(&spy, &dataset, &dataset.train).unwrap();
        let weights = both(device, &network);
        let stage = stage(&spy, &network, &images, &images);
        // The first pair has fewer batches; the third has the second's means, which are taken once.
        fills("mean", stage, weights.all().into(), &[(0, 300, 0), (1, MEANS_OF, 0), (1, MEANS_OF, 0)]);
        let sums = spy.seen("channel_sum").pop().unwrap();
        let width = network.layout.gate_words;
        assert_eq!(sums.len(), 2 * width);
        golden.close(device.info().kind, "mean.mu", &f32s(&sums)[width..], Within::OfLargest(4e-6));
    });
}

/// Measured: losses 2.2e-7, gates 6.4e-6. PyTorch's float32 gates are 4.8e-6 from its float64.
#[test]
fn golden_filled_gates() {
    let golden = Golden::open("filled_gates");
    on_every_device(|device| {
        for kind in ["mean", "donor"] {
            let on = device.info().kind;
            let found = search(device, |stage, weights| fills(kind, stage, weights, &[(1, MEANS_OF, DONOR)]));
            golden.close(on, &format!("{kind}.loss"), &penalised(&found), Within::OfLargest(1e-6));
            golden.close(on, &format!("{kind}.gates"), &found.logits[STEPS - 1], Within::Absolute(3e-5));
            assert_eq!(found.mask(), golden.words(&format!("{kind}.mask")), "{on}: {kind}.mask");
        }
    });
}

/// Counts of images 5000 to 5999, class by answer, under each mask and fill.
#[test]
fn golden_filled_confusion() {
    let (golden, network) = (Golden::open("filled_gates"), preset(ModelPreset::SimpleCnn));
    let dataset = inputs::grey(0..MEANS_OF, 5000..6000);
    let members = dataset.test.by_class(CLASSES);
    let classes: Vec<u32> = (0..CLASSES as u32).collect();
    on_every_device(|device| {
        let examples = |split| Examples::upload(device, &dataset, split).unwrap();
        let (train, test) = (examples(&dataset.train), examples(&dataset.test));
        let stage = stage(device, &network, &train, &test);
        let (weights, rows) = (both(device, &network), upload(device, &[1; CLASSES]));
        let ablation = Ablation::new(stage, weights.all().into(), &rows, &classes, &members).unwrap();
        for kind in ["mean", "donor"] {
            // The slots, one a class, belong to the second pair; the first has other means and another donor.
            let fills = fills(kind, stage, weights.all().into(), &[(0, 20, 3), (1, MEANS_OF, DONOR)]);
            for (name, mask) in masks(golden.words(&format!("{kind}.mask"))) {
                let gates = upload(device, bits(&mask.repeat(CLASSES)));
                let counters = ablation.count_filled(stage, gates.all(), &fills, &[1; CLASSES]).unwrap();
                let got = &pollster::block_on(device.read(&[counters.all()])).unwrap()[0];
                same_answers(false, got, golden.words(&format!("{kind}.confusion.{name}")))
                    .unwrap_or_else(|e| panic!("{}: {kind}.confusion.{name}: {e}", device.info().kind));
            }
        }
    });
}

fn masks(circuit: &[u32]) -> [(&'static str, Vec<f32>); 3] {
    let gates = |open: &dyn Fn(usize, u32) -> bool| {
        circuit.iter().enumerate().map(|(place, kept)| if open(place, *kept) { 1.0 } else { 0.0 }).collect()
    };
    [
        ("circuit", gates(&|_, kept| kept == 1)),
        ("without_circuit", gates(&|_, kept| kept == 0)),
        ("some", gates(&|place, _| place % 4 > 0)),
    ]
}
