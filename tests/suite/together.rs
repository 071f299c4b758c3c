//! Several experiments side by side: each is what it is alone, to the last bit.

use std::sync::atomic::AtomicBool;

use fedcircuit::Error;
use fedcircuit::config::Experiment;
use fedcircuit::device::{Cpu, Device};
use fedcircuit::experiment::{Federation, Outcome, State};
use fedcircuit::report::Seconds;

use crate::small::{assert_same, data, linear, on_each_device, run_seeds, small};

/// Circuits with everything that draws at random, trains beside the federation, or is remembered.
const CONTROLS: &str = "circuits.controls={ random = 2, random_images = 5, repeat = true, shuffled = true, untrained = true, \
                        centralised = true, every = 1 }";

/// What an experiment of one or more seeds gave: rounds, the state after each, what was told, what its analyses found.
#[derive(Default)]
struct Whole {
    rounds: Vec<Vec<Outcome>>,
    states: Vec<State>,
    notes: Vec<String>,
    found: String,
}

/// All rounds of the experiments side by side from the states that are given, each experiment by itself.
fn whole(device: &dyn Device, experiments: &[&Experiment], from: Option<&[&State]>) -> Vec<Whole> {
    let mut federation = Federation::together(device, experiments, &data(experiments[0])).unwrap();
    if let Some(states) = from {
        federation.restore_all(states).unwrap();
    }
    let parts = federation.parts();
    let mut all: Vec<Whole> = parts.iter().map(|_| Whole::default()).collect();
    let mut notes = federation.take_notes();
    while federation.rounds_done() < experiments[0].rounds {
        let outcomes = federation.round().unwrap();
        notes.extend(federation.take_notes());
        let states = federation.states().unwrap();
        for ((whole, part), state) in all.iter_mut().zip(&parts).zip(states) {
            whole.rounds.push(outcomes[part.clone()].to_vec());
            whole.states.push(state);
        }
    }
    let found = federation.analyse(&AtomicBool::new(false)).unwrap();
    for ((whole, part), experiment) in all.iter_mut().zip(&parts).zip(experiments) {
        whole.found = format!("{:?}", found.get(part.clone()).unwrap_or_default());
        let name = format!("{}: ", experiment.name);
        let own = |note: &String| match experiments {
            [_] => Some(note.clone()),
            _ => note.strip_prefix(&name).map(String::from),
        };
        whole.notes = notes.iter().filter_map(own).collect();
    }
    all
}

/// The experiments of each set of keys, named after their place.
fn experiments(base: &[&str], sets: &[&[&str]]) -> Vec<Experiment> {
    let one = |(i, set): (usize, &&[&str])| small(&[base, set, &[&format!("name=\"e{i}\"")]].concat());
    sets.iter().enumerate().map(one).collect()
}

fn assert_each_as_alone(device: &dyn Device, experiments: &[Experiment], what: &str) -> Vec<Whole> {
    let all: Vec<&Experiment> = experiments.iter().collect();
    let together = whole(device, &all, None);
    for (got, experiment) in together.iter().zip(experiments) {
        let want = whole(device, &[experiment], None).remove(0);
        let what = format!("{what}, {}", experiment.name);
        for (got, want) in got.rounds.iter().zip(&want.rounds) {
            assert_same(got, want, &what);
        }
        assert!(got.states == want.states, "{what}: states");
        assert_eq!((&got.notes, &got.found), (&want.notes, &want.found), "{what}");
    }
    together
}

/// Rates, partitions and seeds on either device, and sparsities on a GPU; records with the bytes read back, circuits,
/// controls, analyses, notes and states; and whatever the waves.
#[test]
fn an_experiment_among_others_has_the_bits_it_has_alone() {
    on_each_device(|device| {
        let kind = device.info().kind;
        let base = [CONTROLS, "circuits.steps=3", "training.local_epochs=1", "circuits.analyses=[\"shared_neurons\"]"];
        let skewed = "partition={ kind = \"dirichlet\", num_clients = 5, alpha = 0.2, min_partition_size = 1 }";
        let sparsity =
            if kind == "cpu" { "training.batch_size=32" } else { "sparsity={ target = 0.75, anneal = 0.2 }" };
        let sets = [&["seeds=[7, 40]"][..], &["training.lr=0.01", skewed], &[sparsity, "seed=40", "training.lr=0.002"]];
        let together = assert_each_as_alone(device, &experiments(&base, &sets), kind);
        assert!(together.iter().all(|whole| whole.rounds.iter().flatten().all(|o| !o.circuits.is_empty())), "{kind}");
        assert!(together.iter().any(|whole| !whole.notes.is_empty()), "{kind}: nobody was told of anything");
        if kind == "cpu" {
            for set in ["device.max_wave=4", "device.max_wave=1"] {
                assert_each_as_alone(device, &experiments(&[&base[..], &[set]].concat(), &sets), set);
            }
        }
    });
}

