//! Federations: the same bits however they are computed, and the right ones.

use std::collections::BTreeSet;

use fedcircuit::config::{Experiment, Optimizer, Strategy, Weighting};
use fedcircuit::data::Population;
use fedcircuit::device::{Choice, Cpu, Device, GpuOptions, open};
use fedcircuit::experiment::{Federation, partition};
use fedcircuit::model::{initial_weights, save};
use fedcircuit::report::{GlobalRecord, RoundRecord};
use fedcircuit::rng::{Purpose, stream};
use rand::seq::SliceRandom;

use crate::common::gpu;
use crate::reference::{Sgd, Trained, judge, logits, picture, train_linear};
use crate::small::{assert_same, data, linear, on_each_device, run, small};

#[test]
fn repetition_wave_size_and_memory_do_not_change_a_bit() {
    on_each_device(|device| {
        let want = run(device, &small(&[])).unwrap();
        assert_eq!(want.len(), 2);
        assert_eq!(want[0].client_weights.len(), 5);
        assert!(!want[0].circuits.is_empty() && !want[0].overlaps.is_empty());
        let kind = device.info().kind;
        for set in ["seed=7", "device.max_wave=1", "device.max_wave=3", "device.memory=3MiB"] {
            let got = run(device, &small(&[set])).unwrap();
            assert_same(&got, &want, &format!("{kind}, {set}"));
        }
        let waves = |set| Federation::new(device, &small(&[set]), &data(&small(&[set]))).unwrap().wave_size();
        assert_eq!([waves("seed=7"), waves("device.max_wave=1"), waves("device.max_wave=3")], [5, 1, 3], "{kind}");
        assert!((1..5).contains(&waves("device.memory=3MiB")), "{kind}: {}", waves("device.memory=3MiB"));
        let other = run(device, &small(&["seed=8"])).unwrap();
        assert_ne!(other[0].weights, want[0].weights, "another seed is another federation");
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    let on = |threads| run(&Cpu::new(Some(threads)).unwrap(), &small(&["device.max_wave=4"])).unwrap();
    let one = on(1);
    assert_same(&on(2), &one, "2 threads");
    assert_same(&on(3), &one, "3 threads");
}

/// A federation of linear models, computed by hand in float64: clients of unequal size that share a wave, last partial
/// batches, momentum and weight decay, both weightings, the reported losses, and the evaluation.
#[test]
fn a_wave_of_unequal_clients_equals_each_client_trained_alone_in_float64() {
    on_each_device(|device| {
        for weighting in ["examples", "uniform"] {
            let weighting = format!("strategy.weighting={weighting}");
            let experiment = linear(&["training.weight_decay=0.01", &weighting]);
            against_float64(device, &experiment, &weighting);
        }
    });
}

/// More test pictures than are evaluated at once, and a last batch that is not full.
#[test]
fn a_large_test_set_is_evaluated_to_its_last_picture() {
    on_each_device(|device| {
        let experiment = linear(&["data.test_examples=700", "rounds=1"]);
        against_float64(device, &experiment, "700 test pictures");
    });
}

#[test]
fn one_client_alone_equals_plain_training() {
    on_each_device(|device| {
        let alone = ["partition={ kind = \"iid\", num_clients = 1 }", "data.train_examples=70", "rounds=3"];
        against_float64(device, &linear(&alone), "one client");
    });
}

/// Clients that draw their examples with replacement; some take part, some of these drop out, and some do fewer epochs.
#[test]
fn a_sampled_cohort_equals_its_clients_trained_alone_in_float64() {
    on_each_device(|device| {
        let bootstrap =
            "partition={ kind = \"bootstrap\", num_clients = 1000000, examples_per_client = 50, alpha = 0.5 }";
        for (seed, cohort) in [
            (1, "cohort={ clients_per_round = 6, dropout_rate = 0.3, partial_epochs = 0.5 }"),
            (2, "cohort={ clients_per_round = 3, sampling = \"weighted\", dropout_rate = 0.8 }"),
        ] {
            let set = [bootstrap, cohort, &format!("seed={seed}"), "rounds=3"];
            against_float64(device, &linear(&set), cohort);
        }
        let dealt = ["cohort={ clients_per_round = 2, sampling = \"weighted\", partial_epochs = 1 }", "rounds=3"];
        against_float64(device, &linear(&dealt), "weighted");
    });
}

/// Runs `experiment` on `device` and in float64, and compares weights, records and evaluation.
fn against_float64(device: &dyn Device, experiment: &Experiment, what: &str) {
    let dataset = data(experiment);
    let clients = partition(experiment, &dataset).unwrap();
    let mut federation = Federation::new(device, experiment, &dataset).unwrap();
    let layout = federation.layout().clone();
    let Optimizer::Sgd { momentum, weight_decay: decay } = experiment.training.optimizer else { panic!("SGD") };
    let rule = Sgd { lr: experiment.training.lr, momentum, decay };
    let first = initial_weights(&layout, experiment.seeds.first());
    let mut global: Vec<f64> = first.iter().map(|w| f64::from(*w)).collect();
    for round in 1..=experiment.rounds {
        let outcome = federation.round().unwrap().remove(0);
        let what = format!("{}, {what}, round {round}", device.info().kind);
        let took_part = took_part(experiment, &outcome.record, &clients);
        let train = |(k, epochs): &(usize, usize)| {
            let batches = batches(experiment, round, *k, &clients.examples(*k), *epochs);
            train_linear(&layout, &global, &dataset, &batches, rule)
        };
        let trained: Vec<Trained> = took_part.iter().map(train).collect();
        assert_eq!(outcome.client_weights.len(), took_part.len(), "{what}");
        for (place, trained) in trained.iter().enumerate() {
            let (k, (client, row)) = (took_part[place].0, &outcome.client_weights[place]);
            assert_eq!(*client, k, "{what}");
            assert_near(row, &trained.row, &format!("{what}, client {k}"));
            let (record, n) = (&outcome.record.clients[place], clients.size(k));
            assert_eq!((record.client, record.examples, trained.last_epoch.len()), (k, n, n), "{what}");
            let loss = trained.last_epoch.iter().map(|(loss, _)| loss).sum::<f64>() / n as f64;
            assert!((record.loss - loss).abs() <= 1e-5 * loss, "{what}: loss {} instead of {loss}", record.loss);
            let right = trained.last_epoch.iter().filter(|(_, right)| *right).count() as f64;
            // A picture near a tie may fall to either side in float32.
            assert!((record.accuracy * n as f64 - right).abs() <= 1.01, "{what}: {} of {n}", record.accuracy);
        }
        if !trained.is_empty() {
            global = mean(&trained, experiment);
        }
        assert_near(outcome.weights.as_ref().unwrap(), &global, &format!("{what}, global"));
        let test = &dataset.test;
        let judged = (0..test.len()).map(|i| {
            let logits = logits(&layout, &global, &picture(&dataset, test, i), &|_, _| true);
            (usize::from(test.labels[i]), judge(&logits, usize::from(test.labels[i])))
        });
        let judged: Vec<_> = judged.map(|(label, v)| (label, v.loss, v.right)).collect();
        let held = |class: usize| federation.class_counts(0).any(|counts| counts[class] > 0);
        assert_evaluated(&outcome.record.global, &judged, held, &what);
    }
}

/// The clients that a round's record says took part, and the epochs that their steps amount to: of so many as the
/// experiment asks for, each once, and all that did not drop out.
fn took_part(experiment: &Experiment, record: &RoundRecord, clients: &Population) -> Vec<(usize, usize)> {
    let (cohort, all) = (&experiment.cohort, experiment.training.local_epochs);
    let took_part = record.clients.iter().map(|c| {
        let epochs = c.steps / clients.size(c.client).div_ceil(32);
        assert_eq!(c.steps, epochs * clients.size(c.client).div_ceil(32), "a last partial batch is a step");
        assert!((1..=all).contains(&epochs) && (epochs == all || cohort.partial_epochs > 0.0), "{epochs} epochs");
        (c.client, epochs)
    });
    let took_part: Vec<_> = took_part.collect();
    let drawn: BTreeSet<usize> = took_part.iter().map(|(k, _)| *k).chain(record.dropped.iter().copied()).collect();
    assert_eq!(drawn.len(), cohort.clients_per_round.unwrap_or(clients.len()));
    assert_eq!(drawn.len(), took_part.len() + record.dropped.len());
    assert!(record.dropped.is_empty() || cohort.dropout_rate > 0.0);
    took_part
}

/// The client's batches in each epoch: its examples in a new order, in batches of 32 of which the last is what is left.
fn batches(experiment: &Experiment, round: usize, client: usize, own: &[u32], epochs: usize) -> Vec<Vec<Vec<u32>>> {
    let mut rng = stream(experiment.seeds.first(), round as u64, client as u64, Purpose::Shuffle);
    let mut order = own.to_vec();
    let mut epoch = || {
        order.shuffle(&mut rng);
        order.chunks(32).map(<[u32]>::to_vec).collect()
    };
    (0..epochs).map(|_| epoch()).collect()
}

fn mean(trained: &[Trained], experiment: &Experiment) -> Vec<f64> {
    let Strategy::FedAvg { weighting } = experiment.strategy;
    let size = |t: &Trained| match weighting {
        Weighting::Uniform => 1.0,
        Weighting::Examples => t.last_epoch.len() as f64,
    };
    let total: f64 = trained.iter().map(size).sum();
    let mut mean = vec![0.0; trained[0].row.len()];
    for t in trained {
        mean.iter_mut().zip(&t.row).for_each(|(m, w)| *m += size(t) / total * w);
    }
    mean
}

/// float32 rounds each of a few hundred operations on numbers below 1 by 2^-24: 1e-5 in all, where faults are 1e-3.
fn assert_near(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() <= 1e-5, "{what}: weight {i} is {g} instead of {w}");
    }
}

