//! Rounds in which only some clients take part.

use std::collections::BTreeSet;

use fedcircuit::Error;
use fedcircuit::config::Experiment;
use fedcircuit::device::{Cpu, Device};
use fedcircuit::experiment::{Federation, Outcome};
use fedcircuit::model::initial_weights;
use fedcircuit::report::Comparison;

use crate::small::{assert_same, data, linear, on_each_device, run, run_seeds, small};

/// Draws, drop-outs and partial work at once.
const COHORT: &str =
    "cohort={ fraction_train = 0.5, sampling = \"weighted\", dropout_rate = 0.3, partial_epochs = 0.5 }";
const EIGHT: &str = "partition={ kind = \"dirichlet\", num_clients = 8, alpha = 0.8, min_partition_size = 5 }";
const QUICK: &str = "circuits={ classes = [0, 7], steps = 4, measures = { removals = 0, curve = [], images = 5 } }";

/// The experiment alone and with each key set gives the same bits.
fn assert_invariant(device: &dyn Device, base: &[&str], sets: &[&str]) -> Vec<Outcome> {
    let want = run(device, &small(base)).unwrap();
    for set in sets {
        let got = run(device, &small(&[base, &[set]].concat())).unwrap();
        assert_same(&got, &want, &format!("{}, {set}", device.info().kind));
    }
    want
}

#[test]
fn wave_size_and_memory_do_not_change_a_bit_of_a_cohort() {
    on_each_device(|device| {
        let base = [EIGHT, COHORT, QUICK, "rounds=3"];
        let rounds = assert_invariant(device, &base, &["device.max_wave=1", "device.max_wave=3", "device.memory=3MiB"]);
        let clients = |o: &Outcome| o.record.clients.iter().map(|c| c.client).collect::<Vec<_>>();
        assert!(rounds.iter().all(|o| clients(o).len() + o.record.dropped.len() == 4 && o.record.readbacks == 1));
        assert!(rounds.windows(2).any(|two| clients(&two[0]) != clients(&two[1])), "a new draw in each round");
        let bootstrap =
            "partition={ kind = \"bootstrap\", num_clients = 1000000, examples_per_client = 40, alpha = 0.3 }";
        let base = [bootstrap, "cohort.clients_per_round=5", QUICK, "rounds=2"];
        assert_invariant(device, &base, &["device.max_wave=2"]);
    });
}

#[test]
fn everyone_named_is_everyone_unnamed() {
    let cpu = Cpu::new(Some(2)).unwrap();
    assert_invariant(&cpu, &[QUICK], &["cohort.clients_per_round=5", "cohort.fraction_train=1"]);
}

/// Among the rounds are some in which a seed has no clients and the other has.
#[test]
fn a_seed_among_others_draws_the_cohort_it_draws_alone() {
    on_each_device(|device| {
        let cohort = "cohort={ clients_per_round = 2, dropout_rate = 0.5, partial_epochs = 0.5 }";
        let together = small(&[EIGHT, cohort, QUICK, "seeds=[7, 41]", "rounds=4"]);
        let seeds = run_seeds(device, &together).unwrap();
        for (seed, got) in together.seeds.all().iter().zip(&seeds) {
            let read = |outcomes: &[Outcome]| {
                let mut outcomes = outcomes.to_vec();
                outcomes.iter_mut().for_each(|o| (o.record.readbacks, o.record.bytes_read_back) = (0, 0));
                outcomes
            };
            let alone = run(device, &together.with_seed(*seed)).unwrap();
            assert_same(&read(got), &read(&alone), &format!("{}, seed {seed}", device.info().kind));
        }
        let nobody = |round: usize| seeds.iter().filter(|s| s[round].record.clients.is_empty()).count();
        assert!((0..4).any(|round| nobody(round) == 1), "a round that one seed has alone");
    });
}

#[test]
fn without_an_update_the_global_model_stays_and_it_is_said() {
    on_each_device(|device| {
        let analyses = "circuits.analyses=[\"centroids\", \"patching\"]";
        let mut experiment = small(&["cohort.dropout_rate=0.999999999", QUICK, analyses]);
        experiment.cohort.fraction_train = Some(0.6);
        let mut federation = Federation::new(device, &experiment, &data(&experiment)).unwrap();
        let first = initial_weights(federation.layout(), experiment.seeds.first());
        federation.take_notes();
        for round in 1..=2 {
            let outcome = federation.round().unwrap().remove(0);
            assert!(outcome.weights.unwrap() == first && outcome.client_weights.is_empty());
            assert!(outcome.circuits.is_empty() && outcome.overlaps.is_empty() && outcome.record.clients.is_empty());
            assert_eq!((outcome.record.dropped.len(), outcome.record.readbacks), (3, 1));
            assert!(outcome.record.sparsity.iter().all(|(_, share)| share.is_nan()));
            assert!(outcome.record.global.loss.is_finite());
            let notes = federation.take_notes();
            let lost = format!("round {round}: all 3 drawn clients dropped out, so the global model stays as it was");
            assert_eq!(notes[0], lost);
            assert!(notes[1].starts_with(&format!("round {round}: no client that circuits are looked for in")));
        }
        let analysed = federation.analyse(&Default::default()).unwrap().remove(0);
        let [centroids, patching] = [0, 1].map(|i| analysed[i].findings.as_ref().unwrap_err());
        assert!(!centroids.is_empty() && patching.starts_with("no client took part in the last round"), "{patching}");
    });
}