/// The other optimiser, with momentum and without; rounds in which circuits of one experiment alone are looked for; and
/// clients that drop out.
#[test]
fn experiments_with_little_in_common_share_waves() {
    on_each_device(|device| {
        for momentum in ["0", "0.9"] {
            let momentum = format!("training.momentum={momentum}");
            let of = |i: usize, lr: &str| linear(&[&momentum, lr, &format!("name=\"e{i}\""), "rounds=1"]);
            assert_each_as_alone(device, &[of(0, "training.lr=0.02"), of(1, "training.lr=0.3")], &momentum);
        }
    });
    let device = Cpu::new(Some(2)).unwrap();
    let one = "partition={ kind = \"by_class\", classes = [[0, 1], [3]] }";
    let other = "partition={ kind = \"by_class\", classes = [[4, 5], [6]] }";
    let base = ["circuits.steps=3", "cohort.dropout_rate=0.6", "rounds=4", "seeds=[2, 3]", "training.local_epochs=1"];
    let together = assert_each_as_alone(&device, &experiments(&base, &[&[one], &[other]]), "classes");
    let found = |whole: &Whole| whole.rounds.iter().flatten().any(|o| !o.circuits.is_empty());
    assert!(found(&together[0]) && !found(&together[1]));
    assert!(together[1].notes.iter().any(|note| note.contains("none of its circuits is looked for")));
}

/// From their states after a round, whether these came from one process or from each alone.
#[test]
fn experiments_go_on_together_and_alone() {
    let device = Cpu::new(Some(2)).unwrap();
    let base = [CONTROLS, "circuits.steps=3", "training.local_epochs=1", "rounds=3"];
    let experiments = experiments(&base, &[&["seeds=[7, 40]"], &["training.lr=0.01"]]);
    let all: Vec<&Experiment> = experiments.iter().collect();
    let want = whole(&device, &all, None);
    let assert_rest = |got: &Whole, want: &Whole, what: &str| {
        got.rounds.iter().zip(&want.rounds[1..]).for_each(|(got, want)| assert_same(got, want, what));
        assert!(got.states == want.states[1..] && got.rounds.len() == 2, "{what}");
    };
    let after_one = |i: usize| &want[i].states[0];
    for (got, want) in whole(&device, &all, Some(&[after_one(0), after_one(1)])).iter().zip(&want) {
        assert_rest(got, want, "together");
    }
    let alone = whole(&device, &all[1..], Some(&[after_one(1)]));
    assert_rest(&alone[0], &want[1], "alone");
    let mut federation = Federation::together(&device, &all, &data(all[0])).unwrap();
    for wrong in [&[after_one(0)][..], &[after_one(0), &want[1].states[1]], &[after_one(1), after_one(0)]] {
        assert_eq!(federation.restore_all(wrong).unwrap_err().exit_code(), 2);
    }
}

/// The training without federation is on as many examples as the seed's own largest client has.
#[test]
fn centralised_training_of_a_seed_does_not_depend_on_other_seeds() {
    let device = Cpu::new(Some(2)).unwrap();
    let base = ["partition.alpha=0.2", "circuits.controls={ centralised = true }", "circuits.steps=3", "rounds=1"];
    let with = |seeds: &str| small(&[&base[..], &[seeds]].concat());
    let together = run_seeds(&device, &with("seeds=[7, 40]")).unwrap();
    for (seed, got) in [7, 40].into_iter().zip(together) {
        let want = run_seeds(&device, &with(&format!("seed={seed}"))).unwrap().remove(0);
        let text = |outcomes: &[Outcome]| format!("{:?}", outcomes.iter().map(|o| &o.controls).collect::<Vec<_>>());
        assert_eq!(text(&got), text(&want), "seed {seed}");
    }
}

/// What an experiment says that it read is what the device counted.
#[test]
fn an_experiment_alone_reads_what_it_says() {
    let device = Cpu::new(Some(2)).unwrap();
    let experiment = small(&["seeds=[7, 8]", CONTROLS, "circuits.steps=2"]);
    let mut federation = Federation::new(&device, &experiment, &data(&experiment)).unwrap();
    for _ in 0..experiment.rounds {
        let before = device.traffic().bytes_read_back;
        let outcomes = federation.round().unwrap();
        let counted = device.traffic().bytes_read_back - before;
        assert!(outcomes.iter().all(|o| o.record.bytes_read_back == counted), "{counted}");
        assert!(outcomes.iter().all(|o| o.record.seconds != Seconds::default()));
    }
}

#[test]
fn faults_name_the_experiment() {
    let device = Cpu::new(Some(2)).unwrap();
    let of = |set: &[&str]| linear(&[&["training.momentum=0", "seeds=[5, 6]"], set].concat());
    let (fine, mut wild) = (of(&["name=\"fine\""]), of(&["name=\"wild\""]));
    wild.training.lr = 1e38;
    let dataset = data(&fine);
    let mut federation = Federation::together(&device, &[&fine, &wild], &dataset).unwrap();
    let Error::Diverged { place, lr, .. } = federation.round().unwrap_err() else { panic!("another error") };
    assert_eq!((place.as_str(), lr), ("in wild, with seed 5, at client 0, step 2", 1e38));
    let longer = of(&["name=\"longer\"", "rounds=3"]);
    let error = Federation::together(&device, &[&fine, &longer], &dataset).err().unwrap();
    assert!(error.exit_code() == 2 && error.to_string().contains("longer: cannot share waves with fine"), "{error}");
}
