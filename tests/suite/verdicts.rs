//! What a round says of each circuit's worth, computed again in float64 from the weights that it saved: on the images of other
//! classes, among random circuits, beside the controls; and the fate that follows from it.

use std::sync::OnceLock;

use fedcircuit::circuits::Diagnosis;
use fedcircuit::data::Dataset;
use fedcircuit::device::Cpu;
use fedcircuit::experiment::{Federation, Outcome};
use fedcircuit::model::{GateRange, Layout, initial_weights};
use fedcircuit::report::{CircuitRecord, Control, ModelSide, expected_iou};
use fedcircuit::rng::{NO_CLIENT, Purpose, stream};
use rand::Rng;

use crate::reference::{judge, logits, picture};
use crate::small::{LEARNED, data, small};

const SET: [&str; 4] = [
    "rounds=1",
    "circuits.other_images=5",
    "circuits.diagnosis={accuracy=0.25,iou=0.5}",
    "circuits.controls={random=6,random_images=7,repeat=true,untrained=true,permuted=true,shuffled=true}",
];
/// Images of each other class, random circuits, and images of those.
const OTHERS: usize = 5;
const RANDOM: usize = 6;
const IMAGES: usize = 7;

struct Run {
    dataset: Dataset,
    layout: Layout,
    outcome: Outcome,
}

/// A round that all tests share.
fn shared() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(|| {
        let experiment = small(&[&LEARNED[..], &SET].concat());
        let (dataset, device) = (data(&experiment), Cpu::new(Some(2)).unwrap());
        let mut federation = Federation::new(&device, &experiment, &dataset).unwrap();
        let outcome = federation.round().unwrap().remove(0);
        let layout = federation.layout().clone();
        drop(federation);
        Run { dataset, layout, outcome }
    })
}

/// How many of some images were called what was wanted, how many are so near a tie that float32 may tell otherwise, and how
/// many there are.
#[derive(Clone, Copy, Debug)]
struct Count {
    right: f64,
    near: f64,
    all: f64,
}

impl Count {
    fn expect(self, share: f64, what: &str) {
        assert!((share * self.all - self.right).abs() <= self.near + 1e-9, "{what}: {share}, not {self:?}");
    }

    fn share(self) -> f64 {
        self.right / self.all
    }
}

/// Which channels are kept, of each gated layer.
type Kept = Vec<Vec<u32>>;

fn kept(circuit: &[(String, Vec<u32>)]) -> Kept {
    circuit.iter().map(|(_, channels)| channels.clone()).collect()
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|w| f64::from(*w)).collect()
}

impl Run {
    fn row(&self, circuit: &CircuitRecord) -> Vec<f64> {
        match circuit.model {
            ModelSide::Global => wide(self.outcome.weights.as_ref().unwrap()),
            ModelSide::Local => {
                wide(&self.outcome.client_weights.iter().find(|(k, _)| *k == circuit.client).unwrap().1)
            }
        }
    }

    /// Test images of a class, at most so many, evenly taken.
    fn images(&self, class: u32, most: usize) -> Vec<usize> {
        let labels = &self.dataset.test.labels;
        let own: Vec<usize> = (0..labels.len()).filter(|i| u32::from(labels[*i]) == class).collect();
        let n = most.min(own.len());
        (0..n).map(|i| own[i * own.len() / n]).collect()
    }

    /// Of every other class some images.
    fn others(&self, class: u32) -> Vec<usize> {
        (0..10).filter(|other| *other != class).flat_map(|other| self.images(other, OTHERS)).collect()
    }

    /// Counts the images that a network with channels open as `open` says calls `wanted`.
    fn count(
        &self,
        row: &[f64],
        images: &[usize],
        wanted: &dyn Fn(usize) -> u32,
        open: &dyn Fn(usize, u32) -> bool,
    ) -> Count {
        let mut count = Count { right: 0.0, near: 0.0, all: images.len() as f64 };
        for image in images {
            let picture = picture(&self.dataset, &self.dataset.test, *image);
            let given = logits(&self.layout, row, &picture, &|layer, channel| open(layer, channel as u32));
            let verdict = judge(&given, wanted(*image) as usize);
            count.right += f64::from(u8::from(verdict.right));
            count.near += f64::from(u8::from(verdict.margin < 1e-5));
        }
        count
    }