/// `judged` has the label, loss and correctness of every test picture.
fn assert_evaluated(got: &GlobalRecord, judged: &[(usize, f64, bool)], held: impl Fn(usize) -> bool, what: &str) {
    let loss = judged.iter().map(|(_, loss, _)| loss).sum::<f64>() / judged.len() as f64;
    assert!((got.loss - loss).abs() <= 1e-5 * loss, "{what}: test loss {} instead of {loss}", got.loss);
    let assert_share = |got: f64, of: &dyn Fn(usize) -> bool| {
        let among: Vec<_> = judged.iter().filter(|(label, ..)| of(*label)).collect();
        let right = among.iter().filter(|(.., right)| *right).count() as f64;
        // One picture near a tie may fall to either side in float32.
        assert!((got * among.len() as f64 - right).abs() <= 1.01, "{what}: {got} of {}, not {right}", among.len());
    };
    assert_share(got.accuracy, &|_| true);
    assert_share(got.trained_accuracy, &held);
    assert_eq!(got.per_class_accuracy.len(), 10);
    got.per_class_accuracy.iter().enumerate().for_each(|(class, got)| assert_share(*got, &|label| label == class));
}

/// Classes that no client holds count in `accuracy` and not in `trained_accuracy`.
#[test]
fn accuracy_on_trained_classes_is_over_those_alone() {
    let experiment = linear(&["partition={ kind = \"by_class\", classes = [[0], [3, 6]] }"]);
    against_float64(&Cpu::new(Some(1)).unwrap(), &experiment, "three classes held");
}

