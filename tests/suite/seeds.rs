//! Several seeds side by side: each is the federation that it is alone, to the last bit.

use fedcircuit::Error;
use fedcircuit::config::Experiment;
use fedcircuit::device::{Choice, Cpu, Device, GpuOptions, open};
use fedcircuit::experiment::{Federation, Outcome};
use fedcircuit::report::OverlapRecord;

use crate::common::gpu;
use crate::small::{assert_same, data, linear, on_each_device, run, run_seeds, small};

/// Circuits with everything that draws at random.
const CONTROLS: &str = "circuits.controls={ random = 3, random_images = 5, repeat = true }";

/// A round's reads and bytes are those of all seeds: no part of the comparison with a seed alone.
fn unread(outcomes: &[Outcome]) -> Vec<Outcome> {
    let mut outcomes = outcomes.to_vec();
    for outcome in &mut outcomes {
        (outcome.record.readbacks, outcome.record.bytes_read_back) = (0, 0);
    }
    outcomes
}

fn assert_each_as_alone(device: &dyn Device, together: &Experiment, what: &str) -> Vec<Vec<Outcome>> {
    let seeds = run_seeds(device, together).unwrap();
    for (seed, got) in together.seeds.all().iter().zip(&seeds) {
        assert!(got.iter().all(|o| o.seed == *seed && o.record.readbacks == 1), "{what}");
        let alone = run(device, &together.with_seed(*seed)).unwrap();
        assert_same(&unread(got), &unread(&alone), &format!("{what}, seed {seed}"));
    }
    seeds
}

/// Weights of the global model and the clients, every record, circuit and overlap: all at once, in waves that mix the
/// seeds, one client after the other, in memory for a few only, and in another order.
#[test]
fn a_seed_among_others_has_the_bits_it_has_alone() {
    on_each_device(|device| {
        let kind = device.info().kind;
        let base = ["seeds=[7, 40]", CONTROLS, "circuits.steps=5", "training.local_epochs=1"];
        let with = |set: &[&str]| small(&[&base[..], set].concat());
        let want = assert_each_as_alone(device, &with(&[]), kind);
        assert!(want.iter().flatten().all(|o| o.client_weights.len() == 5 && !o.overlaps.is_empty()), "{kind}");
        assert_ne!(want[0][0].weights, want[1][0].weights, "another seed is another federation");
        // How waves are cut is the host's doing: software Vulkan need not show it again for each.
        let sets = ["device.max_wave=4", "device.max_wave=1", "device.memory=3MiB"];
        for set in &sets[..if kind == "cpu" { 3 } else { 1 }] {
            let got = run_seeds(device, &with(&[set])).unwrap();
            for (got, want) in got.iter().zip(&want) {
                assert_same(got, want, &format!("{kind}, {set}"));
            }
        }
        if kind == "cpu" {
            let other = run_seeds(device, &with(&["seeds=[40, 1, 7]"])).unwrap();
            for (got, want) in other.iter().step_by(2).zip([&want[1], &want[0]]) {
                assert_same(&unread(got), &unread(want), "among others, in another order");
            }
        }
    });
}

/// Seeds whose clients differ in size, number of steps and classes, so that the padding of the batches is another than
/// alone; and the other optimiser without pruning.
#[test]
fn unequal_federations_share_waves_without_a_trace() {
    on_each_device(|device| {
        let skewed = "partition={ kind = \"dirichlet\", num_clients = 3, alpha = 0.1, min_partition_size = 1 }";
        let seeds = ["seeds=2", "seed=1", "device.max_wave=5", "training={ batch_size = 150, local_epochs = 1 }"];
        let experiment = small(&[&[skewed, "rounds=1", "circuits.steps=4"][..], &seeds].concat());
        let federation = Federation::new(device, &experiment, &data(&experiment)).unwrap();
        let largest = |i| federation.class_counts(i).map(|c| c.iter().sum::<u32>()).max().unwrap();
        assert_ne!(largest(0).min(150).div_ceil(4), largest(1).min(150).div_ceil(4), "paddings would be equal");
        assert_each_as_alone(device, &experiment, device.info().kind);
        assert_each_as_alone(
            device,
            &linear(&[&[skewed, "strategy.weighting=uniform", "rounds=1"][..], &seeds[..3]].concat()),
            "linear",
        );
    });
}

