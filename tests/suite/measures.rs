//! Measures, baselines and controls of circuits, computed again in float64 from the weights that a round saved.

use fedcircuit::data::Dataset;
use fedcircuit::device::Cpu;
use fedcircuit::experiment::{Federation, Outcome};
use fedcircuit::model::{Layout, initial_weights};
use fedcircuit::report::{CircuitRecord, Control, ControlRecord, ModelSide, Seconds};

use crate::reference::{judge, logits, picture};
use crate::small::{data, on_each_device, small};

const SET: [&str; 8] = [
    "rounds=1",
    "sparsity.target=0.9",
    "training.local_epochs=8",
    "circuits.classes=[0,7]",
    "circuits.steps=15",
    "circuits.lr=0.2",
    "circuits.l0=0.05",
    "circuits.measures={removals=5,curve=[0.1,0.5,1.0],images=6}",
];

/// One round, and what it takes to compute it again.
struct Run {
    dataset: Dataset,
    layout: Layout,
    outcome: Outcome,
    notes: Vec<String>,
    /// Training examples of every client.
    counts: Vec<Vec<u32>>,
}

fn run(device: &dyn fedcircuit::device::Device, set: &[&str]) -> Run {
    let experiment = small(&[&SET[..], set].concat());
    let dataset = data(&experiment);
    let mut federation = Federation::new(device, &experiment, &dataset).unwrap();
    let outcome = federation.round().unwrap().remove(0);
    let (layout, counts) = (federation.layout().clone(), federation.class_counts(0).collect::<Vec<_>>());
    let notes = federation.take_notes();
    drop(federation);
    Run { dataset, layout, outcome, notes, counts }
}

/// A set of channels, layer by layer.
type Channels = Vec<Vec<u32>>;

impl Run {
    fn weights(&self, circuit: &CircuitRecord) -> Vec<f64> {
        let row = match circuit.model {
            ModelSide::Global => self.outcome.weights.as_ref().unwrap(),
            ModelSide::Local => &self.outcome.client_weights.iter().find(|(k, _)| *k == circuit.client).unwrap().1,
        };
        row.iter().map(|w| f64::from(*w)).collect()
    }

    /// Accuracy on `images` evenly taken test pictures of `class` with only `kept` open, as the least and the most that
    /// float32 may make of near ties.
    fn accuracy(&self, row: &[f64], class: u32, kept: &Channels, images: usize) -> (f64, f64) {
        let test = &self.dataset.test;
        let own: Vec<usize> = (0..test.len()).filter(|i| u32::from(test.labels[*i]) == class).collect();
        let n = images.min(own.len());
        let (mut right, mut near) = (0, 0);
        for i in (0..n).map(|i| own[i * own.len() / n]) {
            let open = |layer: usize, channel: usize| kept[layer].contains(&(channel as u32));
            let verdict = judge(&logits(&self.layout, row, &picture(&self.dataset, test, i), &open), class as usize);
            match verdict.margin < 1e-5 {
                true => near += 1,
                false => right += usize::from(verdict.right),
            }
        }
        (right as f64 / n as f64, (right + near) as f64 / n as f64)
    }

    fn sizes(&self) -> Vec<usize> {
        self.layout.gates.iter().map(|g| g.channels).collect()
    }

    fn all(&self) -> Channels {
        self.sizes().into_iter().map(|n| (0..n as u32).collect()).collect()
    }
}

fn channels(nodes: &[(String, Vec<u32>)]) -> Channels {
    nodes.iter().map(|(_, nodes)| nodes.clone()).collect()
}

fn assert_within(got: f64, (least, most): (f64, f64), what: &str) {
    assert!(got >= least - 1e-9 && got <= most + 1e-9, "{what}: {got}, not within {least} and {most}");
}

/// Channels by the L1 norm of their filters, the largest first.
fn by_norm(layout: &Layout, row: &[f64]) -> Channels {
    let rank = |gated: usize| {
        let weight = &layout.tensors[2 * layout.gates[gated].layer];
        let size = weight.words() / weight.shape[0];
        let norm = |c: u32| row[weight.at + c as usize * size..][..size].iter().map(|w| w.abs()).sum::<f64>();
        let mut order: Vec<u32> = (0..weight.shape[0] as u32).collect();
        order.sort_by(|a, b| norm(*b).total_cmp(&norm(*a)).then(a.cmp(b)));
        order
    };
    (0..layout.gates.len()).map(rank).collect()
}