#[test]
fn a_round_reads_back_once_and_little() {
    on_each_device(|device| {
        let kind = device.info().kind;
        let bytes = |set: &[&str]| -> Vec<u64> {
            let outcomes = run(device, &small(set)).unwrap();
            assert!(outcomes.iter().all(|o| o.record.readbacks == 1), "{kind}, {set:?}");
            outcomes.iter().map(|o| o.record.bytes_read_back).collect()
        };
        let figures = ["output.save_every=0", "output.save_clients=false", "device.max_wave=2", "rounds=3"];
        let [first, second, last] = bytes(&figures)[..] else { panic!("three rounds") };
        // Most of it are seven tallies of 10 x 10 predictions a client and class; the second round adds the comparison
        // with the first.
        assert!(first > 0 && second < 10 * (7 * 400 + 1000), "{kind}: {first}, {second} bytes of figures");
        assert!(first < second, "{kind}: {first}, {second}");
        // The last round's global weights are always saved; where asked for, the five clients' too.
        let row = 4 * Federation::new(device, &small(&[]), &data(&small(&[]))).unwrap().layout().words as u64;
        assert_eq!(last, second + row, "{kind}");
        let kept = bytes(&["device.max_wave=2", "rounds=3"]);
        assert_eq!(kept, [first + 6 * row, second + 6 * row, second + 6 * row], "{kind}");
    });
}

