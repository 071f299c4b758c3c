//! Circuits: what a round says of them, computed again from the weights it saved.

use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use fedcircuit::data::Dataset;
use fedcircuit::device::Cpu;
use fedcircuit::experiment::{Federation, Outcome};
use fedcircuit::model::Layout;
use fedcircuit::report::{CircuitRecord, Comparison, Level, ModelSide, OverlapRecord};

use crate::reference::{judge, logits, picture};
use crate::small::{LEARNED, assert_same, data, on_each_device, run, small};

/// A round of one device, and what it takes to compute it again.
struct Studied {
    kind: &'static str,
    outcome: Outcome,
    layout: Layout,
    counts: Vec<Vec<u32>>,
}

/// The first round on every device, computed once for all tests.
fn rounds() -> &'static (Dataset, Vec<Studied>) {
    static ROUNDS: OnceLock<(Dataset, Vec<Studied>)> = OnceLock::new();
    ROUNDS.get_or_init(|| {
        let experiment = small(&LEARNED);
        let (dataset, studied) = (data(&experiment), RefCell::new(Vec::new()));
        on_each_device(|device| {
            let mut federation = Federation::new(device, &experiment, &dataset).unwrap();
            let (layout, counts) = (federation.layout().clone(), federation.class_counts(0).collect::<Vec<_>>());
            let outcome = federation.round().unwrap().remove(0);
            studied.borrow_mut().push(Studied { kind: device.info().kind, outcome, layout, counts });
        });
        (dataset, studied.into_inner())
    })
}

/// The weights a circuit was found in.
fn weights_of(outcome: &Outcome, circuit: &CircuitRecord) -> Vec<f32> {
    match circuit.model {
        ModelSide::Global => outcome.weights.clone().unwrap(),
        ModelSide::Local => outcome.client_weights.iter().find(|(k, _)| *k == circuit.client).unwrap().1.clone(),
    }
}

/// The local circuit of the same client and class.
fn local<'o>(outcome: &'o Outcome, circuit: &CircuitRecord) -> &'o CircuitRecord {
    let same = |c: &&CircuitRecord| (c.model, c.client, c.class) == (ModelSide::Local, circuit.client, circuit.class);
    outcome.circuits.iter().find(same).unwrap()
}

fn holds(circuit: &CircuitRecord, layer: usize, channel: usize) -> bool {
    circuit.active_nodes[layer].1.contains(&(channel as u32))
}

#[test]
fn every_client_and_owned_class_has_a_local_and_a_global_circuit() {
    for Studied { kind, outcome, counts, .. } in &rounds().1 {
        let owned = counts.iter().enumerate().flat_map(|(k, classes)| {
            classes.iter().enumerate().filter(|(_, n)| **n > 1).map(move |(class, _)| (k, class as u32))
        });
        let want: Vec<_> =
            owned.flat_map(|(k, c)| [ModelSide::Local, ModelSide::Global].map(|model| (k, c, model))).collect();
        let got: Vec<_> = outcome.circuits.iter().map(|c| (c.client, c.class, c.model)).collect();
        assert_eq!(got, want, "{kind}");
        assert!(want.len() < 100, "some client lacks some class");
        let sizes: Vec<_> = outcome.circuits.iter().map(|c| c.size("conv1") + c.size("conv2")).collect();
        let between = sizes.iter().filter(|n| (1..38).contains(*n)).count();
        assert!(between > 5, "{kind}: circuits with no channel or with all would test little here: {sizes:?}");
    }
}

/// Sufficiency, necessity and the local mask on the global weights, with the network in float64.
#[test]
fn measures_equal_an_independent_forward_pass() {
    let (dataset, studied) = rounds();
    for Studied { kind, outcome, layout, .. } in studied {
        let mut partial = 0;
        for circuit in &outcome.circuits {
            let row: Vec<f64> = weights_of(outcome, circuit).iter().map(|w| f64::from(*w)).collect();
            let mut expect = |got: f64, name: &str, open: &dyn Fn(usize, usize) -> bool| {
                let (right, near, all) = accuracy(layout, &row, dataset, circuit.class as usize, open);
                assert!(
                    (got * all - right).abs() <= near + 1e-9,
                    "{kind}, client {}, class {}: {name} is {got} of {all}, not {right} (ties: {near})",
                    circuit.client,
                    circuit.class
                );
                partial += usize::from(right > 0.0 && right < all);
            };
            expect(circuit.sufficiency, "sufficiency", &|layer, channel| holds(circuit, layer, channel));
            expect(circuit.necessity, "necessity", &|layer, channel| !holds(circuit, layer, channel));
            match circuit.model {
                ModelSide::Local => assert_eq!((circuit.cross, &circuit.cross_answers[..]), (None, &[][..])),
                ModelSide::Global => {
                    let own = local(outcome, circuit);
                    expect(circuit.cross.unwrap(), "cross", &|layer, channel| holds(own, layer, channel));
                    let images = dataset.test.labels.iter().filter(|label| u32::from(**label) == circuit.class).count();
                    let (right, all) =
                        (circuit.cross_answers[circuit.class as usize], circuit.cross_answers.iter().sum::<u32>());
                    assert_eq!((all as usize, f64::from(right) / f64::from(all)), (images, circuit.cross.unwrap()));
                }
            }
        }
        assert!(partial > 5, "accuracies of 0 and 1 alone test little");
    }
}