/// The first channels of a ranking: a share of every layer, rounded up.
fn first(ranking: &Channels, share: f64) -> Channels {
    let cut = |order: &Vec<u32>| {
        let mut kept = order[..(share * order.len() as f64).ceil() as usize].to_vec();
        kept.sort_unstable();
        kept
    };
    ranking.iter().map(cut).collect()
}

#[test]
fn magnitude_keeps_the_largest_filters_and_its_curve_follows_them() {
    on_each_device(|device| {
        let run = run(device, &["circuits.method=magnitude", "circuits.size=0.2"]);
        let kind = device.info().kind;
        for circuit in &run.outcome.circuits {
            let row = run.weights(circuit);
            let ranking = by_norm(&run.layout, &row);
            let what = format!("{kind}, client {}, class {}", circuit.client, circuit.class);
            assert_eq!(channels(&circuit.active_nodes), first(&ranking, 0.2), "{what}");
            for point in &circuit.curve {
                let want = run.accuracy(&row, circuit.class, &first(&ranking, point.share), 6);
                assert_within(point.accuracy, want, &format!("{what}, share {}", point.share));
            }
            assert_eq!(circuit.curve.iter().map(|p| p.share).collect::<Vec<_>>(), [0.1, 0.5, 1.0]);
        }
    });
}

#[test]
fn baselines_cut_at_the_size_of_the_learned_circuits() {
    let device = Cpu::new(Some(2)).unwrap();
    let sizes = |set: &[&str]| -> Vec<Vec<usize>> {
        let circuits = run(&device, set).outcome.circuits;
        circuits.iter().map(|c| c.active_nodes.iter().map(|(_, nodes)| nodes.len()).collect()).collect()
    };
    let learned = sizes(&[]);
    assert!(learned.iter().flatten().any(|n| (1..30).contains(n)), "{learned:?}");
    assert_eq!(sizes(&["circuits.method=magnitude"]), learned);
    assert_eq!(sizes(&["circuits.method=attribution"]), learned);
}

/// In a client with fewer examples than a batch every minibatch is all of its images of the class, so the attribution is
/// a sum over known pictures: |dL/dm| at open gates, here by difference quotients. A gate before the ReLU scales a
/// channel's filter and bias.
#[test]
fn attribution_is_the_slope_of_the_loss_by_each_gate() {
    let device = Cpu::new(Some(2)).unwrap();
    let set = ["training.batch_size=256", "circuits.method=attribution", "circuits.size=0.25", "circuits.steps=3"];
    let run = run(&device, &[&set[..], &["partition={kind=\"iid\",num_clients=2}"]].concat());
    let circuit = run.outcome.circuits.iter().find(|c| c.model == ModelSide::Global && c.class == 7).unwrap();
    let (row, all, train) = (run.weights(circuit), run.all(), &run.dataset.train);
    let examples = clients_examples(&run, circuit.client);
    let own: Vec<usize> = examples.into_iter().filter(|e| u32::from(train.labels[*e]) == circuit.class).collect();
    let loss = |row: &[f64]| -> f64 {
        let open = |layer: usize, channel: usize| all[layer].contains(&(channel as u32));
        let each =
            own.iter().map(|e| judge(&logits(&run.layout, row, &picture(&run.dataset, train, *e), &open), 7).loss);
        each.sum::<f64>() / own.len() as f64
    };
    for (gated, (_, kept)) in circuit.active_nodes.iter().enumerate() {
        let layer = run.layout.gates[gated].layer;
        let (weight, bias) = (&run.layout.tensors[2 * layer], &run.layout.tensors[2 * layer + 1]);
        let size = weight.words() / weight.shape[0];
        let slope = |channel: usize| {
            let scaled = |by: f64| {
                let mut row = row.clone();
                row[weight.at + channel * size..][..size].iter_mut().for_each(|w| *w *= by);
                row[bias.at + channel] *= by;
                loss(&row)
            };
            ((scaled(1.0 + 1e-5) - scaled(1.0 - 1e-5)) / 2e-5).abs()
        };
        let slopes: Vec<f64> = (0..weight.shape[0]).map(slope).collect();
        let least = kept.iter().map(|c| slopes[*c as usize]).fold(f64::INFINITY, f64::min);
        let most = (0..slopes.len() as u32).filter(|c| !kept.contains(c)).map(|c| slopes[c as usize]);
        let most = most.fold(0.0, f64::max);
        assert_eq!(kept.len(), slopes.len().div_ceil(4));
        assert!(least >= most - 1e-5 * (1.0 + most), "layer {layer}: kept {least}, left out {most}");
    }
}