/// Every overlap is between circuits that the same seed found.
#[test]
fn comparisons_never_cross_seeds() {
    let device = Cpu::new(Some(2)).unwrap();
    let seeds = run_seeds(&device, &small(&["seeds=2"])).unwrap();
    for outcome in seeds.iter().flatten() {
        let size = |client, class, level_side: usize, row: &OverlapRecord| {
            let sides = outcome.circuits.iter().filter(|c| (c.client, c.class) == (client, class));
            let sizes: Vec<usize> = sides.map(|c| c.size(&row.layer)).collect();
            assert!(sizes.contains(&level_side), "{row:?}");
        };
        let nodes = outcome.overlaps.iter().filter(|o| o.level.name() == "node" && o.layer != "all");
        for row in nodes.filter(|o| !o.comparison.name().starts_with("stability")) {
            size(row.client_a, row.class_a, row.size_a, row);
            size(row.client_b, row.class_b, row.size_b, row);
        }
    }
}

#[test]
fn the_shadow_device_finds_no_difference_among_seeds() {
    if gpu().is_none() {
        return;
    }
    let (shadow, _) = open(&Choice::Shadow, GpuOptions { checked: true, ..Default::default() }, Some(2)).unwrap();
    let experiment = small(&["seeds=2", "rounds=1", "device.max_wave=3", CONTROLS]);
    run_seeds(shadow.as_ref(), &experiment).unwrap_or_else(|e| panic!("{e}"));
}

/// The progress bar covers all seeds.
#[test]
fn the_cost_is_that_of_all_seeds() {
    let device = Cpu::new(Some(1)).unwrap();
    let cost = |set: &str| {
        let experiment = small(&[set]);
        Federation::new(&device, &experiment, &data(&experiment)).unwrap().cost()
    };
    assert_eq!(cost("seeds=[7, 8, 40]"), cost("seed=7") + cost("seed=8") + cost("seed=40"));
}

#[test]
fn divergence_names_the_seed() {
    on_each_device(|device| {
        let mut experiment = linear(&["training.momentum=0", "seeds=[5, 6]"]);
        experiment.training.lr = 1e38;
        let error = run_seeds(device, &experiment).unwrap_err();
        let Error::Diverged { round, place, .. } = error else { panic!("{error}") };
        assert_eq!((round, place.as_str()), (1, "with seed 5, at client 0, step 2"));
    });
}

#[test]
fn what_cannot_be_met_names_the_seed_or_the_number_of_them() {
    let device = Cpu::new(Some(1)).unwrap();
    let refusal = |set: &[&str]| {
        let experiment = small(set);
        let error = Federation::new(&device, &experiment, &data(&experiment)).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let never = "partition={ kind = \"dirichlet\", num_clients = 10, alpha = 0.001, min_partition_size = 24 }";
    let message = refusal(&["seeds=[5, 6]", never]);
    assert!(message.contains("partition.alpha: with seed 5, "), "{message}");
    // Two convolutions of 40 and 1,258 parameters and a last layer of 16,670: 70 KiB a model.
    let message = refusal(&["seeds=500", "device.memory=1MiB"]);
    assert!(message.contains("the global models of 500 seeds side by side needs"), "{message}");
    assert!(message.contains("device.memory allows 1.0 MiB") && message.contains("fewer seeds"), "{message}");
}

/// In one line, whatever the number of seeds; classes that are dealt by hand are no surprise.
#[test]
fn classes_that_no_client_was_assigned_are_told_of_once() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let told = |set: &str| {
        let experiment = linear(&[set, "seeds=[7, 9, 11]"]);
        let dataset = data(&experiment);
        let mut federation = Federation::new(&cpu, &experiment, &dataset).unwrap();
        let notes = federation.take_notes().into_iter().filter(|note| note.contains("no client was assigned"));
        let notes: Vec<String> = notes.collect();
        let lost = |i: usize| -> String {
            let counts: Vec<Vec<u32>> = federation.class_counts(i).collect();
            let there = |class: usize| dataset.train.labels.iter().any(|label| usize::from(*label) == class);
            let lost = (0..10).filter(|class| there(*class) && counts.iter().all(|client| client[*class] == 0));
            lost.map(|class| class.to_string()).collect::<Vec<_>>().join(", ")
        };
        let lost = [7, 9, 11].into_iter().enumerate().map(|(i, seed)| format!("{} with seed {seed}", lost(i)));
        (notes, lost.collect::<Vec<_>>().join("; "))
    };
    let (notes, lost) = told("partition={ kind = \"pathological\", num_clients = 3, classes_per_client = 2 }");
    assert!(notes.len() == 1 && notes[0].ends_with(&format!("left out: {lost}")), "{notes:?}, {lost}");
    assert!(told("partition={ kind = \"by_class\", classes = [[0, 1], [3]] }").0.is_empty());
}