    fn label(&self, image: usize) -> u32 {
        self.dataset.test.labels[image].into()
    }
}

/// Accuracy with nothing ablated; how often the circuit alone calls other images its class; and how many of these are right
/// with the circuit there and without it.
#[test]
fn accuracy_false_positives_and_damage_equal_an_independent_forward_pass() {
    let run = shared();
    let (mut some_positive, mut some_damage) = (0, 0);
    for circuit in &run.outcome.circuits {
        let (row, kept, class) = (run.row(circuit), kept(&circuit.active_nodes), circuit.class);
        let what = format!("{:?}, client {}, class {class}", circuit.model, circuit.client);
        let (own, others) = (run.images(class, usize::MAX), run.others(class));
        run.count(&row, &own, &|_| class, &|_, _| true).expect(circuit.accuracy, &what);
        let positive = run.count(&row, &others, &|_| class, &|layer, channel| kept[layer].contains(&channel));
        positive.expect(circuit.false_positive, &what);
        let whole = run.count(&row, &others, &|image| run.label(image), &|_, _| true);
        let cut = run.count(&row, &others, &|image| run.label(image), &|l, channel| !kept[l].contains(&channel));
        let fallen = Count { right: whole.right - cut.right, near: whole.near + cut.near, ..whole };
        fallen.expect(circuit.damage, &what);
        some_positive += usize::from(positive.right > 0.0 && positive.right < positive.all);
        some_damage += usize::from(fallen.right > 0.0);
    }
    assert!(some_positive > 5 && some_damage > 5, "{some_positive} with false positives, {some_damage} with damage");
}

/// At a line that some accuracies lie on and that parts others from what the circuit alone gets right; some overlaps lie on theirs
/// too.
#[test]
fn fates_follow_from_both_accuracies_and_the_overlap_of_both_circuits() {
    let run = shared();
    let (mut seen, mut on_the_line, mut apart) = (Vec::new(), 0, [0; 2]);
    for pair in run.outcome.circuits.chunks(2) {
        let [local, global] = pair else { panic!("a pair") };
        assert_eq!((local.model, global.model), (ModelSide::Local, ModelSide::Global));
        let (a, b) = (kept(&local.active_nodes), kept(&global.active_nodes));
        let both: usize = a.iter().zip(&b).map(|(a, b)| a.iter().filter(|c| b.contains(c)).count()).sum();
        let union = a.iter().chain(&b).map(Vec::len).sum::<usize>() - both;
        let fate = if local.accuracy < 0.25 {
            Diagnosis::NotLearned
        } else if global.accuracy < 0.25 {
            Diagnosis::DestructiveInterference
        } else if union > 0 && 2 * both >= union {
            Diagnosis::Preserved
        } else {
            Diagnosis::StructuralDrift
        };
        assert_eq!(
            [local.diagnosis, global.diagnosis],
            [Some(fate); 2],
            "client {}, class {}",
            local.client,
            local.class
        );
        on_the_line += usize::from(local.accuracy == 0.25 || global.accuracy == 0.25);
        apart[0] += usize::from((local.accuracy < 0.25) != (local.sufficiency < 0.25));
        let learned = local.accuracy >= 0.25;
        apart[1] += usize::from(learned && (global.accuracy < 0.25) != (global.sufficiency < 0.25));
        seen.push(fate);
    }
    seen.sort();
    seen.dedup();
    assert!(seen.len() == 4 && on_the_line > 0 && apart.iter().all(|n| *n > 0), "{seen:?}, {on_the_line}, {apart:?}");
}