/// The partition is not saved with a round: an even one is dealt again.
fn clients_examples(run: &Run, client: usize) -> Vec<usize> {
    let experiment = small(&[&SET[..], &["partition={kind=\"iid\",num_clients=2}"]].concat());
    let clients = fedcircuit::experiment::partition(&experiment, &run.dataset).unwrap();
    clients.examples(client).iter().map(|e| *e as usize).collect()
}

#[test]
fn completeness_and_minimality_remove_each_channel_in_turn() {
    on_each_device(|device| {
        let run = run(device, &[]);
        let mut measured = 0;
        for circuit in &run.outcome.circuits {
            let (row, kept, all) = (run.weights(circuit), channels(&circuit.active_nodes), run.all());
            let mut places: Vec<(usize, u32)> = Vec::new();
            kept.iter().enumerate().for_each(|(l, list)| places.extend(list.iter().map(|c| (l, *c))));
            let Some(got) = circuit.removals else {
                assert!(places.is_empty());
                continue;
            };
            let n = places.len().min(5);
            let removed: Vec<(usize, u32)> = (0..n).map(|i| places[i * places.len() / n]).collect();
            let without = |from: &Channels, v: (usize, u32)| {
                let mut from = from.clone();
                from[v.0].retain(|c| *c != v.1);
                run.accuracy(&row, circuit.class, &from, 6)
            };
            let whole = run.accuracy(&row, circuit.class, &kept, 6);
            let each: Vec<_> = removed.iter().map(|v| (without(&kept, *v), without(&all, *v))).collect();
            if whole.0 != whole.1 || each.iter().any(|(a, b)| a.0 != a.1 || b.0 != b.1) {
                continue; // A near tie.
            }
            let gap: f64 = each.iter().map(|(c, m)| (c.0 - m.0).abs()).sum();
            let needed = each.iter().filter(|(c, _)| c.0 < whole.0).count();
            let what = format!("{}, client {}, class {}", device.info().kind, circuit.client, circuit.class);
            assert!((got.completeness - (1.0 - gap / n as f64)).abs() < 1e-9, "{what}: {got:?}, gap {gap}");
            assert!((got.minimality - needed as f64 / n as f64).abs() < 1e-9, "{what}: {got:?}, needed {needed}");
            measured += 1;
        }
        assert!(measured > 5, "{measured} circuits measured");
    });
}