/// Circuits are of clients that take part and are chosen; stability is between two rounds that follow each other.
#[test]
fn circuits_follow_the_clients_that_take_part() {
    let cpu = Cpu::new(Some(2)).unwrap();
    let chosen = [0, 2, 3, 5, 6, 7];
    let set = "circuits={ classes = [0, 7], clients = [0, 2, 3, 5, 6, 7], steps = 2, measures = { removals = 0, curve = [] } }";
    let rounds = run(&cpu, &small(&[EIGHT, "cohort.clients_per_round=3", set, "rounds=8"])).unwrap();
    let mut before: BTreeSet<(usize, u32)> = BTreeSet::new();
    let (mut stable, mut fresh, mut silent) = (0, 0, 0);
    for outcome in &rounds {
        let there: Vec<usize> = outcome.record.clients.iter().map(|c| c.client).collect();
        assert_eq!(there.len(), 3);
        let pairs: BTreeSet<_> = outcome.circuits.iter().map(|c| (c.client, c.class)).collect();
        assert!(pairs.iter().all(|(client, _)| there.contains(client) && chosen.contains(client)));
        let rows = |comparison| -> BTreeSet<_> {
            let rows = outcome.overlaps.iter().filter(|o| o.comparison == comparison);
            rows.map(|o| ((o.client_a, o.class_a), (o.client_b, o.class_b))).collect()
        };
        let both: BTreeSet<_> = pairs.intersection(&before).map(|pair| (*pair, *pair)).collect();
        assert_eq!(rows(Comparison::StabilityLocal), both);
        assert_eq!(rows(Comparison::StabilityGlobal), both);
        assert_eq!(rows(Comparison::LocalGlobal), pairs.iter().map(|pair| (*pair, *pair)).collect());
        (stable, fresh) = (stable + both.len(), fresh + pairs.len() - both.len());
        silent += usize::from(pairs.is_empty());
        before = pairs;
    }
    assert!(stable > 0 && fresh > 0 && silent == 0, "{stable} seen before, {fresh} fresh: nothing is tested");
}

/// After a round in which none of the chosen clients took part, nothing is compared across it.
#[test]
fn a_round_without_circuits_breaks_the_chain_and_is_told_once() {
    let cpu = Cpu::new(Some(2)).unwrap();
    let set = "circuits={ classes = [0, 7], clients = [3], steps = 2, measures = { removals = 0, curve = [] } }";
    let experiment = small(&[EIGHT, "cohort.clients_per_round=4", set, "rounds=12"]);
    let mut federation = Federation::new(&cpu, &experiment, &data(&experiment)).unwrap();
    let (mut there, mut told) = (vec![false], 0);
    for round in 1..=experiment.rounds {
        let outcome = federation.round().unwrap().remove(0);
        there.push(outcome.record.clients.iter().any(|c| c.client == 3));
        assert_eq!(!outcome.circuits.is_empty(), there[round]);
        let stability = outcome.overlaps.iter().any(|o| o.comparison == Comparison::StabilityLocal);
        assert_eq!(stability, there[round] && there[round - 1], "round {round}");
        told += federation.take_notes().iter().filter(|note| note.contains("takes part")).count();
    }
    let again = |window: &[bool]| window == [true, false, true];
    assert!(there.windows(3).any(again), "{there:?} tests little");
    assert_eq!(told, 1 + usize::from(!there[experiment.rounds]), "the first time, and in the last round");
}

#[test]
fn divergence_names_a_client_of_the_cohort() {
    on_each_device(|device| {
        let bootstrap = "partition={ kind = \"bootstrap\", num_clients = 1000, examples_per_client = 40 }";
        let mut experiment = linear(&["training.momentum=0", bootstrap, "cohort.clients_per_round=3"]);
        let healthy = run(device, &experiment).unwrap();
        experiment.training.lr = 1e38;
        let error = run(device, &experiment).unwrap_err();
        let Error::Diverged { round: 1, place, .. } = error else { panic!("{error}") };
        let first = healthy[0].record.clients[0].client;
        assert_eq!(place, format!("at client {first}, step 2"));
    });
}

/// The progress bar of each round is of those who take part in it.
#[test]
fn the_cost_is_that_of_the_cohort() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let experiment: Experiment = small(&[EIGHT, COHORT, QUICK, "rounds=4"]);
    let mut federation = Federation::new(&cpu, &experiment, &data(&experiment)).unwrap();
    for _ in 0..4 {
        let (cost, mut told) = (federation.cost(), 0);
        federation.round_with(&Default::default(), &mut |steps| told += steps).unwrap();
        assert_eq!(told, cost);
    }
}

/// What is told before a run is what its waves are cut by: all steps of a client, all clients, though most of them will drop
/// out, and beside the wave the images of both sets, the global model and its running sums.
#[test]
fn a_plan_is_of_all_steps_clients_images_and_models() {
    let cpu = Cpu::new(Some(1)).unwrap();
    let plan = |set: &[&str]| {
        // Ten thousand steps, whose examples and losses take more than a model of 7,850 weights.
        let clients = "partition={ kind = \"iid\", num_clients = 12 }";
        let base = [clients, "training.batch_size=1", "training.local_epochs=500", "device.memory=2MiB"];
        let experiment = linear(&[&base, set].concat());
        Federation::new(&cpu, &experiment, &data(&experiment)).unwrap().plan()
    };
    let all = plan(&[]);
    assert!(all.client_bytes > 4 * (10_000 * (4 + 2) + 3 * 7850), "{all:?}");
    assert_eq!((all.clients, all.wave_size as u64), (12, all.budget / all.client_bytes), "{all:?}");
    assert_eq!(plan(&["cohort.dropout_rate=0.9"]), all);
    let fewer = plan(&["data.test_examples=60"]);
    assert!(all.images - fewer.images >= 60 * 784 && all.models >= 2 * 4 * 7850, "{all:?}, {fewer:?}");
}