/// Of the test pictures of `class`: how many are right, how many are so near a tie that float32 may tell otherwise, and
/// how many there are.
fn accuracy(
    layout: &Layout,
    row: &[f64],
    dataset: &Dataset,
    class: usize,
    open: &dyn Fn(usize, usize) -> bool,
) -> (f64, f64, f64) {
    let test = &dataset.test;
    let own = (0..test.len()).filter(|i| usize::from(test.labels[*i]) == class);
    own.fold((0.0, 0.0, 0.0), |(right, near, all), i| {
        let verdict = judge(&logits(layout, row, &picture(dataset, test, i), open), class);
        (right + f64::from(u8::from(verdict.right)), near + f64::from(u8::from(verdict.margin < 1e-5)), all + 1.0)
    })
}

/// An edge joins two channels of a circuit when a weight between them is alive; the first layer's sources are the
/// image's channels.
#[test]
fn edges_equal_a_reading_of_the_saved_weights() {
    for Studied { kind, outcome, layout, .. } in &rounds().1 {
        let (mut edges, mut missing) = (0, 0);
        for circuit in &outcome.circuits {
            let row = weights_of(outcome, circuit);
            for (layer, (name, channels)) in circuit.active_nodes.iter().enumerate() {
                let weight = &layout.tensors[2 * layer];
                let (sources, taps) = (weight.shape[1], weight.shape[2] * weight.shape[3]);
                let alive = |dest: u32, source: usize| {
                    let at = weight.at + (dest as usize * sources + source) * taps;
                    row[at..at + taps].iter().any(|w| *w != 0.0)
                };
                let feeds = |dest: &u32| {
                    let all = (0..sources).filter(|s| layer == 0 || holds(circuit, layer - 1, *s));
                    (*dest, all.filter(|s| alive(*dest, *s)).map(|s| s as u32).collect::<Vec<_>>())
                };
                let want: Vec<_> = channels.iter().map(feeds).filter(|(_, sources)| !sources.is_empty()).collect();
                let (got_name, got) = &circuit.connectivity[layer];
                assert_eq!(
                    (got_name, got),
                    (name, &want),
                    "{kind}, client {}, class {}",
                    circuit.client,
                    circuit.class
                );
                let within = if layer == 0 { 1 } else { circuit.active_nodes[layer - 1].1.len() };
                let here: usize = want.iter().map(|(_, sources)| sources.len()).sum();
                (edges, missing) = (edges + here, missing + channels.len() * within - here);
            }
            let (name, feeds) = circuit.connectivity.last().unwrap();
            assert_eq!((name.as_str(), feeds.len()), ("fc", 0), "the last layer is never gated");
        }
        assert!(edges > 100 && missing > 20, "{kind}: {edges} edges, {missing} pairs of channels without one");
    }
}

/// With an edge for each surviving weight, sizes and overlaps are those of the sets of weights; which channels feed which
/// is listed as ever.
#[test]
fn edges_by_position_equal_sets_of_the_saved_weights() {
    let (dataset, studied) = rounds();
    let experiment = small(&[&LEARNED[..], &["circuits.edges=position"]].concat());
    let by_channel = RefCell::new(studied.iter());
    on_each_device(|device| {
        let mut federation = Federation::new(device, &experiment, dataset).unwrap();
        let outcome = federation.round().unwrap().remove(0);
        let Studied { kind, outcome: before, layout, .. } = by_channel.borrow_mut().next().unwrap();
        let lists = |o: &Outcome| o.circuits.iter().map(|c| c.connectivity.clone()).collect::<Vec<_>>();
        assert_eq!(lists(&outcome), lists(before), "{kind}");
        let weights = |circuit: &CircuitRecord, layer: usize| -> Vec<(usize, u32)> {
            let (row, tensor) = (weights_of(&outcome, circuit), &layout.tensors[2 * layer]);
            let (size, taps) = (tensor.fan_in, tensor.shape[2] * tensor.shape[3]);
            let inside = |i: &usize| {
                let (dest, source) = (i / size, i % size / taps);
                holds(circuit, layer, dest) && (layer == 0 || holds(circuit, layer - 1, source))
            };
            let alive = (0..tensor.words()).filter(|i| row[tensor.at + i] != 0.0).filter(inside);
            alive.map(|i| (layer, i as u32)).collect()
        };
        let globals = outcome.circuits.iter().filter(|c| c.model == ModelSide::Global);
        let same = |o: &&OverlapRecord| o.comparison == Comparison::LocalGlobal && o.level == Level::Edge;
        let overlaps: Vec<_> = outcome.overlaps.iter().filter(same).collect();
        for (rows, global) in overlaps.chunks(3).zip(globals) {
            let own = local(&outcome, global);
            for (row, (layer, from)) in rows.iter().zip([("conv1", 0..1), ("conv2", 1..2), ("all", 0..2)]) {
                let set = |c: &CircuitRecord| from.clone().flat_map(|l| weights(c, l)).collect::<Vec<_>>();
                assert_overlap(row, layer, &set(own), &set(global), kind);
            }
        }
        assert!(overlaps.iter().any(|o| o.size_a > 20 && o.iou.is_some_and(|iou| iou > 0.1 && iou < 0.9)));
    });
}