#[test]
fn controls_search_where_they_say() {
    let asked = "circuits.controls={repeat=true,untrained=true,permuted=true,shuffled=true,centralised=true}";
    on_each_device(|device| {
        let run = run(device, &[asked]);
        let kind = device.info().kind;
        let of = |control: Control| -> Vec<&ControlRecord> {
            run.outcome.controls.iter().filter(|c| c.control == control).collect()
        };
        let globals: Vec<_> = run.outcome.circuits.iter().filter(|c| c.model == ModelSide::Global).collect();
        let untrained: Vec<f64> = initial_weights(&run.layout, 7).iter().map(|w| f64::from(*w)).collect();
        for control in Control::ALL {
            assert_eq!(of(control).len(), globals.len(), "{kind}, {control:?}");
            for (record, global) in of(control).into_iter().zip(&globals) {
                assert_eq!((record.client, record.class), (global.client, global.class));
                let (a, b) = (channels(&record.active_nodes), channels(&global.active_nodes));
                let both: usize = a.iter().zip(&b).map(|(a, b)| a.iter().filter(|c| b.contains(c)).count()).sum();
                let union = a.iter().chain(&b).map(Vec::len).sum::<usize>() - both;
                assert_eq!(record.iou, (union > 0).then(|| both as f64 / union as f64), "{kind}, {control:?}");
                let row = match control {
                    Control::Untrained => untrained.clone(),
                    Control::Repeat | Control::Permuted => run.weights(global),
                    Control::Shuffled | Control::Centralised => continue,
                };
                let what = format!("{kind}, {control:?}, client {}, class {}", record.client, record.class);
                assert_within(record.accuracy, run.accuracy(&row, record.class, &run.all(), 1000), &what);
                assert_within(record.sufficiency, run.accuracy(&row, record.class, &a, 1000), &what);
            }
        }
        assert_eq!(of(Control::Repeat).iter().map(|c| c.iou).collect::<Vec<_>>(), {
            globals.iter().map(|g| g.ceiling).collect::<Vec<_>>()
        });
        let mean = |control| of(control).iter().map(|c| c.accuracy).sum::<f64>() / globals.len() as f64;
        // The global model has learned something, its weights in disorder nothing of it.
        let learned = globals.iter().map(|g| g.accuracy).sum::<f64>() / globals.len() as f64;
        assert!(mean(Control::Shuffled) < learned, "{kind}: {} of {learned}", mean(Control::Shuffled));
    });
}

/// The labels of one class are the same in any order: a search with them permuted would be a second one, and is no control.
#[test]
fn a_client_with_one_class_has_no_permuted_labels() {
    let device = Cpu::new(Some(2)).unwrap();
    let partition = "partition={kind=\"by_class\",classes=[[0],[0,7]]}";
    let run = run(&device, &[partition, "circuits.controls={repeat=true,permuted=true}", "circuits.steps=2"]);
    let of = |control: Control| -> Vec<(usize, u32)> {
        run.outcome.controls.iter().filter(|c| c.control == control).map(|c| (c.client, c.class)).collect()
    };
    assert_eq!(of(Control::Repeat), [(0, 0), (1, 0), (1, 7)]);
    assert_eq!(of(Control::Permuted), [(1, 0), (1, 7)]);
}

/// With one client that owns everything, training without federation sees the same examples for as many steps: it must
/// learn as well.
#[test]
fn training_without_federation_learns_as_a_client_does() {
    let device = Cpu::new(Some(2)).unwrap();
    let set = ["partition={kind=\"iid\",num_clients=1}", "circuits.controls.centralised=true", "circuits.steps=2"];
    let outcome = run(&device, &set).outcome;
    let Seconds { train, centralised, total, .. } = outcome.record.seconds;
    assert!(centralised > 0.0 && train + centralised < total, "a clock of its own");
    assert_eq!(run(&device, &set[..1]).outcome.record.seconds.centralised, 0.0);
    let mean = |list: Vec<f64>| list.iter().sum::<f64>() / list.len() as f64;
    let beside = mean(outcome.controls.iter().map(|c| c.accuracy).collect());
    let client = mean(outcome.circuits.iter().filter(|c| c.model == ModelSide::Local).map(|c| c.accuracy).collect());
    assert!(client > 0.5 && (beside - client).abs() < 0.3, "{beside} beside {client}");
}

/// What closed channels give changes what is found; all-open and all-zero masks stay what they are.
#[test]
fn ablations_differ_where_channels_are_closed() {
    let device = Cpu::new(Some(2)).unwrap();
    let all: Vec<Run> =
        ["zero", "mean", "resample"].map(|kind| run(&device, &[&format!("circuits.ablation={kind}")])).into();
    // Where the curve has all channels nothing is closed, whatever closed channels give.
    let open = |run: &Run| run.outcome.circuits.iter().map(|c| c.curve.last().copied()).collect::<Vec<_>>();
    assert!(open(&all[0]).iter().all(|point| point.is_some_and(|p| p.share == 1.0 && p.accuracy.is_finite())));
    assert_eq!(open(&all[0]), open(&all[1]), "means");
    assert_eq!(open(&all[0]), open(&all[2]), "donors");
    let found = |run: &Run| run.outcome.circuits.iter().map(|c| channels(&c.active_nodes)).collect::<Vec<_>>();
    assert!(found(&all[0]) != found(&all[1]) && found(&all[0]) != found(&all[2]) && found(&all[1]) != found(&all[2]));
}