/// Random circuits have the sizes of the found one in every layer, and the channels with the lowest of keys that are drawn for
/// the round: all circuits are set beside the same draws.
#[test]
fn random_circuits_are_as_large_and_the_found_one_is_ranked_among_them() {
    let run = shared();
    let mut rng = stream(7, 1, NO_CLIENT, Purpose::Controls);
    let keys: Vec<Vec<u32>> =
        (0..RANDOM).map(|_| (0..run.layout.gate_words).map(|_| rng.next_u32()).collect()).collect();
    let mut ranked = 0;
    for circuit in &run.outcome.circuits {
        let (row, own, class) = (run.row(circuit), kept(&circuit.active_nodes), circuit.class);
        let found = circuit.random.unwrap();
        let images = run.images(class, IMAGES);
        let try_out = |kept: &Kept| run.count(&row, &images, &|_| class, &|l, channel| kept[l].contains(&channel));
        let draw = |keys: &Vec<u32>| -> Kept {
            let layers = run.layout.gates.iter().zip(&own);
            let layer = |(range, own): (&GateRange, &Vec<u32>)| lowest(&keys[span(range)], own.len());
            layers.map(layer).collect()
        };
        let (kept, random) = (try_out(&own), keys.iter().map(|keys| try_out(&draw(keys))).collect::<Vec<_>>());
        let what = format!("{:?}, client {}, class {class}", circuit.model, circuit.client);
        let mean = random.iter().map(|count| count.share()).sum::<f64>() / RANDOM as f64;
        if kept.near + random.iter().map(|count| count.near).sum::<f64>() > 0.0 {
            continue;
        }
        let below = random.iter().filter(|count| count.right < kept.right).count();
        assert!((found.mean - mean).abs() < 1e-12, "{what}: {found:?}, not {mean}");
        assert_eq!(found.percentile, below as f64 / RANDOM as f64, "{what}");
        let p = (1 + RANDOM - below) as f64 / (1 + RANDOM) as f64;
        assert!((found.p_value - p).abs() < 1e-12, "{what}: {found:?}, not {p}");
        ranked += usize::from(below > 0 && below < RANDOM && mean > 0.0);
    }
    assert!(ranked > 5, "{ranked} circuits lie among random ones");
}

fn span(range: &GateRange) -> std::ops::Range<usize> {
    range.at..range.at + range.channels
}

/// The places of the `n` lowest keys.
fn lowest(keys: &[u32], n: usize) -> Vec<u32> {
    let mut places: Vec<u32> = (0..keys.len() as u32).collect();
    places.sort_by_key(|place| (keys[*place as usize], *place));
    places.truncate(n);
    places
}

/// What a control's circuit is worth in the control's weights, and the overlap that chance gives it with the global circuit.
#[test]
fn controls_are_measured_in_their_own_weights_and_chance_is_of_both_sizes() {
    let run = shared();
    let globals: Vec<_> = run.outcome.circuits.iter().filter(|c| c.model == ModelSide::Global).collect();
    let untrained = wide(&initial_weights(&run.layout, 7));
    let mut measured = 0;
    for record in &run.outcome.controls {
        let global = globals.iter().find(|g| (g.client, g.class) == (record.client, record.class)).unwrap();
        let (theirs, own, class) = (kept(&global.active_nodes), kept(&record.active_nodes), record.class);
        let channels = run.layout.gates.iter().map(|range| range.channels);
        let sizes: Vec<_> = theirs.iter().zip(&own).zip(channels).map(|((a, b), n)| (a.len(), b.len(), n)).collect();
        let what = format!("{:?}, client {}, class {class}", record.control, record.client);
        assert_eq!(record.chance, expected_iou(&sizes), "{what}");
        let row = match record.control {
            Control::Untrained => untrained.clone(),
            Control::Repeat | Control::Permuted => run.row(global),
            Control::Shuffled | Control::Centralised => continue,
        };
        let alone = |l: usize, channel: u32| own[l].contains(&channel);
        run.count(&row, &run.images(class, usize::MAX), &|_| class, &|_, _| true).expect(record.accuracy, &what);
        run.count(&row, &run.images(class, usize::MAX), &|_| class, &alone).expect(record.sufficiency, &what);
        let positive = run.count(&row, &run.others(class), &|_| class, &alone);
        positive.expect(record.false_positive, &what);
        measured += usize::from(positive.right > 0.0 && positive.right < positive.all);
    }
    assert!(measured > 5, "{measured} controls with false positives");
}