#[test]
fn overlaps_equal_set_arithmetic_on_the_channels() {
    for Studied { kind, outcome, .. } in &rounds().1 {
        let globals: Vec<_> = outcome.circuits.iter().filter(|c| c.model == ModelSide::Global).collect();
        let same = |o: &&OverlapRecord| o.comparison == Comparison::LocalGlobal && o.level == Level::Node;
        let overlaps: Vec<_> = outcome.overlaps.iter().filter(same).collect();
        assert_eq!(overlaps.len(), 3 * globals.len());
        for (rows, global) in overlaps.chunks(3).zip(globals) {
            let own = local(outcome, global);
            for (row, (layer, from)) in rows.iter().zip([("conv1", 0..1), ("conv2", 1..2), ("all", 0..2)]) {
                let set = |c: &CircuitRecord| -> Vec<(usize, u32)> {
                    from.clone().flat_map(|l| c.active_nodes[l].1.iter().map(move |n| (l, *n))).collect()
                };
                assert_overlap(row, layer, &set(own), &set(global), kind);
            }
        }
    }
}

fn assert_overlap(row: &OverlapRecord, layer: &str, a: &[(usize, u32)], b: &[(usize, u32)], kind: &str) {
    let both = a.iter().filter(|node| b.contains(node)).count();
    let union = a.len() + b.len() - both;
    let what = format!("{kind}, client {}, class {}, {layer}", row.client_a, row.class_a);
    assert_eq!((row.comparison, row.layer.as_str()), (Comparison::LocalGlobal, layer), "{what}");
    assert_eq!((row.client_a, row.class_a), (row.client_b, row.class_b), "{what}");
    assert_eq!((row.size_a, row.size_b), (a.len(), b.len()), "{what}");
    match row.iou {
        None => assert_eq!(union, 0, "{what}"),
        Some(iou) => assert!((iou - both as f64 / union as f64).abs() <= 1e-12, "{what}: {iou}, not {both}/{union}"),
    }
}

/// Pairs are searched as many at once as memory allows: how many must not change what is found.
#[test]
fn circuits_do_not_depend_on_how_many_are_searched_at_once() {
    on_each_device(|device| {
        let dispatches = |set: &[&str]| {
            let before = device.traffic().dispatches;
            let outcomes =
                run(device, &small(&[&LEARNED[..], &["rounds=1", "circuits.steps=4"], set].concat())).unwrap();
            (outcomes, device.traffic().dispatches - before)
        };
        let (want, least) = dispatches(&[]);
        let mut most = least;
        for memory in ["device.memory=9MiB", "device.memory=3MiB"] {
            let (got, count) = dispatches(&[memory]);
            assert_same(&got, &want, &format!("{}, {memory}", device.info().kind));
            assert!(count > most, "{memory}: {count} dispatches, so the pairs were not split further");
            most = count;
        }
    });
}

/// A progress bar ends where it was said to end, the searches done again included.
#[test]
fn the_cost_of_a_round_is_what_it_advances() {
    for repeat in [false, true] {
        let experiment = small(&[&format!("circuits.controls.repeat={repeat}"), "rounds=1"]);
        let device = Cpu::new(Some(1)).unwrap();
        let mut federation = Federation::new(&device, &experiment, &data(&experiment)).unwrap();
        let (cost, mut done) = (federation.cost(), 0);
        federation.round_with(&AtomicBool::new(false), &mut |steps| done += steps).unwrap();
        assert_eq!(done, cost, "repeat = {repeat}");
    }
}