/// Their means are fewer words than a vector has.
#[test]
fn three_units_of_one_client_have_means() {
    let layers = "model.layers=[{kind=\"linear\",features=3},{kind=\"linear\",features=10}]";
    on_each_device(|device| {
        let set = [layers, "circuits.ablation=mean", "circuits.classes=[0]", "circuits.clients=[1]"];
        let found = run(device, &set).outcome.circuits;
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|c| c.sufficiency.is_finite() && channels(&c.active_nodes)[0].len() <= 3));
    });
}

#[test]
fn clients_and_rounds_are_chosen_and_what_cannot_be_found_is_said() {
    let device = Cpu::new(Some(2)).unwrap();
    let circuits = "circuits={classes=[0,1,9],clients=[1,2],every=2,steps=3}";
    let experiment = small(&[
        "rounds=3",
        "partition={kind=\"by_class\",classes=[[0,1],[0],[1,2]]}",
        circuits,
        "circuits.controls={repeat=true,every=2}",
    ]);
    let dataset = data(&experiment);
    let mut federation = Federation::new(&device, &experiment, &dataset).unwrap();
    let notes = federation.take_notes();
    assert!(notes.iter().any(|n| n.contains("no chosen client has training examples of class 9")), "{notes:?}");
    let rounds: Vec<Outcome> = (0..3).map(|_| federation.round().unwrap().remove(0)).collect();
    let who = |o: &Outcome| o.circuits.iter().map(|c| (c.client, c.class)).collect::<Vec<_>>();
    assert_eq!(who(&rounds[0]), []);
    assert_eq!(who(&rounds[1]), [(1, 0), (1, 0), (2, 1), (2, 1)]);
    assert_eq!(who(&rounds[2]), who(&rounds[1]), "the last round is always one of them");
    assert_eq!(rounds.iter().map(|o| o.controls.len()).collect::<Vec<_>>(), [0, 2, 2]);
    let refused = small(&["circuits.clients=[5]"]);
    let message = Federation::new(&device, &refused, &dataset).err().unwrap().to_string();
    assert!(message.contains("circuits.clients: there is no client 5"), "{message}");
}

#[test]
fn single_examples_missing_test_images_and_empty_circuits_are_said() {
    let device = Cpu::new(Some(2)).unwrap();
    // A price on open gates that none can pay.
    let closed = run(&device, &["circuits.l0=1000", "circuits.steps=40"]);
    assert!(closed.notes.iter().any(|n| n.contains("all gates closed in")), "{:?}", closed.notes);
    assert!(closed.outcome.circuits.iter().all(|c| c.removals.is_none() && c.sufficiency.is_finite()));

    let experiment = small(&["data.test_examples=4", "rounds=1", "circuits.classes=owned", "circuits.steps=2"]);
    let dataset = data(&experiment);
    let absent: Vec<u32> = (0..10u8).filter(|c| !dataset.test.labels.contains(c)).map(u32::from).collect();
    let mut federation = Federation::new(&device, &experiment, &dataset).unwrap();
    let notes = federation.take_notes();
    let counts = federation.class_counts(0).collect::<Vec<_>>();
    for class in absent.iter().filter(|c| counts.iter().any(|k| k[**c as usize] > 1)) {
        assert!(
            notes.iter().any(|n| n.starts_with(&format!("class {class} is absent from the test set"))),
            "{notes:?}"
        );
    }
    let single = (0..10).find(|c| counts.iter().any(|k| k[*c] == 1));
    if let Some(class) = single {
        assert!(notes.iter().any(|n| n.contains(&format!("one example of class {class}"))), "{notes:?}");
    }
    let outcome = federation.round().unwrap().remove(0);
    for circuit in outcome.circuits.iter().filter(|c| absent.contains(&c.class)) {
        assert!(circuit.accuracy.is_nan() && circuit.sufficiency.is_nan() && circuit.removals.is_none());
    }
    assert!(!absent.is_empty() && outcome.circuits.iter().any(|c| absent.contains(&c.class)));
    assert!(closed.counts.len() == 5);
}