/// Pruning keeps `max(1, int((1 - s) n))` of each tensor, and at least min_alive of each filter of a convolution.
#[test]
fn local_models_are_as_sparse_as_asked() {
    on_each_device(|device| {
        // A ramp over all steps ends in what is asked for too.
        for (target, anneal) in [(0.5, 0.5), (0.97, 0.5), (0.9999, 0.5), (0.9, 1.0)] {
            let sparsity = [format!("sparsity.target={target}"), format!("sparsity.anneal={anneal}")];
            let mut experiment = small(&[&sparsity[0], &sparsity[1], "rounds=1"]);
            experiment.circuits = None;
            let layout = Federation::new(device, &experiment, &data(&experiment)).unwrap().layout().clone();
            let outcome = run(device, &experiment).unwrap().remove(0);
            for (number, tensor) in layout.prunable().enumerate() {
                let what = format!("{}, {target} after {anneal}, {}", device.info().kind, tensor.name);
                let n = tensor.words();
                let keep = (((1.0 - target) * n as f64) as usize).max(1);
                let mut zeros = 0;
                for (_, row) in &outcome.client_weights {
                    let filters = row[tensor.at..tensor.at + n].chunks(n / tensor.shape[0]);
                    let alive: Vec<usize> = filters.map(|f| f.iter().filter(|w| **w != 0.0).count()).collect();
                    assert_kept(&alive, keep, if tensor.shape.len() == 4 { 4 } else { 0 }, &what);
                    zeros += n - alive.iter().sum::<usize>();
                }
                let share = zeros as f64 / (n * outcome.client_weights.len()) as f64;
                let (name, realised) = &outcome.record.sparsity[number];
                assert!((realised - share).abs() <= 1e-12, "{what}: {name} reported as {realised}, is {share}");
            }
            let biases = layout.tensors.iter().filter(|t| t.is_bias()).flat_map(|t| t.at..t.at + t.words());
            let row = &outcome.client_weights[0].1;
            assert!(biases.into_iter().all(|i| row[i] != 0.0), "biases are never pruned");
        }
    });
}

/// More survivors than a filter has weights are all of its weights.
#[test]
fn a_floor_above_a_filters_size_keeps_the_filter_whole() {
    on_each_device(|device| {
        let mut experiment = small(&["sparsity={ target = 0.97, min_alive = 12 }", "rounds=1"]);
        experiment.circuits = None;
        let layout = Federation::new(device, &experiment, &data(&experiment)).unwrap().layout().clone();
        let outcome = run(device, &experiment).unwrap().remove(0);
        for (_, row) in &outcome.client_weights {
            let alive = |tensor: usize| -> Vec<usize> {
                let tensor = &layout.tensors[tensor];
                let filters = row[tensor.at..tensor.at + tensor.words()].chunks(tensor.words() / tensor.shape[0]);
                filters.map(|f| f.iter().filter(|w| **w != 0.0).count()).collect()
            };
            // Filters of 9 weights, and of 36.
            assert_eq!(alive(0), [9; 4], "{}", device.info().kind);
            assert!(alive(2).iter().all(|n| *n >= 12) && alive(2).contains(&12), "{}", device.info().kind);
        }
    });
}

/// `alive` counts each filter's survivors. Filters above the floor owe nothing to it, and so have at most `keep`
/// together; without a floor there are exactly `keep`.
fn assert_kept(alive: &[usize], keep: usize, floor: usize, what: &str) {
    let sum: usize = alive.iter().sum();
    assert!(sum >= keep && alive.iter().all(|a| *a >= floor), "{what}: {alive:?} of {keep}");
    let above: usize = alive.iter().filter(|a| **a > floor).sum();
    assert!(above <= keep, "{what}: {above} above the floor, {keep} may stay");
    assert!(floor > 0 || sum == keep, "{what}: {sum} of {keep}");
}

/// Saved weights come back as the first ones: a round that changes nothing reports what the round before it did.
#[test]
fn saved_weights_load_back_to_the_same_model() {
    on_each_device(|device| {
        let one = ["partition={ kind = \"iid\", num_clients = 1 }", "rounds=1"];
        let first = run(device, &small(&one)).unwrap().remove(0);
        let weights = first.weights.unwrap();
        let layout = Federation::new(device, &small(&one), &data(&small(&one))).unwrap().layout().clone();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), save(&layout, &weights).unwrap()).unwrap();
        let mut experiment = small(&one);
        experiment.model.init = Some(file.path().to_str().unwrap().into());
        // Steps this small move no weight but those at zero, which pruning clears again.
        experiment.training.lr = 1e-30;
        experiment.sparsity.anneal = 0.0;
        let again = run(device, &experiment).unwrap().remove(0);
        assert_eq!(again.record.global, first.record.global, "{}", device.info().kind);
        assert_eq!(again.weights.unwrap(), weights, "{}", device.info().kind);
    });
}

/// Every kernel on the data of a whole federation, on both devices.
#[test]
fn the_shadow_device_finds_no_difference() {
    if gpu().is_none() {
        return;
    }
    let (shadow, _) = open(&Choice::Shadow, GpuOptions { checked: true, ..Default::default() }, Some(2)).unwrap();
    let outcomes = run(shadow.as_ref(), &small(&["device.max_wave=3"])).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcomes.len(), 2);
    run(shadow.as_ref(), &linear(&["rounds=1"])).unwrap_or_else(|e| panic!("{e}"));
}
